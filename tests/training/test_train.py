"""Training: exact resume, the stopping rule, and what happens when something is wrong."""

import dataclasses
import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import threading

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from filelock import FileLock
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score

from mura_tf.data.cache import BadViewsError
from mura_tf.data.pipeline import input_statistics
from mura_tf.data.tasks import targets_of
from mura_tf.data.views import load_mura
from mura_tf.models.build import build_model
from mura_tf.training import train as training
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run
from mura_tf.training.train import NonFiniteLossError, train

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run")

STEPS = 5
"""Per epoch of RECIPE on `views`: 40 training views by 8."""

# Random everywhere (dropout, flip, rotation), and both of its schedules happen: the learning rate
# drops, and it ends before max_epochs, after four epochs or more.
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


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """40 training and 16 validation views of two study types; a bright square is the lesion."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, patients in (("train", 15), ("valid", 6)):
        for study_type in ("ELBOW", "WRIST"):
            for patient in range(patients):
                label = patient % 2
                folder = root / f"{split}/XR_{study_type}/{split}{patient:05d}"
                folder /= f"study1_{('negative', 'positive')[label]}"
                folder.mkdir(parents=True)
                for view in range(1 if patient % 3 else 2):
                    image = rng.integers(0, 120, (40, 48), np.uint8)
                    if label and rng.random() < 0.7:
                        image[10:20, 10:20] += 100
                    cv2.imwrite(str(folder / f"image{view + 1}.png"), image)
    return load_mura(root)


@pytest.fixture(scope="module")
def reference(views, tmp_path_factory):
    """The run that nothing interrupts."""
    return train(RECIPE, views, tmp_path_factory.mktemp("reference") / "run", verbose=0)


@pytest.fixture
def folder(tmp_path):
    """Of a run that is to be trained."""
    return tmp_path / "run"


def files(folder):
    return {path.name for path in folder.glob("*")} - {".lock"}


def assert_same(run, reference):
    assert run.finished
    assert files(run.path) == FILES
    for name in ("recipe.json", "history.csv", "predictions.csv"):
        assert (run.path / name).read_bytes() == (reference.path / name).read_bytes(), name
    assert run.info["best_epoch"] == reference.info["best_epoch"]
    assert len(run.info["seconds_per_epoch"]) == len(reference.history)
    best, expected = run.model().get_weights(), reference.model().get_weights()
    assert all(np.array_equal(*pair) for pair in zip(best, expected, strict=True))


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


def _train_in_this_process(views, run_dir, moment):
    if moment:
        at(pytest.MonkeyPatch(), moment, lambda: os.kill(os.getpid(), signal.SIGKILL))
    train(RECIPE, views, run_dir, verbose=0)


def train_in_another_process(views, run_dir, moment=None):
    """Returns the exit status: -9 where the process was killed at `moment`."""
    process = multiprocessing.get_context("spawn").Process(
        target=_train_in_this_process, args=(views, str(run_dir), moment)
    )
    process.start()
    process.join()
    return process.exitcode


# ------------------------------------------------------------------------------------------------
# Exact resume


def test_the_reference_drops_the_learning_rate_and_stops_early(reference):
    history = reference.history
    assert 4 <= len(history) < RECIPE.max_epochs
    assert history.epoch.tolist() == list(range(1, len(history) + 1))
    assert history.learning_rate.iloc[-1] < history.learning_rate.iloc[0]
    assert reference.info["best_epoch"] == history.val_kappa.idxmax() + 1
    assert reference.info["best_epoch"] == len(history) - RECIPE.patience - 1
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
    both = [start(target=_train_in_this_process, args=(views, tmp_path, None)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert_same(Run(tmp_path), reference)


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


# ------------------------------------------------------------------------------------------------
# What goes wrong on the way


def test_nan_loss_stops_the_run_and_keeps_the_epochs_before(
    mura, tmp_path, folder, eagerly, monkeypatch
):
    views, recipe = load_mura(mura), TWO_EPOCHS
    whole = train(recipe, views, tmp_path / "whole", verbose=0)
    interrupted(views, folder, ("step", 5), recipe)
    before = (folder / "resume.npz").read_bytes()

    def weight_of_step(step, batch):
        return *batch[:2], tf.where(step == 2, np.nan, batch[2])

    def make_dataset(*args, training, **settings):
        batches = original(*args, training=training, **settings)
        return batches.enumerate().map(weight_of_step) if training else batches

    original = training.make_dataset
    monkeypatch.setattr(training, "make_dataset", make_dataset)
    with pytest.raises(NonFiniteLossError, match="loss became nan at step 3 of epoch 2; expected"):
        train(recipe, views, folder, verbose=0)
    run = Run(folder)
    assert not run.finished
    assert len(run.history) == 1
    assert (run.path / "resume.npz").read_bytes() == before
    monkeypatch.undo()
    assert_same(train(recipe, views, run.path, verbose=0), whole)


def test_nan_of_the_last_step_is_not_kept(mura, folder, eagerly):
    recipe = dataclasses.replace(SHORT, learning_rate=1e30)  # one step, whose loss is finite yet
    with pytest.raises(NonFiniteLossError, match="validation loss became nan at the end of epoch"):
        train(recipe, load_mura(mura), folder, verbose=0)
    assert files(folder) == {"recipe.json", "run.json"}
    assert not Run(folder).finished


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


# ------------------------------------------------------------------------------------------------
# The run folder


def test_run_json_says_what_was_run(reference, views):
    info = reference.info
    assert info["recipe_hash"] == RECIPE.hash == reference.recipe.hash
    assert info["versions"]["keras"] == keras.__version__
    assert info["versions"]["tensorflow"].split("-")[0] == tf.__version__
    assert set(info["versions"]) == {"mura_tf", "keras", "tensorflow", "numpy", "python"}
    assert info["backend"] == "tensorflow"
    assert info["device"]
    assert info["seed"] == RECIPE.run_seed
    assert re.fullmatch("[0-9a-f]{16}", info["data_fingerprint"])
    assert info["views"] == {"train": 40, "valid": 16}
    assert info["skipped"] == 0
    training = views[views.split == "train"]
    assert info["inputs"] == input_statistics(training, image_size=32, preprocessing="caffe")
    assert info["seconds"] == pytest.approx(sum(info["seconds_per_epoch"]), abs=0.1)


def test_predictions_are_the_best_models_in_the_order_of_the_views(reference, views):
    table = reference.predictions
    valid = views[views.split == "valid"].reset_index(drop=True)
    assert table.path.tolist() == valid.path.tolist()
    assert table.label.tolist() == valid.label.tolist()
    facts = table[["backbone", "stage", "repeat", "member"]].drop_duplicates()
    assert facts.to_numpy().tolist() == [["small_cnn", "imagenet", 0, 0]]
    settings = {"image_size": 32, "preprocessing": "caffe", "batch_size": 32}
    probability = reference.model().predict(training.make_dataset(valid, **settings), verbose=0)
    assert table.probability.tolist() == probability[:, 0].tolist()
    kappa = training.CohenKappa()(table.label, table.probability)
    assert float(kappa) == pytest.approx(reference.history.val_kappa.max())


def test_a_finished_run_is_not_touched(reference, views, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in reference.path.iterdir()}
    monkeypatch.setattr(keras.Model, "fit", None)
    monkeypatch.setattr(training, "build_model", None)
    assert train(RECIPE, views, reference.path).path == reference.path
    del before[".lock"]
    for name, changed in before.items():
        assert (reference.path / name).stat().st_mtime_ns == changed


def test_a_moved_run_is_read_and_still_finished(reference, views, tmp_path, monkeypatch):
    shutil.copytree(reference.path, tmp_path / "there")
    monkeypatch.setattr(keras.Model, "fit", None)
    run = train(RECIPE, views, tmp_path / "there")
    assert_same(run, reference)
    assert run.predictions.equals(reference.predictions)


def test_lost_predictions_are_predicted_again(reference, views, tmp_path, monkeypatch):
    shutil.copytree(reference.path, tmp_path / "there")
    (tmp_path / "there/predictions.csv").unlink()
    monkeypatch.setattr(keras.Model, "fit", None)
    run = train(RECIPE, views, tmp_path / "there")
    assert run.finished
    assert_same(run, reference)
    assert run.info == reference.info


def test_lost_predictions_of_a_lost_model_are_trained_again(mura, folder, eagerly):
    views = load_mura(mura)
    train(SHORT, views, folder, verbose=0)
    (folder / "best.keras").unlink()
    assert train(SHORT, views, folder, verbose=0).finished  # scores need no model
    (folder / "predictions.csv").unlink()
    run = train(SHORT, views, folder, verbose=0)
    assert run.finished and files(folder) == FILES


def test_what_a_killed_process_had_begun_to_write_is_removed(reference, views):
    (reference.path / ".part-x1.npz").write_bytes(b"half")
    train(RECIPE, views, reference.path)
    assert files(reference.path) == FILES


def test_a_second_process_waits_for_the_first(reference, views):
    second = threading.Thread(target=train, args=(RECIPE, views, reference.path), daemon=True)
    with FileLock(reference.path / ".lock"):
        second.start()
        second.join(0.5)
        assert second.is_alive()
    second.join(30)
    assert not second.is_alive()


def test_another_recipe_is_named_by_its_settings(reference, views):
    recipe = dataclasses.replace(RECIPE, batch_size=16, l2=0.1)
    sentence = "l2 is 0.0, asked for 0.1; batch_size is 8, asked for 16. Use another folder"
    with pytest.raises(ValueError, match=sentence):
        train(recipe, views, reference.path)


def test_other_data_are_noticed(reference, views):
    fewer = views.drop(index=views.index[0])
    with pytest.raises(ValueError, match=r"fingerprint [0-9a-f]{16}. Received one with"):
        train(RECIPE, fewer, reference.path)


def test_a_mistake_in_the_recipe_can_be_mended_in_the_same_folder(mura, folder, eagerly):
    views = load_mura(mura)
    for mistake in ({"study_types": ("knee",)}, {"initial": "nowhere.keras"}):
        with pytest.raises((ValueError, FileNotFoundError)):
            train(dataclasses.replace(SHORT, **mistake), views, folder)
        assert files(folder) == set()
    assert train(SHORT, views, folder, verbose=0).finished


# ------------------------------------------------------------------------------------------------
# The views


def test_bad_files_stop_the_run_before_it_starts(mura, tmp_path):
    bad = mura / "train/XR_ELBOW/patient00001/study1_positive/image2.png"
    bad.write_bytes(b"once upon a time")
    with pytest.raises(BadViewsError, match=r"1 files cannot be used.*\n.*not a PNG or JPEG"):
        train(SHORT, load_mura(mura), tmp_path / "run")
    assert files(tmp_path / "run") == set()


def test_skip_bad_lists_them_and_goes_on(mura, tmp_path, eagerly):
    bad = mura / "train/XR_ELBOW/patient00001/study1_positive/image2.png"
    bad.write_bytes(b"once upon a time")
    run = train(SHORT, load_mura(mura), tmp_path / "run", skip_bad=True, verbose=0)
    assert run.finished
    assert run.info["skipped"] == 1
    assert run.info["views"] == {"train": 6, "valid": 4}
    assert files(run.path) == FILES | {"skipped.csv"}
    listed = (run.path / "skipped.csv").read_text().splitlines()
    assert listed[0] == "path,reason"
    assert len(listed) == 2
    assert listed[1].startswith(f"{bad},")
    assert train(SHORT, load_mura(mura), run.path, skip_bad=True).finished


def test_holdout_is_a_part_of_the_patients_that_is_not_trained_on(
    views, tmp_path, eagerly, monkeypatch
):
    made = []

    def make_dataset(views, **settings):
        made.append((set(views.path), set(views.patient), settings["training"]))
        return original(views, **settings)

    original = training.make_dataset
    monkeypatch.setattr(training, "make_dataset", make_dataset)
    tested = views.assign(split=views.split.where(views.index % 2 == 0, views.split + "!"))
    tested["split"] = tested.split.replace({"valid!": "test", "train!": "train"})
    recipe = dataclasses.replace(SHORT, select_on="holdout")
    run = train(recipe, tested, tmp_path, verbose=0)
    (trained, patients, shuffled), (held_out, other_patients, _) = made
    assert shuffled
    assert held_out
    assert not patients & other_patients
    assert trained | held_out == set(views[views.split == "train"].path)
    assert set(run.predictions.split) == {"valid", "test"}
    assert len(run.predictions) == (views.split == "valid").sum()


def test_only_the_recipes_study_types_are_trained_and_predicted(views, tmp_path, eagerly):
    recipe = dataclasses.replace(SHORT, study_types=("wrist",), balance="none")
    run = train(recipe, views, tmp_path, verbose=0)
    assert set(run.predictions.study_type) == {"wrist"}
    assert run.info["views"] == {"train": 20, "valid": 8}


@pytest.mark.parametrize(
    ("settings", "change", "sentence"),
    [
        (
            {"study_types": ("knee", "wrist")},
            lambda views: views,
            "must be among those of the data set: elbow, wrist. Received: knee.",
        ),
        (
            {},
            lambda views: views[views.split == "train"],
            "a valid or a test split to report on. Received: train only. Split it by patient",
        ),
        (
            {},
            lambda views: views.assign(split=views.split.replace("valid", "test")),
            "splits train and valid. Received: none in valid. Without a valid split, select on",
        ),
        (
            {"select_on": "holdout"},
            lambda views: views[views.split == "train"],
            "a valid or a test split to report on. Received: train only. Split it by patient",
        ),
        (
            {"select_on": "holdout"},
            lambda views: views[views.split == "valid"],
            "Received: none in train and holdout.",
        ),
        (
            {},
            lambda views: views[(views.study_type == "elbow") | (views.label == 1)],
            "Received: 'wrist' with label 1 only.*Leave this type out of study_types",
        ),
    ],
)
def test_views_that_cannot_be_trained_on(views, tmp_path, settings, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(dataclasses.replace(SHORT, **settings), change(views), tmp_path)
    assert files(tmp_path) == set()


# ------------------------------------------------------------------------------------------------
# Starting from another run


def test_a_type_run_starts_from_the_mura_run_and_can_be_moved_with_it(mura, tmp_path, eagerly):
    views = load_mura(mura)
    whole = dataclasses.replace(SHORT, stage="mura")
    start = train(whole, views, tmp_path / "here/mura", verbose=0).model().get_weights()
    recipe = dataclasses.replace(
        SHORT, stage="type", study_types=("elbow",), initial="../mura/best.keras"
    )
    at_start = []

    def on_train_begin(self, logs=None):
        at_start.extend(self.callbacks[0].model.get_weights())
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(keras.callbacks.CallbackList, "on_train_begin", on_train_begin)
        train(recipe, views, tmp_path / "here/elbow", verbose=0)
    assert all(np.array_equal(*pair) for pair in zip(at_start, start, strict=True))

    (tmp_path / "here").rename(tmp_path / "there")
    run = train(recipe, views, tmp_path / "there/elbow", verbose=0)
    assert run.finished
    assert set(run.predictions.stage) == {"type"}


def test_initial_must_be_the_best_model_of_such_a_run(mura, tmp_path):
    small = build_model("small_cnn", None, image_size=32)
    small.save(tmp_path / "small.keras")
    small.save_weights(tmp_path / "small.weights.h5")
    content = (tmp_path / "small.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(content[: len(content) // 2])
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    for name, sentence in {
        "missing.keras": "must be the best.keras of a finished run. There is no file",
        "small.weights.h5": "must be a .keras file. Received:",
        "cut.keras": "must hold a small_cnn with the same head. Received: .*cut.keras",
        "other.keras": "must hold a small_cnn with the same head. Received: .*other.keras",
    }.items():
        recipe = dataclasses.replace(SHORT, initial=str(tmp_path / name))
        with pytest.raises((ValueError, FileNotFoundError), match=f"initial {sentence}"):
            train(recipe, load_mura(mura), tmp_path / "run")
    recipe = dataclasses.replace(
        SHORT, backbone="mobilenet_v2_035", initial=str(tmp_path / "small.keras")
    )
    with pytest.raises(ValueError, match=r"must hold a mobilenet_v2_035 .*small.keras"):
        train(recipe, load_mura(mura), tmp_path / "run")
    assert files(tmp_path / "run") == set()


# ------------------------------------------------------------------------------------------------
# On request


def test_tensorboard_logs(mura, folder, eagerly):
    pytest.importorskip("tensorboard")
    run = train(SHORT, load_mura(mura), folder, tensorboard=True, verbose=0)
    assert list(run.path.glob("tensorboard/train/events.*"))
    assert list(run.path.glob("tensorboard/validation/events.*"))


def test_tensorboard_that_is_not_installed(mura, folder, monkeypatch):
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"Install the extra: pip install 'mura-tf\[tensorboard"):
        train(SHORT, load_mura(mura), folder, tensorboard=True)
    assert files(folder) == set()


def test_a_line_per_epoch_where_there_is_no_terminal(mura, folder, eagerly, capfd):
    train(SHORT, load_mura(mura), folder)
    out = capfd.readouterr().out
    assert out.startswith("1/1 - ")
    assert out.count("val_kappa") == 1


# ------------------------------------------------------------------------------------------------
# Other tasks, schedules and optimizers


@pytest.mark.parametrize("task", ["study_type", "type_and_abnormality"])
def test_a_task_with_classes(views, tmp_path, eagerly, task):
    recipe = dataclasses.replace(
        SHORT, task=task, balance="none", monitor="val_f1", head=("pool", "dense:8:relu")
    )
    run = train(recipe, views, tmp_path, verbose=0)
    assert {"f1", "val_f1", "accuracy", "val_accuracy"} <= set(run.history.columns)
    predictions = run.predictions
    classes = [f"p:{name}" for name in run.info["classes"]]
    np.testing.assert_allclose(predictions[classes].sum(axis=1), 1, rtol=1e-5)
    chosen = predictions[classes].to_numpy().argmax(axis=1)
    actual = targets_of(predictions, task, tuple(run.info["classes"])).argmax(axis=1)
    confusion = confusion_matrix(actual, chosen, labels=range(len(classes)))
    accuracy = confusion.trace() / confusion.sum()
    assert run.history.val_accuracy[0] == pytest.approx(accuracy, abs=1e-6)
    f1 = f1_score(actual, chosen, labels=range(len(classes)), average="macro", zero_division=0)
    assert run.history.val_f1[0] == pytest.approx(f1, abs=1e-6)
    assert run.history.val_kappa[0] == pytest.approx(cohen_kappa_score(actual, chosen), abs=1e-6)
    abnormal = [name for name in classes if name.startswith("p:abnormal ")]
    if abnormal:
        np.testing.assert_allclose(predictions.probability, predictions[abnormal].sum(axis=1))
    else:
        assert predictions.probability.isna().all()


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


def test_the_epoch_of_the_lowest_loss_is_chosen(mura, folder, eagerly):
    recipe = dataclasses.replace(SHORT, monitor="val_loss", max_epochs=4)
    run = train(recipe, load_mura(mura), folder, verbose=0)
    assert run.info["best_epoch"] == run.history.val_loss.idxmin() + 1


def test_a_new_head_on_the_backbone_of_an_earlier_run(mura, tmp_path, eagerly):
    views = load_mura(mura)
    first = dataclasses.replace(SHORT, task="study_type", balance="none", head=("pool", "dense:4"))
    before = train(first, views, tmp_path / "types", verbose=0).model()
    second = dataclasses.replace(
        SHORT, initial="../types/best.keras", initial_part="backbone", trainable="none"
    )
    after = train(second, views, tmp_path / "abnormality", verbose=0).model()
    assert after.output_shape == (None, 1)
    for stage in range(1, 5):
        for name in (f"stage{stage}_conv", f"stage{stage}_norm"):
            pairs = zip(
                before.get_layer(name).get_weights(),
                after.get_layer(name).get_weights(),
                strict=True,
            )
            assert all(np.array_equal(one, other) for one, other in pairs)


def test_a_backbone_of_another_kind_cannot_be_the_start(mura, tmp_path, eagerly):
    views = load_mura(mura)
    train(dataclasses.replace(SHORT, backbone="cnn_2"), views, tmp_path / "other", verbose=0)
    recipe = dataclasses.replace(SHORT, initial="../other/best.keras", initial_part="backbone")
    with pytest.raises(ValueError, match="initial must hold a small_cnn with any head"):
        train(recipe, views, tmp_path / "run", verbose=0)


def test_a_holdout_by_image_may_share_patients(views, tmp_path, eagerly):
    recipe = dataclasses.replace(SHORT, select_on="holdout", holdout=0.25, holdout_by="image")
    run = train(recipe, views, tmp_path, verbose=0)
    assert run.info["views"] == {"train": 30, "valid": 16, "holdout": 10}


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        ("type", {"elbow": (0.25, 0.75), "wrist": (0.5, 0.5)}),
        ("all", dict.fromkeys(["elbow", "wrist"], (1 / 3, 2 / 3))),
        ("none", dict.fromkeys(["elbow", "wrist"], (1.0, 1.0))),
    ],
)
def test_what_the_loss_balances(balance, expected):
    views = pd.DataFrame({"study_type": ["elbow"] * 4 + ["wrist"] * 2, "label": [0, 0, 0, 1, 0, 1]})
    weights = training._loss_weights(views, balance)
    assert weights.keys() == expected.keys()
    for study_type, pair in expected.items():
        assert weights[study_type] == pytest.approx(pair)
