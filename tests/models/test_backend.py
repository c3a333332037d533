"""What is refused of Keras' backend and settings, by whom, and before what."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import mura_tf as mt
from mura_tf.explain.ensemble import Ensemble
from mura_tf.grid.plan import plan_runs, run_plan
from mura_tf.inference.export import export_member
from mura_tf.inference.members import KerasMember
from mura_tf.models import backend
from mura_tf.models.backend import BACKENDS, keras_settings, require_backend

NAMES = ("backend", "floatx", "image_data_format")


@pytest.fixture
def unloaded(monkeypatch, tmp_path):
    """Keras as if it were not imported yet; returns the writer of its keras.json."""
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def write(text):
        (tmp_path / "keras.json").write_text(text if isinstance(text, str) else json.dumps(text))

    return write


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


# ------------------------------------------------------------------------------------------------
# What the settings are


CASES = [
    (None, {}),
    ({"backend": "numpy"}, {}),
    ({"floatx": "float64", "image_data_format": "channels_first"}, {"KERAS_BACKEND": "numpy"}),
    ({"backend": "jax"}, {"KERAS_BACKEND": "numpy"}),
    ({"backend": "torch"}, {"KERAS_BACKEND": ""}),
    ('{"backend": "jax", ', {"KERAS_BACKEND": "numpy"}),
]
"""keras.json and the environment."""


def test_settings_are_read_as_keras_reads_them(unloaded, monkeypatch):
    ours = []
    for written, environment in CASES:
        if written is not None:
            unloaded(written)
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            ours.append(keras_settings())
    code = """
import importlib, json, os, sys
from pathlib import Path
from keras.src.backend import config

for written, environment in json.loads(sys.argv[1]):
    if written is not None:
        text = written if isinstance(written, str) else json.dumps(written)
        Path(os.environ["KERAS_HOME"], "keras.json").write_text(text)
    os.environ.pop("KERAS_BACKEND", None)
    os.environ.update(environment)
    importlib.reload(config)
    print(json.dumps({name: getattr(config, name)() for name in sys.argv[2:]}))
"""
    keras_json = Path(os.environ["KERAS_HOME"], "keras.json")
    keras_json.unlink()
    told = run("-c", code, json.dumps(CASES), *NAMES)
    assert ours == [json.loads(line) for line in told.stdout.splitlines()], told.stderr


def test_without_a_keras_home_it_is_the_users(unloaded, tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras/keras.json").write_text('{"floatx": "float16"}')
    assert keras_settings()["floatx"] == "float16"
    with pytest.raises(ValueError, match=rf"'float16', from {tmp_path}/.keras/keras.json"):
        require_backend()


def test_a_loaded_keras_is_asked(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    assert keras_settings() == {name: getattr(keras.config, name)() for name in NAMES}


# ------------------------------------------------------------------------------------------------
# What is refused


def test_a_backend_that_is_none(unloaded, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(ValueError, match=r"one of tensorflow, jax, .*: 'theano', from the env"):
        require_backend()
    monkeypatch.delenv("KERAS_BACKEND")
    unloaded({"backend": 5})
    with pytest.raises(ValueError, match=r"Received: 5, from .*keras.json\. Set KERAS_BACKEND="):
        require_backend()


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("jax", r"pip install 'mura-tf\[jax\]'"),
        ("openvino", "pip install openvino"),
        ("numpy", r"pip install 'mura-tf\[jax\]'"),
    ],
)
def test_a_backend_that_is_not_installed(unloaded, monkeypatch, name, mend):
    monkeypatch.setitem(sys.modules, "jax" if name == "numpy" else name, None)
    unloaded({"backend": name})
    with pytest.raises(
        ImportError, match=rf"which is not installed. Received: '{name}', from .*keras.json.*{mend}"
    ):
        require_backend()


@pytest.mark.parametrize("name", BACKENDS)
def test_not_every_backend_trains(unloaded, monkeypatch, name):
    monkeypatch.setenv("KERAS_BACKEND", name)
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: True)
    require_backend()
    if BACKENDS[name]:
        require_backend(training=True)
        return
    with pytest.raises(ValueError, match=rf"trains: tensorflow, jax, torch\. Received: '{name}'"):
        require_backend(training=True)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"floatx": "float16"}, r"floatx must be 'float32'.*'float16', from .*mixed_precision\.$"),
        ({"floatx": "float64"}, r"floatx must be 'float32'.*'float64', from .*Change it there\.$"),
        ({"floatx": "bfloat16"}, r"floatx must be 'float32'.*'bfloat16', from .*keras.json"),
        (
            {"image_data_format": "channels_first"},
            r"must be 'channels_last'.*'channels_first', from",
        ),
    ],
)
def test_settings_that_models_cannot_have(unloaded, written, sentence):
    unloaded({"backend": "tensorflow"} | written)
    with pytest.raises(ValueError, match=sentence):
        require_backend()


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_another_keras_behind_tf_keras(monkeypatch, value):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    with pytest.raises(ValueError, match=rf"^TF_USE_LEGACY_KERAS={value} makes tf.keras .*Unset"):
        require_backend()


@pytest.mark.parametrize("value", ["0", ""])
def test_what_tensorflow_takes_for_no(monkeypatch, value):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    require_backend(training=True)


# ------------------------------------------------------------------------------------------------
# By whom


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


DOORS = [
    "build_model",
    "predict_views",
    "cam",
    "heatmaps",
    "train",
    "run_plan",
    "Ensemble",
    "KerasMember",
    "export_member",
]


@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_before_it_does_anything(mura, tmp_path, request, door):
    views, model = mt.load_mura(mura), mt.build_model("small_cnn", None, image_size=32)
    recipe, folder = mt.Recipe(backbone="small_cnn", weights=None, image_size=32), tmp_path / "run"
    images = np.zeros((1, 32, 32, 3))
    doors = {
        "build_model": lambda: mt.build_model("small_cnn", None),
        "predict_views": lambda: mt.predict_views(model, views),
        "cam": lambda: mt.cam(model, images),
        "heatmaps": lambda: mt.heatmaps(model, images),
        "train": lambda: mt.train(recipe, views, folder),
        "run_plan": lambda: run_plan(plan_runs(recipe, folder, ["elbow"]), views, folder),
        "Ensemble": lambda: Ensemble([folder], mura),
        "KerasMember": lambda: KerasMember(folder / "best.keras", "caffe"),
        "export_member": lambda: export_member(folder / "best.keras", "caffe", "onnx", folder, "0"),
    }
    assert list(doors) == DOORS
    request.getfixturevalue("channels_first")
    with pytest.raises(ValueError, match=r"'channels_last'.*'channels_first', set in this program"):
        doors[door]()
    assert not folder.exists()


def test_what_feeds_a_model_needs_no_setting_but_for_keras_layers(mura, channels_first):
    """`make_dataset` is of use without our models."""

    def batch(augment=("flip",)):
        settings = {"image_size": 16, "training": True, "augment": augment}
        return next(iter(mt.make_dataset(views, **settings)))

    views = mt.load_mura(mura)
    other = batch()
    with pytest.raises(ValueError, match="Received: 'channels_first', set in this program"):
        batch(("flip", "rotation:20"))
    keras.config.set_image_data_format("channels_last")
    for one, same in zip(other, batch(), strict=True):
        np.testing.assert_array_equal(one, same)


CLI = "from mura_tf.cli import app; app()"


@pytest.mark.parametrize(
    ("written", "environment", "sentence"),
    [
        ({}, {"TF_USE_LEGACY_KERAS": "1"}, "TF_USE_LEGACY_KERAS=1 makes tf.keras another Keras"),
        ({"image_data_format": "channels_first"}, {}, "Keras' image_data_format must be"),
        ({"floatx": "float16"}, {}, "Keras' floatx must be 'float32'. Received: 'float16', from"),
        ({}, {"KERAS_BACKEND": "theano"}, "Keras' backend must be one of tensorflow, jax"),
        ({}, {"KERAS_BACKEND": "numpy"}, "Keras' backend must be one that trains: tensorflow"),
    ],
)
def test_the_command_line_says_it_before_anything_is_trained(
    mura, tmp_path, written, environment, sentence
):
    (tmp_path / "keras.json").write_text(json.dumps(written))
    environment = {"KERAS_HOME": str(tmp_path)} | environment
    done = run("-c", CLI, "train", mura, tmp_path / "out", "--backbone", "small_cnn", **environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {sentence}")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("out/*"))


def test_a_public_name_whose_backend_is_not_installed():
    """Keras' own error would be "No module named 'jax'"."""
    code = (
        "import sys; sys.modules['jax'] = None; import mura_tf as mt; mt.Recipe(); mt.build_model"
    )
    done = run("-c", code, KERAS_BACKEND="jax")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "ImportError: Keras' backend needs jax, which is not installed. Received: 'jax', from the"
    )


@pytest.mark.parametrize("name", ["numpy", "openvino"])
def test_what_does_not_train_predicts_and_explains(mura, tmp_path, name):
    pytest.importorskip(name)
    if name == "numpy":
        pytest.importorskip("jax", reason="Keras' NumPy backend takes parts of its JAX backend")
    views = mt.load_mura(mura)
    keras.utils.set_random_seed(0)
    model = mt.build_model("small_cnn", None, image_size=32)
    model.save(tmp_path / "model.keras")
    code = (
        "import json, sys, keras, mura_tf as mt; model = keras.models.load_model(sys.argv[1]); "
        "views = mt.load_mura(sys.argv[2]); scaled = {'preprocessing': 'torch'}; "
        "images = mt.load_images(views, image_size=32, **scaled); "
        "json.dump([mt.predict_views(model, views, **scaled).probability.tolist(), "
        "mt.cam(model, images).tolist()], sys.stdout)"
    )
    done = run("-c", code, tmp_path / "model.keras", mura, KERAS_BACKEND=name)
    assert done.returncode == 0, done.stderr
    probability, heat = json.loads(done.stdout)
    expected = mt.predict_views(model, views, preprocessing="torch").probability
    off = 1e-5 if name == "numpy" else 0.2 * np.ptp(expected)  # OpenVINO's bfloat16
    np.testing.assert_allclose(probability, expected, rtol=0, atol=min(off, 0.003))
    images = mt.load_images(views, image_size=32, preprocessing="torch")
    off = np.abs(np.array(heat) - mt.cam(model, images))
    assert off.max() < (1e-3 if name == "numpy" else 0.1)
