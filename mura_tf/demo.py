"""The whole line on the synthetic data set."""

import os
from pathlib import Path

from mura_tf.dataset import load_mura
from mura_tf.grid import plan_runs, run_plan
from mura_tf.recipe import Recipe
from mura_tf.run import Run
from mura_tf.synthetic import FOLDER, write_synthetic_mura

STUDIES_PER_TYPE = 100
MEMBERS = 2
RECIPE = Recipe(
    backbone="small_cnn",
    weights=None,
    preprocessing="native",
    batch_size=16,
    learning_rate=2e-3,
    plateau_patience=2,
    max_epochs=12,
)


def run_demo(out: str | os.PathLike) -> list[Run]:
    """Writes `out/MURA-v1.1` and trains `out/runs`; what is there already is kept.

    It is what `mura-tf synthesize` and `mura-tf train` do, with a small network: one model on all
    study types, then an ensemble per type from it.
    """
    out = Path(out)
    root = out / FOLDER
    if not root.exists():
        root = write_synthetic_mura(out, STUDIES_PER_TYPE, seed=0)
    views = load_mura(root)
    plan = plan_runs(RECIPE, out / "runs", sorted(views.study_type.unique()), members=MEMBERS)
    return run_plan(plan, views, cache_dir=out / "cache")
