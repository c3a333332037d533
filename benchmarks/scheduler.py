"""What the scheduler adds to the sum of its runs' own times, one run at a time on this machine.

    python benchmarks/scheduler.py

Trains a small real plan (synthetic radiographs, small_cnn, one whole-data run and one per study
type) and compares the wall time of `run_plan` with the sum of its processes' times.
"""

import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from mura_tf import Recipe, load_views, write_synthetic_mura
from mura_tf.grid import engines
from mura_tf.grid.plan import plan_runs, run_plan
from mura_tf.grid.worker import train_in_process

RECIPE = Recipe(
    backbone="small_cnn", weights=None, image_size=64, batch_size=16, patience=50, max_epochs=40
)


def main() -> None:
    own_times = []

    def timed(*arguments: Any) -> None:
        started = time.perf_counter()
        train_in_process(*arguments)
        own_times.append(time.perf_counter() - started)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(engines, "train_in_process", timed),
    ):
        out = Path(folder) / "runs"
        views = load_views(write_synthetic_mura(folder, studies_per_type=40))
        plan = plan_runs(RECIPE, out, sorted(views.study_type.unique()), members=1)
        started = time.perf_counter()
        failed = run_plan(plan, views, out, cache_dir=Path(folder) / "cache")
        wall = time.perf_counter() - started
    assert not failed, failed
    added = wall / sum(own_times) - 1
    print(f"{len(plan)} runs of {sum(own_times):.1f} s in {wall:.1f} s: {added:.1%} added")


if __name__ == "__main__":
    main()
