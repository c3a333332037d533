"""Class activation maps and their identities, padding, runs as models, the errors."""

import gc
import importlib.util
import json
import shutil
import sys
import weakref

import keras
import numpy as np
import pytest
from explained import assert_maps_equal, built, images_of
from keras import layers

from mura_tf.data.radiograph import resize_with_pad
from mura_tf.explain.heatmaps import (
    cam,
    frames_of,
    heatmaps,
    methods_for,
    model_of,
    probabilities,
    raw_cam,
)
from mura_tf.explain.methods import METHODS
from mura_tf.models import graph
from mura_tf.models.build import build_model
from mura_tf.terminal import Notice
from mura_tf.training.run import Run

pytestmark = pytest.mark.usefixtures("eagerly")

PAPER = ["mobilenet_v2", "densenet169", "xception"]
PAPER += [f"efficientnet_b{number}" for number in range(4)]
CLASSES = ("abnormal elbow", "abnormal wrist", "normal elbow", "normal wrist")


def brightness_model(side=32):
    """Its features are local brightness and its logit 6 times their mean minus 1."""
    images = keras.Input((side, side, 3))
    features = layers.Conv2D(1, 3, padding="same", name="brightness")(images)
    output = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(features))
    model = keras.Model(images, output, name="brightness_model")
    model.get_layer("brightness").set_weights([np.full((3, 3, 3, 1), 1 / 27), np.zeros(1)])
    model.layers[-1].set_weights([np.full((1, 1), 6.0), np.array([-1.0])])
    return model


def logit(probability):
    probability = np.asarray(probability, float)
    return np.log(probability / (1 - probability))


# The identities


@pytest.mark.parametrize("backbone", PAPER)
def test_cam_of_the_papers_backbones_is_the_logit_and_grad_cam(backbone):
    model = built(backbone, 96)
    images = images_of(96)
    maps, bias = raw_cam(model, images)
    assert maps.shape == (2, 3, 3)
    expected = logit(model.predict_on_batch(images)[:, 0])
    np.testing.assert_allclose(maps.mean(axis=(1, 2)) + bias, expected, atol=2e-4)

    heat = cam(model, images)
    assert heat.max() == 1
    np.testing.assert_allclose(heatmaps(model, images, "grad_cam"), heat, atol=2e-4)


def test_cam_of_classes_is_their_logits(classifier):
    images = images_of(32, 5)
    logits = []
    for index in range(4):
        maps, bias = raw_cam(classifier, images, index)
        logits.append(maps.mean(axis=(1, 2)) + bias)
    expected = keras.ops.softmax(np.transpose(logits))
    np.testing.assert_allclose(classifier.predict_on_batch(images), expected, atol=1e-5)


def test_grad_cam_of_a_class_is_its_cam(classifier):
    images = images_of(32, 3)
    for index in range(4):
        heat = cam(classifier, images, index)
        assert heat.max() == 1
        np.testing.assert_allclose(heatmaps(classifier, images, "grad_cam", index), heat, atol=1e-4)


def test_a_reloaded_model_has_the_same_maps(small, tmp_path):
    for method in methods_for(small):  # what they derive from it is no part of the file
        heatmaps(small, images_of(32, 1), method)
    small.save(tmp_path / "best.keras")
    reloaded = keras.models.load_model(tmp_path / "best.keras", compile=False)
    images = images_of(32)
    assert_maps_equal(cam(reloaded, images), cam(small, images))


def test_cam_needs_no_tf_keras_vis_and_any_backend(small, attentive, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras_vis", None)
    monkeypatch.setattr(keras.config, "backend", lambda: "openvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)  # as if it were installed
    assert cam(small, images_of(32)).any()
    assert heatmaps(attentive, images_of(32), "attention").any()


def test_further_training_changes_the_maps(classifier):
    model = keras.models.clone_model(classifier)
    model.set_weights(classifier.get_weights())
    images = images_of(32)
    methods = ("cam", "grad_cam", "saliency")
    before = {method: heatmaps(model, images, method, 0) for method in methods}
    kernel, bias = model.layers[-1].get_weights()
    others = kernel * np.linspace(-1, 1, len(kernel))[:, None]
    model.layers[-1].set_weights([others, bias])
    for method in methods:
        assert not np.allclose(heatmaps(model, images, method, 0), before[method], atol=0.1)


def test_cam_shows_the_bright_square():
    images = np.full((1, 32, 32, 3), -0.5, np.float32)
    images[0, 8:14, 20:26] = 1
    (heat,) = cam(brightness_model(), images, frames=[(0, 0, 32, 32)])
    np.testing.assert_allclose(heat[9:13, 21:25], 1, rtol=1e-5)
    heat[7:15, 19:27] = 0
    assert not heat.any()  # where the brightness is below 0


def test_an_ensemble_is_the_mean_of_its_members(small):
    other = built(seed=2)
    images = images_of(32)
    expected = (cam(small, images) + cam(other, images)) / 2
    np.testing.assert_allclose(cam([small, other], images), expected, atol=1e-5)
    expected = (small.predict_on_batch(images) + other.predict_on_batch(images))[:, 0] / 2
    np.testing.assert_allclose(probabilities([small, other], images), expected, rtol=1e-5)


def test_which_methods_a_model_allows(small, attentive):
    assert methods_for(small) == [name for name in METHODS if name not in ("attention", "learned")]
    assert methods_for(attentive) == [name for name in METHODS if name not in ("cam", "learned")]


# Padding


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (33, 32), (50, 9)])
def test_padding_is_masked(small, shape):
    radiograph = np.random.default_rng(0).integers(1, 256, shape, np.uint8)
    square = resize_with_pad(radiograph, 32)
    images = np.repeat(square[None, ..., None] / 127.5 - 1, 3, axis=3)
    heat = heatmaps(small, images, "saliency")
    assert not heat[0][square == 0].any()
    assert heat[0][square > 0].min() > 0
    assert heat.max() == 1
    ((top, left, height, width),) = frames_of(images)
    assert (square[top : top + height, left : left + width] > 0).all()
    assert height * width == (square > 0).sum()


def test_a_blank_image_has_no_padding():
    assert frames_of(np.zeros((1, 8, 8, 3))).tolist() == [[0, 0, 8, 8]]


def test_given_frames_count_instead(small):
    heat = heatmaps(small, images_of(32), "saliency", frames=[(0, 0, 32, 32), (4, 0, 10, 32)])
    assert heat[0].all()
    assert not heat[1, :4].any()
    assert not heat[1, 14:].any()
    assert heat[1, 4:14].max() == 1


# Memory


def test_a_model_that_is_gone_leaves_nothing_behind():
    model = build_model("small_cnn", None, image_size=32)
    cam(model, images_of(32))
    parts = [weakref.ref(part) for part in graph._MADE[model].values()]
    del model
    gc.collect()  # the model, and then what was derived from it
    gc.collect()
    assert parts
    assert all(part() is None for part in parts)


# Errors


def test_what_is_no_functional_model():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="needs a functional model with one input and one output"):
        cam(Subclassed(), images_of(32))
    with pytest.raises(ValueError, match=r"must be a keras.Model, a Run or a list.*Received: str"):
        cam("best.keras", images_of(32))
    with pytest.raises(ValueError, match=r"Received: an empty list"):
        cam([], images_of(32))


@pytest.mark.parametrize(
    ("head", "layer"),
    [
        (("pool", "dense:8:relu"), "'head1_dense' (Dense)"),
        (("flatten",), "'head0_flatten' (Flatten)"),
        (("pool", "residual:8:0.1"), "'head1_residual_relu' (ReLU)"),
    ],
)
def test_a_head_that_cam_cannot_explain(head, layer):
    model = build_model("small_cnn", None, image_size=32, head=head)
    with pytest.raises(ValueError, match=r"cam needs a head of .* Use grad_cam") as caught:
        cam(model, images_of(32))
    assert f"Received: {layer}" in str(caught.value)
    assert heatmaps(model, images_of(32), "grad_cam").shape == (2, 32, 32)


def test_a_wrong_class(small, classifier):
    with pytest.raises(ValueError, match=r"must be one of 0 to 3. Received: 4"):
        cam(classifier, images_of(32), 4)
    with pytest.raises(ValueError, match=r"Received: 'abnormal elbow'. A keras.Model knows its"):
        cam(classifier, images_of(32), "abnormal elbow")
    with pytest.raises(ValueError, match="has one output, the probability of abnormality"):
        cam(small, images_of(32), 0)


@pytest.mark.parametrize("shape", [(2, 40, 40, 3), (32, 32, 3), (2, 32, 32, 1)])
def test_images_of_another_shape(small, shape):
    with pytest.raises(ValueError, match=r"must be float \(B, 32, 32, 3\).*Received: \("):
        cam(small, np.zeros(shape))


def test_images_that_are_no_squares():
    images = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(4, 3, padding="same")(images)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(images, keras.layers.Dense(1, "sigmoid")(pooled))
    assert cam(model, np.ones((1, 32, 32, 3))).shape == (1, 32, 32)
    with pytest.raises(ValueError, match=r"must be squares.*Received: \(1, 32, 48, 3\)"):
        cam(model, np.ones((1, 32, 48, 3)))


@pytest.mark.parametrize("head", [("flatten",), ("pool", "dense:8:relu")])
def test_a_learned_map_is_not_what_grad_cam_explains(head):
    plain = build_model("small_cnn", None, image_size=32, head=head)
    beside = build_model("small_cnn", None, image_size=32, head=("map:4:0.2", *head))
    assert graph.layer_name(beside, None) == graph.layer_name(plain, None)


def test_images_that_are_no_numbers(small):
    with pytest.raises(ValueError, match="some that are NaN or infinite"):
        cam(small, np.full((1, 32, 32, 3), np.nan))


@pytest.mark.parametrize("frames", [[[0, 0, 32, 32]], 2 * [[8, 0, 32, 32]], 2 * [[-1, 0, 9, 9]]])
def test_frames_that_do_not_fit(small, frames):
    with pytest.raises(ValueError, match=r"frames must be int \(2, 4\), .* square of 32 x 32"):
        cam(small, images_of(32), frames=frames)


def test_no_image(small):
    with pytest.raises(ValueError, match="images holds none"):
        cam(small, np.zeros((0, 32, 32, 3)))


# Runs

USUAL = images_of(32) / 2 - 0.5
"""Dark, as radiographs are."""


@pytest.fixture
def run(classifier, tmp_path):
    """A run folder, as far as it is needed here."""
    classifier.save(tmp_path / "best.keras")
    inputs = {"preprocessing": "tf", "low": -1.0, "high": 1.0, "mean": -0.5, "deviation": 0.4}
    (tmp_path / "run.json").write_text(json.dumps({"classes": CLASSES, "inputs": inputs}))
    return Run(tmp_path)


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_run_knows_its_classes(run, classifier):
    for index, name in enumerate(CLASSES):
        expected = cam(classifier, USUAL, index)
        assert_maps_equal(cam(run, USUAL, name), expected)
        assert_maps_equal(cam([run, run], USUAL, index), expected)
    with pytest.raises(ValueError, match=r"must be one of abnormal elbow, .* Received: 'elbow'"):
        cam(run, USUAL, "elbow")


@pytest.mark.parametrize(
    "images",
    [
        USUAL * 127.5 + 127.5,
        USUAL / 2 + 0.5,
        USUAL / 127.5,
        np.zeros_like(USUAL) - 0.5,
        np.maximum(USUAL, -0.5),
    ],
    ids=["grey levels", "from 0 to 1", "divided twice", "blank", "nothing black"],
)
def test_a_run_warns_of_another_range(run, images):
    with pytest.warns(Notice, match="unlike those the run was trained on.*preprocessing, 'tf'"):
        cam(run, images, 0)


def test_a_run_of_before_the_statistics_does_not_warn(run, recwarn):
    (run.path / "run.json").write_text(json.dumps({"classes": CLASSES}))
    cam(run, USUAL * 100, 0)
    assert not [one for one in recwarn if "unlike" in str(one.message)]


def test_a_run_folder_that_was_trained_anew_is_loaded_anew(run, small):
    cam(run, USUAL, 0)
    small.save(run.path / "best.keras")
    shutil.copystat(__file__, run.path / "best.keras")  # another time of change
    assert_maps_equal(cam(run, USUAL), cam(small, USUAL))


def test_a_run_of_float16_is_differentiated_in_float32(members, tmp_path):
    folder = shutil.copytree(members / "member0", tmp_path / "run")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build_model("small_cnn", None, image_size=32)
    finally:
        keras.config.set_dtype_policy(policy)
    model.save(folder / "best.keras")
    opened = model_of(Run(folder))
    assert {layer.compute_dtype for layer in opened.layers} == {"float32"}
    np.testing.assert_array_equal(opened.get_weights()[0], model.get_weights()[0])
