"""Training: the run folder, its views, and what happens when something is wrong."""

import dataclasses
import shutil
import threading
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from filelock import FileLock
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score
from trainings import FILES, RECIPE, SHORT, TWO_EPOCHS, assert_same, files, interrupted

from mura_tf.data.cache import BadViewsError
from mura_tf.data.tasks import targets_of
from mura_tf.data.views import load_mura
from mura_tf.models.keras_metrics import CohenKappa
from mura_tf.training import train as training
from mura_tf.training.run import Run
from mura_tf.training.train import NonFiniteLossError, train

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


def test_nan_of_the_last_step_is_not_kept(mura, folder, eagerly, monkeypatch):
    """The loss of a step is that of the weights before it."""

    def on_train_batch_end(self, batch, logs=None):
        original(self, batch, logs)
        self.model.get_layer("probability").bias.assign([np.nan])

    original = training._StopOnNonFiniteLoss.on_train_batch_end
    monkeypatch.setattr(training._StopOnNonFiniteLoss, "on_train_batch_end", on_train_batch_end)
    with pytest.raises(NonFiniteLossError, match="validation loss became nan at the end of epoch"):
        train(SHORT, load_mura(mura), folder, verbose=0)
    assert files(folder) == {"recipe.json", "run.json"}
    assert not Run(folder).finished


# ------------------------------------------------------------------------------------------------
# The run folder


def test_predictions_are_the_best_models_in_the_order_of_the_views(reference, views):
    table = reference.predictions
    valid = views[views.split == "valid"].reset_index(drop=True)
    assert table.path.tolist() == valid.path.tolist()
    assert table.label.tolist() == valid.label.tolist()
    facts = table[["backbone", "stage", "repeat", "member"]].drop_duplicates()
    assert facts.to_numpy().tolist() == [["small_cnn", "imagenet", 0, 0]]
    settings = {"image_size": 32, "preprocessing": "caffe", "batch_size": 32}
    probability = reference.model().predict(training.make_dataset(valid, **settings), verbose=0)
    np.testing.assert_allclose(table.probability, probability[:, 0], rtol=1e-5)
    kappa = CohenKappa()(table.label, table.probability)
    assert float(kappa) == pytest.approx(reference.history.val_kappa.max())


def test_a_finished_run_is_not_touched(reference, views, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in reference.path.iterdir()}
    monkeypatch.setattr(keras.Model, "fit", None)
    monkeypatch.setattr(training, "compiled_model", None)
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
    with pytest.raises(
        BadViewsError, match=r"1 files cannot be used.*\n.*not a PNG, JPEG or DICOM"
    ):
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
    others = load_mura(mura)
    first, second = others[others.split == "valid"].path[:2]
    shutil.copyfile(second, first)
    with pytest.raises(ValueError, match="fingerprint"):
        train(SHORT, others, run.path, skip_bad=True)
    assert (run.path / "skipped.csv").read_text().splitlines() == listed


def test_a_picture_that_was_restored_before_the_run_began_is_not_listed(mura, tmp_path, eagerly):
    views, folder = load_mura(mura), tmp_path / "run"
    good = Path(views.path[0]).read_bytes()
    Path(views.path[0]).write_bytes(b"once upon a time")
    with pytest.raises(FileNotFoundError):  # the recipe's mistake
        train(SHORT.changed({"initial": "none.keras"}), views, folder, skip_bad=True, verbose=0)
    assert (folder / "skipped.csv").is_file()
    Path(views.path[0]).write_bytes(good)
    run = train(SHORT, views, folder, skip_bad=True, verbose=0)
    assert run.info["skipped"] == 0 and not (folder / "skipped.csv").exists()


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
    assert set(run.predictions.split) == {"holdout", "valid", "test"}
    assert len(run.predictions) == len(held_out) + (views.split == "valid").sum()


def test_a_holdout_by_image_may_share_patients(views, tmp_path, eagerly):
    recipe = dataclasses.replace(SHORT, select_on="holdout", holdout=0.25, holdout_by="image")
    run = train(recipe, views, tmp_path, verbose=0)
    assert run.info["views"] == {"train": 30, "valid": 16, "holdout": 10}


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
            "a valid or a test split to report on. Received: train only. Hold out a part",
        ),
        (
            {},
            lambda views: views.assign(split=views.split.replace("valid", "test")),
            "splits train and valid. Received: none in valid. Without a valid split, select on",
        ),
        (
            {"select_on": "holdout"},
            lambda views: views[views.split == "train"],
            "a valid or a test split to report on. Received: train only. Hold out a part",
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
# On request


def test_tensorboard_logs(mura, folder, eagerly):
    pytest.importorskip("tensorboard")
    run = train(SHORT, load_mura(mura), folder, tensorboard=True, verbose=0)
    assert list(run.path.glob("tensorboard/train/events.*"))
    assert list(run.path.glob("tensorboard/validation/events.*"))


def test_tensorboard_that_is_not_installed(mura, folder, monkeypatch):
    found = training.importlib.util.find_spec
    monkeypatch.setattr(
        training.importlib.util, "find_spec", lambda name: name != "tensorboard" and found(name)
    )
    with pytest.raises(ImportError, match=r"Install the extra: pip install 'mura-tf\[tensorboard"):
        train(SHORT, load_mura(mura), folder, tensorboard=True)
    assert files(folder) == set()


def test_a_line_per_epoch_where_there_is_no_terminal(mura, folder, eagerly, capfd):
    train(SHORT, load_mura(mura), folder)
    out = capfd.readouterr().out
    assert out.startswith("1/1 - ")
    assert out.count("val_kappa") == 1


# ------------------------------------------------------------------------------------------------
# Other tasks and losses


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
