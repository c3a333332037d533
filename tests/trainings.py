"""Small trainings: their recipes, what they leave, and how one is ended at a given moment."""

import dataclasses
import multiprocessing
import os
import signal

import pytest

from mura_tf.training import train as training
from mura_tf.training.recipe import Recipe
from mura_tf.training.train import train

STEPS = 5
"""Per epoch of RECIPE on `views`: 40 training views by 8."""

# Random everywhere (dropout, flip, rotation), and with both schedules: the learning rate drops, and
# it ends before max_epochs, where learning stalls. It has four epochs or more.
RECIPE = Recipe(
    backbone="small_cnn",
    weights=None,
    image_size=32,
    augment=("flip", "rotation:20"),
    learning_rate=0.005,
    patience=2,
    max_epochs=20,
    seed=1,
)
SHORT = dataclasses.replace(RECIPE, augment=("flip",), max_epochs=1)
TWO_EPOCHS = dataclasses.replace(SHORT, max_epochs=2, batch_size=2)  # 4 steps each, on `mura`
FILES = {"recipe.json", "run.json", "history.csv", "best.keras", "predictions.csv"}


def files(folder):
    return {path.name for path in folder.glob("*")} - {".lock"}


def assert_same(run, reference):
    assert run.finished
    assert files(run.path) == FILES
    for name in ("recipe.json", "history.csv", "predictions.csv", "best.keras"):
        assert (run.path / name).read_bytes() == (reference.path / name).read_bytes(), name
    assert run.info["best_epoch"] == reference.info["best_epoch"]
    assert len(run.info["seconds_per_epoch"]) == len(reference.history)


def at_step(patch, number, action):
    """Calls `action` at the end of the number-th step of this process' training."""
    original, steps = training._StopOnNonFiniteLoss.on_train_batch_end, []

    def on_train_batch_end(self, batch, logs=None):
        original(self, batch, logs)
        steps.append(batch)
        if len(steps) == number:
            action()

    patch.setattr(training._StopOnNonFiniteLoss, "on_train_batch_end", on_train_batch_end)


def at_file(patch, name, number, when, action):
    """Calls `action` when a file comes to its place for the number-th time in this process.

    `when` is "before" it is renamed, "half", as before but with half of its content written yet, or
    "after".
    """
    original, seen = os.replace, []

    def replace(part, path):
        if os.path.basename(path) != name:
            return original(part, path)
        seen.append(path)
        if len(seen) != number or when == "after":
            original(part, path)
        elif when == "half":
            os.truncate(part, os.path.getsize(part) // 2)
        if len(seen) == number:
            action()

    patch.setattr(os, "replace", replace)


def at(patch, moment, action):
    """`moment`: ("step", number), or (name of a file, number, when)."""
    if moment[0] == "step":
        at_step(patch, moment[1], action)
    else:
        at_file(patch, *moment, action)


def interrupt():
    raise KeyboardInterrupt


def interrupted(views, run_dir, moment, recipe=RECIPE):
    with pytest.MonkeyPatch.context() as patch:
        at(patch, moment, interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, views, run_dir, verbose=0)


def train_in_this_process(views, run_dir, moment=None):
    if moment:
        at(pytest.MonkeyPatch(), moment, lambda: os.kill(os.getpid(), signal.SIGKILL))
    train(RECIPE, views, run_dir, verbose=0)


def train_in_another_process(views, run_dir, moment=None):
    """Returns the exit status: -9 where the process was killed at `moment`."""
    process = multiprocessing.get_context("spawn").Process(
        target=train_in_this_process, args=(views, str(run_dir), moment)
    )
    process.start()
    process.join()
    return process.exitcode
