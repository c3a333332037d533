"""Training speed of the paper's seven backbones on a GPU, from random weights, on FracAtlas.

    KERAS_BACKEND=jax python benchmarks/gpu.py FRACATLAS
    KERAS_BACKEND=jax python benchmarks/gpu.py FRACATLAS --processes 1 --batch 128

Images/s of the paper's recipe as `make_dataset` feeds it, one run alone and then several at a time
on the same GPU, one backbone after the other. The epoch in which a process compiles does not count;
with $JAX_COMPILATION_CACHE_DIR the first process of a backbone compiles for all. At batch 8 a
process takes 2 to 7 GiB of the GPU's memory.
"""

import argparse
import multiprocessing
import os
import queue
import time
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import keras
import pandas as pd

from mura_tf import Recipe, load_fracatlas, make_dataset
from mura_tf.experiments.tables_v_vi import EXPERIMENT
from mura_tf.grid.engines import SHARED_GPU
from mura_tf.models.backend import accelerator
from mura_tf.training.model import compiled_model
from mura_tf.training.selection import usable_views

SPAWN = multiprocessing.get_context("spawn")


def run(data: str, recipe: Recipe, steps: int, turns: list[Event], said: "Queue[float]") -> None:
    """Trains an epoch of `steps` steps, then one at each turn, and says each one's images/s."""
    views, *_ = usable_views(load_fracatlas(data), recipe, None, skip_bad=True)
    training = views[views.split == "train"]
    whole = min(steps, len(training) // recipe.batch_size) * recipe.batch_size
    batches = make_dataset(
        training.head(whole),
        image_size=recipe.side,
        batch_size=recipe.batch_size,
        training=True,
        preprocessing=recipe.preprocessing_mode,
        augment=recipe.augment,
    )

    class Turns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            self.times: list[float] = []
            if epoch:
                turns[epoch - 1].wait()

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            self.times.append(time.perf_counter())

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            said.put(recipe.batch_size * (len(self.times) - 1) / (self.times[-1] - self.times[0]))

    compiled_model(recipe, (), Path()).fit(
        batches, epochs=1 + len(turns), callbacks=[Turns()], shuffle=False, verbose=0
    )


def heard(said: "Queue[float]", started: list[SpawnProcess]) -> float:
    """What a process says next."""
    while True:
        try:
            return said.get(timeout=1)
        except queue.Empty:
            if any(process.exitcode for process in started):
                raise SystemExit("a run has failed, see above") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--processes", type=int, default=5, help="of each backbone, at a time")
    parser.add_argument("--backbones", default=",".join(EXPERIMENT.backbones))
    arguments = parser.parse_args()
    os.environ.update(SHARED_GPU)
    rows = []
    for backbone in arguments.backbones.split(","):
        recipe = Recipe(backbone, weights=None, batch_size=arguments.batch)
        alone, together, said = SPAWN.Event(), SPAWN.Event(), SPAWN.Queue()
        started: list[SpawnProcess] = []
        for turns in [[alone, together]] + [[together]] * (arguments.processes - 1):
            given = (arguments.data, recipe, arguments.steps, turns, said)
            started.append(SPAWN.Process(target=run, args=given, daemon=True))
            started[-1].start()
            heard(said, started)  # its first epoch: what it has compiled is there for the next
        alone.set()
        speed = heard(said, started)
        together.set()
        speeds = [heard(said, started) for _ in range(arguments.processes)]
        rows.append((backbone, speed, sum(speeds)))
        print(*rows[-1], flush=True)
    columns = ["backbone", "images/s, one run", f"{arguments.processes} at a time"]
    print(accelerator(), keras.config.backend(), "batch", arguments.batch)
    print(pd.DataFrame(rows, columns=columns).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
