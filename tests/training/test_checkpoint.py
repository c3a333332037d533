"""What an epoch leaves: exact resume, the paper's schedule over a restart, a disk that is full."""

import dataclasses
import errno
import json
import multiprocessing
import os
import signal

import keras
import numpy as np
import pytest
from trainings import (
    FILES,
    RECIPE,
    SHORT,
    STEPS,
    TWO_EPOCHS,
    assert_same,
    at_file,
    files,
    interrupted,
    train_in_another_process,
    train_in_this_process,
)

from mura_tf.data.views import load_mura
from mura_tf.terminal import Notice
from mura_tf.training.checkpoint import Checkpoint
from mura_tf.training.facts import write_facts
from mura_tf.training.run import Run
from mura_tf.training.train import train

# ------------------------------------------------------------------------------------------------
# Exact resume


def test_the_reference_follows_its_schedules(reference):
    """Whatever it has learnt, which hangs on the processor."""
    history = reference.history
    assert 4 <= len(history) <= RECIPE.max_epochs
    assert history.epoch.tolist() == list(range(1, len(history) + 1))
    assert reference.info["best_epoch"] == history.val_kappa.idxmax() + 1
    last = min(reference.info["best_epoch"] + RECIPE.patience + 1, RECIPE.max_epochs)
    assert len(history) == last
    rates, lowest = [RECIPE.learning_rate], np.inf
    for loss in history.loss[:-1]:  # a tenth after each epoch whose loss is not lower
        rates.append(rates[-1] * (1 if loss < lowest - 1e-4 else 0.1))
        lowest = loss if loss < lowest - 1e-4 else lowest
    np.testing.assert_allclose(history.learning_rate, rates, rtol=1e-6)
    assert files(reference.path) == FILES


FEW_MOMENTS = [
    ("step", STEPS + 2),
    ("resume.npz", 2, "half"),
]
MOMENTS = [
    ("recipe.json", 1, "after"),
    ("run.json", 1, "half"),
    ("step", 1),
    ("step", STEPS),
    ("step", 3 * STEPS + 1),
    ("resume.npz", 1, "before"),
    ("resume.npz", 3, "after"),
    ("history.csv", 1, "half"),
    ("history.csv", 2, "after"),
    ("best.keras", 1, "half"),
    ("best.keras", 1, "after"),
    ("predictions.csv", 1, "half"),
    ("predictions.csv", 1, "after"),
    ("run.json", 2, "half"),
    ("run.json", 2, "after"),
]


@pytest.mark.parametrize(
    "moment", FEW_MOMENTS + [pytest.param(one, marks=pytest.mark.slow) for one in MOMENTS], ids=str
)
def test_a_killed_run_ends_as_if_nothing_had_happened(views, reference, tmp_path, moment):
    assert train_in_another_process(views, tmp_path, moment) == -signal.SIGKILL
    assert_same(train(RECIPE, views, tmp_path, verbose=0), reference)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_in_another_process(views, reference, tmp_path):
    for moment in [
        ("step", 3),
        ("resume.npz", 1, "after"),
        ("step", STEPS + 3),
        ("history.csv", 1, "half"),
        ("best.keras", 1, "half"),
        ("run.json", 2, "before"),
    ]:
        assert train_in_another_process(views, tmp_path, moment) == -signal.SIGKILL
    assert train_in_another_process(views, tmp_path) == 0
    assert_same(Run(tmp_path), reference)


def test_a_run_interrupted_again_and_again_ends_as_if_nothing_had_happened(
    views, reference, tmp_path
):
    done = []
    for step in (STEPS, STEPS + 1, 2 * STEPS - 1, STEPS + 2):
        interrupted(views, tmp_path, ("step", step))
        checkpoint = tmp_path / "resume.npz"
        done.append(len(Run(tmp_path).history) if checkpoint.exists() else 0)
        assert not Run(tmp_path).finished
    assert done == [0, 1, 2, 3]
    assert_same(train(RECIPE, views, tmp_path, verbose=0), reference)


def test_a_run_of_float16_goes_on_exactly(mura, tmp_path, folder, eagerly):
    views, recipe = load_mura(mura), dataclasses.replace(TWO_EPOCHS, mixed_precision=True)
    whole = train(recipe, views, tmp_path / "whole", verbose=0)
    interrupted(views, folder, ("step", 6), recipe)
    assert_same(train(recipe, views, folder, verbose=0), whole)
    model = whole.model()
    assert model.get_layer("stage1_conv").compute_dtype == "float16"
    assert model.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
def test_two_processes_on_one_folder_train_it_once(views, reference, tmp_path):
    start = multiprocessing.get_context("spawn").Process
    both = [start(target=train_in_this_process, args=(views, tmp_path)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert_same(Run(tmp_path), reference)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("step:0.5:2", [1, 1, 0.5, 0.5, 0.25]), ("constant", [1, 1, 1, 1, 1])],
)
def test_a_schedule_survives_a_restart(mura, tmp_path, folder, eagerly, schedule, rates):
    recipe = dataclasses.replace(
        SHORT, schedule=schedule, optimizer="sgd:0.9", weight_decay=0.01, max_epochs=5, patience=9
    )
    whole = train(recipe, load_mura(mura), tmp_path / "whole", verbose=0)
    np.testing.assert_allclose(whole.history.learning_rate / recipe.learning_rate, rates, rtol=1e-6)
    interrupted(load_mura(mura), folder, ("history.csv", 1, "after"), recipe)
    interrupted(load_mura(mura), folder, ("history.csv", 1, "after"), recipe)
    assert_same(train(recipe, load_mura(mura), folder, verbose=0), whole)


# ------------------------------------------------------------------------------------------------
# The paper's schedule

KAPPAS = [0.1, 0.6, 0.4, 0.6, 0.3, 0.2, 0.5, 0.4, 0.7, 0.8, 0.9, 0.9]
LOSSES = [1.0, 0.9, 0.95, 0.95, 0.8, 0.85, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3]
SCRIPTED = dataclasses.replace(SHORT, patience=5, schedule="plateau:loss:0.1:2", max_epochs=12)


@pytest.fixture
def scripted(monkeypatch):
    """Gives the epochs KAPPAS and LOSSES; returns the weights at the end of each epoch."""
    weights = {}
    original = keras.callbacks.CallbackList.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        weights[epoch + 1] = self.callbacks[0].model.get_weights()
        logs |= {"val_kappa": KAPPAS[epoch], "loss": LOSSES[epoch]}
        return original(self, epoch, logs)

    monkeypatch.setattr(keras.callbacks.CallbackList, "on_epoch_end", on_epoch_end)
    return weights


def assert_script_followed(run, weights):
    history = run.history
    assert history.val_kappa.tolist() == KAPPAS[:8]  # epochs 3 to 7 are tolerated, the sixth not
    rates = history.learning_rate / SCRIPTED.learning_rate
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01], rtol=1e-6)
    assert run.info["best_epoch"] == 2  # not 4, which has the same kappa
    for saved, best in zip(run.model().get_weights(), weights[2], strict=True):
        np.testing.assert_array_equal(saved, best)


def test_more_than_patience_epochs_without_a_higher_kappa_end_the_run(
    mura, folder, eagerly, scripted
):
    assert_script_followed(train(SCRIPTED, load_mura(mura), folder, verbose=0), scripted)


def test_best_patience_and_learning_rate_survive_a_restart_after_every_epoch(
    mura, folder, eagerly, scripted
):
    for _ in KAPPAS[:8]:
        interrupted(load_mura(mura), folder, ("history.csv", 1, "after"), SCRIPTED)
    assert_script_followed(train(SCRIPTED, load_mura(mura), folder, verbose=0), scripted)


def test_max_epochs_ends_the_run(mura, folder, eagerly, scripted):
    recipe = dataclasses.replace(SCRIPTED, max_epochs=2)
    run = train(recipe, load_mura(mura), folder, verbose=0)
    assert len(run.history) == run.info["best_epoch"] == 2


def test_the_epoch_of_the_lowest_loss_is_chosen(mura, folder, eagerly):
    recipe = dataclasses.replace(SHORT, monitor="val_loss", max_epochs=4)
    run = train(recipe, load_mura(mura), folder, verbose=0)
    assert run.info["best_epoch"] == run.history.val_loss.idxmin() + 1


# ------------------------------------------------------------------------------------------------
# The file of an epoch


def test_a_full_disk_leaves_the_last_good_checkpoint(mura, tmp_path, folder, eagerly):
    def disk_is_full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    views, recipe = load_mura(mura), TWO_EPOCHS
    whole = train(recipe, views, tmp_path / "whole", verbose=0)
    run = Run(folder)
    for name, number, epochs in [
        ("resume.npz", 1, 0),
        ("resume.npz", 2, 1),
        ("history.csv", 1, 2),
        ("best.keras", 1, 2),
        ("predictions.csv", 1, 2),
        ("run.json", 2, 2),
    ]:
        with pytest.MonkeyPatch.context() as patch:
            at_file(patch, name, number, "half", disk_is_full)
            with pytest.raises(OSError, match=r"the disk is full.*make room and repeat") as caught:
                train(recipe, views, run.path, verbose=0)
        assert caught.value.errno == errno.ENOSPC
        assert not run.finished
        assert not list(run.path.glob(".part-*"))
        if epochs:
            with np.load(run.path / "resume.npz") as arrays:
                assert len(json.loads(str(arrays["memory"]))["history"]) == epochs
    assert_same(train(recipe, views, run.path, verbose=0), whole)


def test_a_disk_that_fails_is_no_damaged_checkpoint(tmp_path, monkeypatch):
    def failing(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(np, "load", failing)
    with pytest.raises(OSError, match="Input/output error"):
        Checkpoint(tmp_path)._restore(None)


def test_a_checkpoint_cut_short_is_named_and_nothing_is_lost(mura, folder, eagerly):
    views, recipe = load_mura(mura), TWO_EPOCHS
    interrupted(views, folder, ("history.csv", 1, "after"), recipe)
    checkpoint = folder / "resume.npz"
    for share in (0.99, 0.5, 0):
        os.truncate(checkpoint, int(checkpoint.stat().st_size * share))
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(ValueError, match=r"resume.npz is damaged.*Expected the.*Delete it to"):
            train(recipe, views, folder, verbose=0)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    checkpoint.unlink()
    assert train(recipe, views, folder, verbose=0).finished


def test_a_run_that_goes_on_elsewhere_is_told_and_says_where_it_was(mura, tmp_path):
    views, folder = load_mura(mura), tmp_path / "run"
    interrupted(views, folder, ("history.csv", 1, "after"), TWO_EPOCHS)
    here = json.loads((folder / "run.json").read_text())
    another = {"device": "another", "versions": here["versions"] | {"keras": "3.0"}}
    (folder / "run.json").write_text(json.dumps(here | another))
    with pytest.warns(Notice, match="device another before, .* keras 3.0 before, .* now"):
        run = train(TWO_EPOCHS, views, folder, verbose=0)
    assert run.info["earlier"] == [another] and run.info["device"] == here["device"]
    write_facts([run], tmp_path)
    facts = json.loads((tmp_path / "experiment.json").read_text())
    assert facts["devices"] == sorted(["another", here["device"]])
    assert facts["versions"]["keras"] == sorted(["3.0", here["versions"]["keras"]])

    (folder / "predictions.csv").unlink()
    finished = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(finished | another | {"earlier": []}))
    with pytest.warns(Notice, match="device another before"):
        again = train(TWO_EPOCHS, views, folder, verbose=0)
    assert again.finished and again.info == finished
