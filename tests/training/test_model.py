"""What a run begins with: another run's model, or its backbone alone."""

import dataclasses
import json
import re
import zipfile

import keras
import numpy as np
import pytest
from trainings import SHORT, files

from mura_tf.data.views import load_mura
from mura_tf.models.build import build_model
from mura_tf.training.model import _load_initial, save_model
from mura_tf.training.train import train


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
    (tmp_path / "another disk").mkdir()
    (tmp_path / "there/elbow").rename(tmp_path / "another disk/elbow")
    (tmp_path / "there/elbow").symlink_to(tmp_path / "another disk/elbow")
    run = train(recipe, views, tmp_path / "there/elbow", verbose=0)
    assert run.finished
    assert set(run.predictions.stage) == {"type"}


def test_a_model_is_saved_without_the_time_and_addresses(tmp_path):
    """Keras writes them into metadata.json, config.json and the zip file's directory."""
    model = build_model("small_cnn", None, image_size=32)
    model.save(tmp_path / "dated.keras")
    save_model(model, tmp_path / "undated.keras")
    with (
        zipfile.ZipFile(tmp_path / "dated.keras") as dated,
        zipfile.ZipFile(tmp_path / "undated.keras") as undated,
    ):
        assert undated.namelist() == dated.namelist()
        name = "model.weights.h5"
        assert undated.read(name) == dated.read(name)
        shared = r'"shared_object_id": (\d+)'
        before, now = (one.read("config.json").decode() for one in (dated, undated))
        pairs = set(zip(re.findall(shared, before), re.findall(shared, now), strict=True))
        assert {number for _, number in pairs} == {str(1 + index) for index in range(len(pairs))}
        assert re.sub(shared, "", now) == re.sub(shared, "", before)
        facts = json.loads(dated.read("metadata.json"))
        assert json.loads(undated.read("metadata.json")) == {"keras_version": keras.__version__}
        assert set(facts) == {"keras_version", "date_saved"}
        assert {entry.date_time for entry in undated.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
    loaded = keras.saving.load_model(tmp_path / "undated.keras")
    np.testing.assert_allclose(loaded(images), model(images), rtol=1e-6)


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


@pytest.mark.parametrize(("part", "kept"), [("without_output", True), ("backbone", False)])
def test_a_head_without_its_output_may_be_kept(part, kept, mura, tmp_path, eagerly):
    views = load_mura(mura)
    first = dataclasses.replace(SHORT, task="study_type", balance="none", head=("pool", "dense:4"))
    before = train(first, views, tmp_path / "types", verbose=0).model()
    second = dataclasses.replace(
        SHORT,
        head=first.head,
        initial="../types/best.keras",
        initial_part=part,
        learning_rate=1e-12,  # what is loaded is what is left
    )
    after = train(second, views, tmp_path / "abnormality", verbose=0).model()
    assert after.output_shape == (None, 1)
    (name,) = [layer.name for layer in after.layers if layer.name.endswith("_dense")]
    one, other = (model.get_layer(name).get_weights()[0] for model in (before, after))
    assert np.allclose(one, other, atol=1e-6) == kept


def test_a_backbone_of_another_kind_cannot_be_the_start(mura, tmp_path, eagerly):
    views = load_mura(mura)
    train(dataclasses.replace(SHORT, backbone="cnn_2"), views, tmp_path / "other", verbose=0)
    recipe = dataclasses.replace(SHORT, initial="../other/best.keras", initial_part="backbone")
    with pytest.raises(ValueError, match="initial must hold a small_cnn with any head"):
        train(recipe, views, tmp_path / "run", verbose=0)


@pytest.mark.parametrize("part", ["model", "backbone", "without_output"])
def test_a_start_whose_layers_keras_has_numbered_otherwise(part, tmp_path):
    """As EfficientNet's Normalization is: it has no name of its own."""
    first, model = (of_unnamed_layers() for _ in range(2))
    save_model(first, tmp_path / "best.keras")
    assert [layer.name for layer in first.layers] != [layer.name for layer in model.layers]
    _load_initial(model, tmp_path / "best.keras", part)
    loaded = [
        np.array_equal(one, other)
        for one, other in zip(first.get_weights(), model.get_weights(), strict=True)
    ]
    assert loaded == [True, True, part != "backbone", part == "model"]  # of each kernel


def of_unnamed_layers():
    images = keras.Input((4,))
    features = keras.layers.Dense(3, use_bias=False)(images)
    features = keras.layers.Dense(3, use_bias=False)(features)
    features = keras.layers.Dense(3, use_bias=False, name="head0_dense")(features)
    output = keras.layers.Dense(1, "sigmoid", use_bias=False, name="probability")(features)
    return keras.Model(images, output, name="small_cnn")


def test_a_start_that_keras_cannot_read_is_a_sentence(tmp_path):
    model = of_unnamed_layers()
    save_model(model, tmp_path / "whole.keras")
    with (
        zipfile.ZipFile(tmp_path / "whole.keras") as whole,
        zipfile.ZipFile(tmp_path / "best.keras", "w") as damaged,
    ):
        for name in whole.namelist():
            content = whole.read(name)
            damaged.writestr(name, b"null" if name == "config.json" else content)
    with pytest.raises(ValueError, match="initial must hold a small_cnn with the same head"):
        _load_initial(model, tmp_path / "best.keras", "model")
