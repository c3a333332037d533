"""The line on Keras' backend: TensorFlow in `make test`, another in `make backends`."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import zlib

import keras
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, log_loss, roc_auc_score

import mura_tf as mt
from mura_tf.cores import usable_cores
from mura_tf.explain.heatmaps import methods_for, probabilities, raw_cam
from mura_tf.explain.methods import METHODS
from mura_tf.grid.engines import THREADS
from mura_tf.training.checkpoint import Checkpoint
from mura_tf.training.run import Run
from mura_tf.training.train import NonFiniteLossError

BACKEND = keras.config.backend()
other_backend = pytest.mark.skipif(BACKEND == "tensorflow", reason="compares with TensorFlow")
RECIPE = mt.Recipe(
    backbone="small_cnn",
    weights=None,
    image_size=32,
    augment=("flip", "rotation:20", "autocontrast:0.5"),
    learning_rate=0.001,
    batch_size=4,  # five steps an epoch, of one shape: a backend compiles each shape anew
    max_epochs=4,
    stage="mura",
    seed=2,
)
"""Random everywhere: dropout, flip, rotation, order."""
EPOCH = 3
"""After which it is killed."""
SHORT = dataclasses.replace(RECIPE, augment=("flip",), max_epochs=1)
KILLED = """
import json, os, signal, sys
import mura_tf as mt
from mura_tf.training import train as training

recipe, data, folder, what, number = json.loads(sys.argv[1])

class Killed(training.Checkpoint):
    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if (what, self.steps) == ("step", number):
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if (what, epoch + 1) == ("epoch", number):
            os.kill(os.getpid(), signal.SIGKILL)

training.Checkpoint = Killed
mt.train(mt.Recipe.from_dict(recipe), mt.load_mura(data), folder, verbose=0)
"""
"""Trains until the end of a step or an epoch."""


def train_killed(recipe, data, folder, what, number):
    order = json.dumps([recipe.to_dict(), str(data), str(folder), what, number])
    done = subprocess.run([sys.executable, "-c", KILLED, order], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def python(code, *arguments, **environment):
    """What a program prints as JSON."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def state_of(folder):
    with np.load(folder / "resume.npz") as arrays:
        return {name: arrays[name] for name in arrays if name != "memory"}


def interrupted_in_epoch(number):
    """Stands in for the callback's `on_epoch_begin`."""

    def on_epoch_begin(self, epoch, logs=None):
        original(self, epoch, logs)
        if epoch + 1 == number:
            raise KeyboardInterrupt

    original = Checkpoint.on_epoch_begin
    return on_epoch_begin


def assert_ends_as(run, whole):
    for name in ("recipe.json", "history.csv", "predictions.csv"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    pairs = zip(run.model().get_weights(), whole.model().get_weights(), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)


def log_loss_of(run, views):
    """scikit-learn's of the predictions, which weighs as the training views tell."""
    rows, weights = run.predictions, mt.class_weights(views[views.split == "train"])
    weight = [weights[row.study_type][row.label] for row in rows.itertuples()]
    return log_loss(rows.label, rows.probability, sample_weight=weight) * np.mean(weight)


@pytest.fixture(scope="module")
def views(lesions):
    return mt.load_mura(lesions)


@pytest.fixture(scope="module")
def whole(views, tmp_path_factory):
    """The run that nothing interrupts."""
    return mt.train(RECIPE, views, tmp_path_factory.mktemp("whole") / "run", verbose=0)


@pytest.fixture(scope="module")
def stopped(lesions, tmp_path_factory):
    """The folder of the same run, killed after an epoch."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    train_killed(RECIPE, lesions, folder, "epoch", EPOCH)
    return folder


@pytest.fixture(scope="module")
def reported(whole, views):
    """The views that it predicts, and its images."""
    views = views[views.split == "valid"].reset_index(drop=True)
    return views, mt.load_images(views, image_size=RECIPE.side)


# ------------------------------------------------------------------------------------------------
# Training


def test_a_killed_run_goes_on_exactly(lesions, views, whole, stopped, tmp_path):
    """Killed in an epoch and after one: the state behind the same epoch is the same."""
    train_killed(RECIPE, lesions, tmp_path, "step", 8)
    train_killed(RECIPE, lesions, tmp_path, "epoch", EPOCH)
    twice, once = state_of(tmp_path), state_of(stopped)
    assert twice.keys() == once.keys()
    for name, array in once.items():  # weights, averages, moments, rate, seeds, best weights
        np.testing.assert_array_equal(array, twice[name], name)
    assert_ends_as(mt.train(RECIPE, views, tmp_path, verbose=0), whole)


def test_the_state_is_all_of_the_models_and_the_optimizers(stopped):
    model = mt.build_model("small_cnn", None, image_size=32)
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    state = state_of(stopped)
    count = len(model.variables) + len(optimizer.variables)
    assert [name for name in state if name.startswith("state_")] == [
        f"state_{index}" for index in range(count)
    ]
    assert any("seed_generator" in variable.path for variable in model.variables)
    assert ("generator_0" in state) == (BACKEND == "torch")  # whose dropout has none of Keras'


def test_float16_goes_on_exactly(views, tmp_path, monkeypatch):
    """With PyTorch's Adam, and a second pass over the views that its epoch is selected on."""
    recipe = dataclasses.replace(
        SHORT, max_epochs=2, mixed_precision=True, optimizer="torch_adam", monitor="val_auroc"
    )
    run = mt.train(recipe, views, tmp_path / "whole", verbose=0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "on_epoch_begin", interrupted_in_epoch(2))
        mt.train(recipe, views, tmp_path / "killed", verbose=0)
    assert_ends_as(mt.train(recipe, views, tmp_path / "killed", verbose=0), run)
    assert run.model().get_layer("stage1_conv").compute_dtype == "float16"
    best = run.history.val_auroc[run.info["best_epoch"] - 1]
    expected = roc_auc_score(run.predictions.label, run.predictions.probability)
    assert best == pytest.approx(expected, abs=1e-6)


def test_averaged_weights_and_a_map_go_on_exactly(lesions, tmp_path, monkeypatch):
    """What is validated is not what training goes on with, and a second output learns."""
    views = mt.load_mura(lesions)
    recipe = dataclasses.replace(
        SHORT,
        max_epochs=3,
        averaging=0.9,
        optimizer="adamw",
        head=("map:8:0.5", "pool"),
        monitor="val_auroc",
        balance="none",
    )
    run = mt.train(recipe, views, tmp_path / "whole", verbose=0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "on_epoch_begin", interrupted_in_epoch(2))
        mt.train(recipe, views, tmp_path / "killed", verbose=0)
    assert_ends_as(mt.train(recipe, views, tmp_path / "killed", verbose=0), run)
    assert run.history.loss.diff()[1:].lt(0).all()


def test_the_best_epochs_model_is_kept(whole, views):
    """Its kappa and loss are scikit-learn's of the predictions: no later epoch's weights."""
    predictions, history = whole.predictions, whole.history
    best = history[history.epoch == whole.info["best_epoch"]].iloc[0]
    labels, probability = predictions.label, predictions.probability
    assert probability.between(1e-6, 1 - 1e-6).all()  # no logarithm is cut off
    assert best.val_kappa == history.val_kappa.max()
    assert cohen_kappa_score(labels, probability > 0.5) == pytest.approx(best.val_kappa, abs=1e-6)
    assert best.val_loss == pytest.approx(log_loss_of(whole, views), rel=1e-4)


def test_run_json_says_on_what(whole):
    info = whole.info
    expected = {"backend": BACKEND, "floatx": "float32", "image_data_format": "channels_last"}
    assert {name: info[name] for name in expected} == expected
    assert {"tensorflow", BACKEND} <= set(info["versions"])
    assert "unknown" not in info["versions"].values()
    if not mt.models.backend.accelerator():
        assert info["device"] == f"CPU, {usable_cores()} cores"


@other_backend
def test_the_batches_are_tensorflows(views):
    """What is fed does not depend on the backend: the same bits, whatever is augmented."""
    augment = ("flip", "rotation:20", "shift:0.1", "shear:10", "zoom:0.2", "autocontrast:0.5")
    code = (
        "import json, sys, zlib; import mura_tf as mt; views = mt.load_mura(sys.argv[1]); "
        "batches = mt.make_dataset(views, image_size=32, training=True, augment=sys.argv[2:]); "
        "json.dump([zlib.crc32(part) for batch in batches for part in batch], sys.stdout)"
    )
    there = python(code, os.path.commonpath(list(views.path)), *augment, KERAS_BACKEND="tensorflow")
    batches = mt.make_dataset(views, image_size=32, training=True, augment=augment)
    here = [zlib.crc32(part) for batch in batches for part in batch]
    assert here == there
    assert len(set(here[::3])) == len(here[::3])  # the images


def test_a_type_run_of_classes_starts_from_another_run(views, whole, tmp_path):
    recipe = dataclasses.replace(
        SHORT,
        stage="type",
        initial=str(whole.path / "best.keras"),
        initial_part="backbone",
        trainable="last:2",
        task="type_and_abnormality",
        balance="none",
        head=("attention:2", "pool", "dense:8:relu"),
        monitor="val_f1",
        optimizer="torch_sgd:0.9",
    )
    run = mt.train(recipe, views, tmp_path, verbose=0)
    columns = [f"p:{name}" for name in run.info["classes"]]
    np.testing.assert_allclose(run.predictions[columns].sum(axis=1), 1, rtol=1e-5)
    before, after = whole.model(), run.model()
    for name, same in {"stage1_conv": True, "stage4_conv": False}.items():
        kernels = [model.get_layer(name).get_weights()[0] for model in (before, after)]
        assert np.array_equal(*kernels) == same
    heat = mt.heatmaps(run, mt.load_images(views[:2], image_size=32), "attention")
    assert heat.shape == (2, 32, 32)


def test_a_backbone_from_a_file_with_regularization(views, tmp_path):
    extractor = keras.applications.MobileNetV2((32, 32, 3), 0.35, include_top=False, weights=None)
    extractor.save_weights(tmp_path / "backbone.weights.h5")
    recipe = dataclasses.replace(
        SHORT,
        backbone="mobilenet_v2_035",
        weights=str(tmp_path / "backbone.weights.h5"),
        preprocessing="native",
        trainable="none",
        l1=1e-4,
        l2=1e-3,
        optimizer="sgd:0.9",
    )
    run = mt.train(recipe, views, tmp_path / "run", verbose=0)
    convolution = run.model().get_layer("block_1_expand").get_weights()[0]
    np.testing.assert_array_equal(
        convolution, extractor.get_layer("block_1_expand").get_weights()[0]
    )
    kernel = run.model().get_layer("probability").get_weights()[0]
    penalty = 1e-4 * np.abs(kernel).sum() + 1e-3 * np.square(kernel).sum()
    expected = log_loss_of(run, views) + penalty
    assert run.history.val_loss[0] == pytest.approx(expected, rel=1e-4)
    assert run.history.val_data_loss[0] == pytest.approx(expected - penalty, rel=1e-4)


def test_nan_is_named_and_nothing_of_it_kept(views, tmp_path):
    recipe = dataclasses.replace(SHORT, learning_rate=1e30, batch_size=100)  # one step
    with pytest.raises(NonFiniteLossError, match="validation loss became nan at the end of epoch"):
        mt.train(recipe, views, tmp_path, verbose=0)
    assert not Checkpoint(tmp_path).path.exists()


def test_another_backend_does_not_go_on(views, stopped, tmp_path):
    for name in ("recipe.json", "run.json", "history.csv", "resume.npz"):
        shutil.copy(stopped / name, tmp_path)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace(f'"backend": "{BACKEND}"', '"backend": "theano"'))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=rf"'theano'. Received: '{BACKEND}'.*KERAS_BACKEND=theano"):
        mt.train(RECIPE, views, tmp_path, verbose=0)
    assert before.items() <= {path.name: path.read_bytes() for path in tmp_path.iterdir()}.items()


@pytest.mark.skipif(BACKEND != "jax" or sys.platform != "linux", reason="jax, as Linux shows it")
def test_the_threads_of_jax_are_as_many_as_a_run_has_cores():
    """It heeds none of the variables that TensorFlow and torch do, but NPROC, see `THREADS`."""
    code = (
        "import json, os, sys; import jax.numpy as jnp; jnp.ones(9).block_until_ready(); "
        "threads = '/proc/self/task'; names = [open(f'{threads}/{thread}/comm').read() "
        "for thread in os.listdir(threads)]; "
        "json.dump(sum('XLAEigen' in name for name in names), sys.stdout)"
    )
    for cores in (1, 3):
        assert python(code, **dict.fromkeys(THREADS, str(cores))) == cores


# ------------------------------------------------------------------------------------------------
# What is trained


def test_lost_predictions_are_the_same_again(views, whole, tmp_path):
    for name in ("recipe.json", "run.json", "history.csv", "best.keras"):
        shutil.copy(whole.path / name, tmp_path)
    assert_ends_as(mt.train(RECIPE, views, tmp_path, verbose=0), whole)


@other_backend
def test_tensorflow_reads_the_model(whole, reported, tmp_path):
    """So that heatmaps of every method can be had of it."""
    _, images = reported
    np.save(tmp_path / "images.npy", images)
    code = (
        "import json, sys, keras, numpy; model = keras.models.load_model(sys.argv[1]); "
        "predicted = model.predict(numpy.load(sys.argv[2]), verbose=0); "
        "json.dump(predicted[:, 0].tolist(), sys.stdout)"
    )
    model, images = whole.path / "best.keras", tmp_path / "images.npy"
    there = python(code, model, images, KERAS_BACKEND="tensorflow")
    np.testing.assert_allclose(there, whole.predictions.probability, atol=1e-5)


def test_it_predicts_and_is_scored(whole, reported):
    views, _ = reported
    predictions = mt.predict_views(whole.model(), views)
    np.testing.assert_allclose(predictions.probability, whole.predictions.probability, rtol=1e-5)
    overall = mt.score(mt.study_probabilities(predictions), intervals=False).iloc[-1]
    studies = predictions.groupby(["study_type", "patient"]).agg(
        label=("label", "first"), probability=("probability", "mean")
    )
    expected = cohen_kappa_score(studies.label, studies.probability > 0.5)
    assert overall.kappa == pytest.approx(expected, abs=1e-9)


def test_a_bundle_reads_files(lesions, whole, tmp_path):
    bundle = mt.pack(whole.path, tmp_path / "all.mura")
    found = bundle.read([lesions / "valid"])
    expected = mt.study_probabilities(whole.predictions).probability
    np.testing.assert_allclose(np.sort(found.probability), np.sort(expected), atol=1e-5)


def test_cam_is_the_logit(whole, reported):
    _, images = reported
    maps, bias = raw_cam(whole, images)
    logits = maps.mean(axis=(1, 2)) + bias
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), probabilities(whole, images), atol=1e-5)
    assert mt.cam(whole, images).shape == images.shape[:3]


def test_every_other_method_works_or_is_refused_before_anything_is_read(whole, reported, tmp_path):
    _, images = reported
    assert methods_for(whole) == [
        name
        for name, method in METHODS.items()
        if name not in ("attention", "learned") and (name == "cam" or BACKEND == "tensorflow")
    ]
    for name in [name for name, method in METHODS.items() if not method.native]:
        if BACKEND == "tensorflow":
            assert mt.heatmaps(whole, images[:1], name).shape == (1, 32, 32)
        else:
            sentence = f"'{name}' is tf-keras-vis'.*cam and attention and lear.*backend '{BACKEND}'"
            with pytest.raises(ValueError, match=sentence):
                mt.heatmaps(Run(tmp_path / "nowhere"), images[:1], name)


@other_backend
def test_the_command_line(lesions, whole, tmp_path):
    mura_tf = "from mura_tf.cli import app; app()"

    def command(*words):
        done = subprocess.run(
            [sys.executable, "-c", mura_tf, *map(str, words)],
            check=False,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    RECIPE.changed({"max_epochs": 1, "stage": "imagenet"}).save(tmp_path / "recipe.json")
    words = ("--recipe", tmp_path / "recipe.json", "--scheme", "whole", "--members", 1)
    status, printed, told = command("train", lesions, tmp_path / "out", *words)
    assert status == 0, told
    assert "1 of 1 done" in printed
    (folder,) = [path.parent for path in (tmp_path / "out").rglob("run.json")]
    assert Run(folder).info["backend"] == BACKEND
    status, printed, told = command("evaluate", folder, "--out", tmp_path / "again")
    assert status == 0, told
    assert (tmp_path / "again/scores.csv").read_bytes() == (
        tmp_path / "out/scores.csv"
    ).read_bytes()
    status, printed, told = command(
        "explain", folder, "--data", lesions, "--top", "confident:1", "--out", tmp_path / "seen"
    )
    assert status == 0, told
    assert list((tmp_path / "seen").glob("*.png"))
    status, printed, told = command("explain", folder, "--data", lesions, "--methods", "saliency")
    assert status == 2
    assert "the method 'saliency' is tf-keras-vis', which" in " ".join(told.split())
