"""Heatmaps: the identities of class activation maps, each method against an oracle, the errors."""

import gc
import json
import shutil
import sys
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.ndimage import zoom

from mura_tf.data.radiograph import resize_with_pad
from mura_tf.explain import heatmaps as explain
from mura_tf.explain import methods as heatmap_methods
from mura_tf.explain.heatmaps import cam, frames_of, heatmaps, methods_for, probabilities, raw_cam
from mura_tf.explain.methods import METHODS
from mura_tf.models import graph
from mura_tf.models.build import build_model
from mura_tf.models.graph import layer_name, logits_of
from mura_tf.training.run import Run

pytestmark = [
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run"),
    pytest.mark.usefixtures("eagerly"),
]

PAPER = ["mobilenet_v2", "densenet169", "xception"]
PAPER += [f"efficientnet_b{number}" for number in range(4)]
HEAD_003 = ("squeeze_excite:4", "attention:3", "pool", "residual:8:0.1")
CLASSES = ("abnormal elbow", "abnormal wrist", "normal elbow", "normal wrist")
NATIVE = ["cam", "attention"]
"""The methods that need no tf-keras-vis."""


def images_of(side, count=2, seed=0):
    """Of [-1, 1], without padding."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, side, side, 3)).astype("float32")


def built(backbone="small_cnn", side=32, seed=1, **settings):
    """A model whose head is as training could have made it: no weight at its initial value."""
    keras.utils.set_random_seed(seed)
    model = build_model(backbone, None, image_size=side, **settings)
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.name.startswith(("head", "probabilit")) and layer.weights:
            drawn = [rng.normal(0, 1, weight.shape) for weight in layer.get_weights()]
            if isinstance(layer, layers.BatchNormalization):
                drawn[-1] = rng.uniform(0.5, 2, drawn[-1].shape)  # the variance
            layer.set_weights(drawn)
    images, output = images_of(side), model.layers[-1]
    kernel, bias = output.get_weights()
    # logits around 0, or a float32 probability could not tell them
    kernel /= max(1, np.abs(logits_of(model).predict_on_batch(images) - bias).max())
    output.set_weights([kernel, bias])
    if "cam" in methods_for(model):  # and something to see
        for index in range(len(bias)):
            maps, _ = raw_cam(model, images, index if len(bias) > 1 else None)
            kernel[:, index] *= 1 if maps.max() > 0 else -1
        output.set_weights([kernel, bias])
    return model


@pytest.fixture(scope="module")
def small():
    tf.config.run_functions_eagerly(True)
    return built()


@pytest.fixture(scope="module")
def classifier():
    tf.config.run_functions_eagerly(True)
    return built(head=("pool", "dense:16", "batch_norm", "dropout:0.5"), classes=4)


@pytest.fixture(scope="module")
def attentive():
    tf.config.run_functions_eagerly(True)
    return built(head=HEAD_003)


def brightness_model(side=32):
    """Its features are local brightness and its logit 6 times their mean minus 1."""
    images = keras.Input((side, side, 3))
    features = layers.Conv2D(1, 3, padding="same", name="brightness")(images)
    output = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(features))
    model = keras.Model(images, output, name="brightness_model")
    model.get_layer("brightness").set_weights([np.full((3, 3, 3, 1), 1 / 27), np.zeros(1)])
    model.layers[-1].set_weights([np.full((1, 1), 6.0), np.array([-1.0])])
    return model


def linear_model(side=8):
    images = keras.Input((side, side, 3))
    output = layers.Dense(1, activation="sigmoid")(layers.Flatten()(images))
    model = keras.Model(images, output)
    rng = np.random.default_rng(0)
    model.layers[-1].set_weights([rng.normal(0, 0.01, (side * side * 3, 1)), np.zeros(1)])
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
    np.testing.assert_array_equal(cam(reloaded, images), cam(small, images))


def test_cam_needs_no_tf_keras_vis_and_any_backend(small, attentive, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras_vis", None)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert cam(small, images_of(32)).any()
    assert heatmaps(attentive, images_of(32), "attention").any()


def test_further_training_changes_the_maps(classifier):
    images = images_of(32)
    methods = ("cam", "grad_cam", "saliency")
    before = {method: heatmaps(classifier, images, method, 0) for method in methods}
    output = classifier.layers[-1]
    weights = output.get_weights()
    output.set_weights([-weights[0], weights[1]])
    for method in methods[:2]:
        assert not np.allclose(heatmaps(classifier, images, method, 0), before[method])
    np.testing.assert_allclose(
        heatmaps(classifier, images, "saliency", 0), before["saliency"], atol=1e-5
    )
    output.set_weights(weights)


# Each method against an oracle


def test_cam_shows_the_bright_square():
    images = np.full((1, 32, 32, 3), -0.5, np.float32)
    images[0, 8:14, 20:26] = 1
    heat = cam(brightness_model(), images, frames=[(0, 0, 32, 32)])
    assert heat[0, 9:13, 21:25].min() == 1
    assert heat[0, 7:15, 19:27].sum() == heat.sum()


@pytest.mark.parametrize("method", [name for name in METHODS if name != "attention"])
def test_a_map_depends_on_its_image_alone(small, method):
    images = images_of(32, explain.BATCH + 1)
    maps = heatmaps(small, images, method)
    assert maps.dtype == np.float32
    assert maps.shape == (explain.BATCH + 1, 32, 32)
    assert (maps >= 0).all()
    assert (maps.max(axis=(1, 2)) == 1).any()
    np.testing.assert_allclose(heatmaps(small, images[-1:], method), maps[-1:], atol=1e-4)


@pytest.mark.parametrize("method", ["saliency", "smoothgrad"])
def test_the_gradients_of_a_linear_model_are_its_weights(method):
    model = linear_model()
    kernel = np.abs(model.layers[-1].get_weights()[0]).reshape(8, 8, 3).max(axis=-1)
    heat = heatmaps(model, images_of(8), method)
    np.testing.assert_allclose(heat, np.stack(2 * [kernel / kernel.max()]), rtol=1e-4)


def test_grad_cam_plus_plus_by_its_formula(small):
    """Chattopadhay et al., equations 10, 11, 15 and 19; the same in closed form, view by view."""
    images = images_of(32)
    features = keras.Model(small.input, small.get_layer("stage4_relu").output)
    maps = features.predict_on_batch(images)
    head = keras.Model(small.get_layer("stage4_relu").output, logits_of(small).output)
    with tf.GradientTape() as tape:
        tape.watch(held := tf.constant(maps))
        logits = head(held)
    gradients = tape.gradient(logits, held).numpy()
    alphas = gradients**2 / (2 * gradients**2 + gradients**3 * maps.sum(axis=(1, 2), keepdims=True))
    alphas /= alphas.sum(axis=(1, 2), keepdims=True)
    weights = (np.maximum(gradients, 0) * alphas).sum(axis=(1, 2))
    expected = np.maximum(np.einsum("bhwc,bc->bhw", maps, weights), 0)
    assert_map_of(heatmaps(small, images, "grad_cam_plus_plus"), expected)


@pytest.mark.parametrize("bias", [200, -200])
def test_grad_cam_plus_plus_of_a_sure_model(small, bias):
    """Its exponential of the logit scales a map, and must not overflow."""
    sure = keras.models.clone_model(small)
    sure.set_weights([*small.get_weights()[:-1], np.array([bias], "float32")])
    expected = heatmaps(small, images_of(32), "grad_cam_plus_plus")
    np.testing.assert_allclose(
        heatmaps(sure, images_of(32), "grad_cam_plus_plus"), expected, atol=1e-5
    )


def test_smoothgrad_averages_signed_gradients():
    """Smilkov et al., section 3: noise that changes the gradient's sign cancels out."""
    images = keras.Input((8, 8, 3))
    squared = layers.Lambda(lambda x: x**2)(images)  # its gradient 2 x is the noise's, around 0
    output = layers.Dense(1, activation="sigmoid")(layers.Flatten()(squared))
    model = keras.Model(images, output)
    model.layers[-1].set_weights([np.ones((192, 1)), np.zeros(1)])
    batch = np.zeros((1, 8, 8, 3), "float32")
    batch[0, 2, 3], batch[0, 5, 5, 0] = 0.5, 2  # twice a fifth of the range is the deviation
    rng = np.random.default_rng(0)
    noise = [
        rng.standard_normal((8, 8, 3), np.float32) for _ in range(heatmap_methods.SMOOTH_SAMPLES)
    ]
    deviation = heatmap_methods.SMOOTH_NOISE * np.ptp(batch)
    expected = np.abs(2 * (batch + deviation * np.mean(noise, axis=0))).max(axis=-1)
    heat = heatmaps(model, batch, "smoothgrad", frames=[[0, 0, 8, 8]])
    np.testing.assert_allclose(heat, expected / expected.max(), rtol=1e-4)


def test_score_cam_by_its_formula_on_one_sigmoid(small):
    """tf-keras-vis alone would weigh every channel by softmax of one logit, which is 1."""
    image = images_of(32, 1)
    maps = keras.Model(small.input, small.get_layer("stage4_relu").output).predict_on_batch(image)
    chosen = np.argsort(-maps[0].std(axis=(0, 1)))[: heatmap_methods.SCORE_CAM_CHANNELS]
    expected = 0
    for channel in chosen:
        one = maps[0, ..., channel]
        mask = zoom(one, 32 / len(one), order=1, mode="nearest")
        mask = (mask - mask.min()) / (np.ptp(mask) + keras.backend.epsilon())
        weight = small.predict_on_batch(image * mask[None, ..., None])[0, 0]
        expected = expected + weight * one
    assert_map_of(heatmaps(small, image, "score_cam"), np.maximum(expected, 0)[None])


def test_attention_is_the_mean_of_the_heads(attentive):
    images = images_of(32)
    names = [f"head1_attention_{head}" for head in range(3)]
    maps = [
        keras.Model(attentive.input, attentive.get_layer(name).output).predict_on_batch(images)
        for name in names
    ]
    assert_map_of(heatmaps(attentive, images, "attention"), np.mean(maps, axis=0)[..., 0])


def assert_map_of(heat, maps):
    """Around the middle of each cell a map enlarged has the cell's value, up to one scale."""
    cell = heat.shape[1] // maps.shape[1]
    corners = [
        heat[:, cell // 2 - 1 + down :: cell, cell // 2 - 1 + right :: cell]
        for down in (0, 1)
        for right in (0, 1)
    ]
    found = np.mean(corners, axis=0)
    correlations = [
        np.corrcoef(one.ravel(), other.ravel())[0, 1]
        for one, other in zip(found, maps, strict=True)
    ]
    assert min(correlations) > 0.98


def test_methods_explain_another_layer_than_the_last(small):
    images = images_of(32)
    for method in ("grad_cam", "grad_cam_plus_plus", "score_cam"):
        last = heatmaps(small, images, method)
        np.testing.assert_array_equal(heatmaps(small, images, method, layer="stage4_relu"), last)
        assert not np.allclose(heatmaps(small, images, method, layer="stage2_relu"), last)


def test_the_pooled_layer_is_explained_not_the_last():
    images = keras.Input((16, 16, 3))
    features = layers.Conv2D(4, 3, name="features")(images)
    pooled = layers.GlobalAveragePooling2D()(features)
    model = keras.Model(images, layers.Dense(1, activation="sigmoid")(pooled))
    layers.Conv2D(4, 3, name="later")  # no part of the model
    assert layer_name(model, None) == "features"
    small = build_model("mobilenet_v2_035", None, image_size=32, head=("pool",))  # maps of 1 x 1
    assert layer_name(small, None) == "out_relu"


def test_a_layer_that_others_bypass():
    """In DenseNet, where 003 explains the last convolution but one."""
    images = keras.Input((16, 16, 3))
    first = layers.Conv2D(4, 3, name="first", padding="same")(images)
    bypassed = layers.Conv2D(4, 3, name="bypassed", padding="same", activation="relu")(first)
    both = layers.Concatenate(name="both")([first, bypassed])
    output = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(both))
    model = keras.Model(images, output)
    batch = images_of(16)
    maps = keras.Model(images, bypassed).predict_on_batch(batch)
    weights = model.layers[-1].get_weights()[0][4:]  # those of the bypassed maps
    heat = heatmaps(model, batch, "grad_cam", layer="bypassed")
    expected = np.maximum(maps @ weights[:, 0], 0)
    np.testing.assert_allclose(heat, expected / expected.max(axis=(1, 2), keepdims=True), atol=1e-5)


def bypassed_model():
    """Two convolutions side by side, squared and added up."""
    images = keras.Input((16, 16, 3))
    sides = [
        layers.Conv2D(4, 3, name=name, padding="same", activation="tanh")(images)
        for name in ("one", "other")
    ]
    both = layers.Concatenate(name="both")(sides)
    pooled = layers.GlobalAveragePooling2D()(layers.Multiply(name="squared")([both, both]))
    return keras.Model(images, layers.Dense(1, activation="sigmoid")(pooled))


def test_saliency_of_a_layer_is_the_gradient_that_comes_through_it(small):
    """Beside the gradient of the same sum with the other side held still, by TensorFlow alone."""
    model, batch = bypassed_model(), tf.constant(images_of(16))
    kernel = model.layers[-1].get_weights()[0]
    expected = {}
    for name in ("one", "other", "both"):
        with tf.GradientTape() as tape:
            tape.watch(batch)
            maps = [model.get_layer(side)(batch) for side in ("one", "other")]
            maps = [
                side if name in (label, "both") else tf.stop_gradient(side)
                for label, side in zip(("one", "other"), maps, strict=True)
            ]
            logits = tf.reduce_mean(tf.concat(maps, -1) ** 2, axis=(1, 2)) @ kernel
        heat = np.abs(tape.gradient(logits, batch)).max(axis=-1)
        expected[name] = heat / heat.max(axis=(1, 2), keepdims=True)
        found = heatmaps(model, batch.numpy(), "saliency", layer=name)
        np.testing.assert_allclose(found, expected[name], atol=1e-4)
    whole = heatmaps(model, batch.numpy(), "saliency")
    np.testing.assert_allclose(whole, expected["both"], atol=1e-4)
    assert not np.allclose(expected["one"], expected["both"], atol=0.1)
    images = images_of(32)  # nothing bypasses a layer of a chain
    through = heatmaps(small, images, "saliency", layer="stage3_relu")
    np.testing.assert_allclose(through, heatmaps(small, images, "saliency"), atol=1e-4)


def test_an_ensemble_is_the_mean_of_its_members(small):
    other = built(seed=2)
    images = images_of(32)
    expected = (cam(small, images) + cam(other, images)) / 2
    np.testing.assert_allclose(cam([small, other], images), expected)
    expected = (small.predict_on_batch(images) + other.predict_on_batch(images))[:, 0] / 2
    np.testing.assert_allclose(probabilities([small, other], images), expected, rtol=1e-5)


def test_which_methods_a_model_allows(small, attentive):
    assert methods_for(small) == [name for name in METHODS if name != "attention"]
    assert methods_for(attentive) == [name for name in METHODS if name != "cam"]


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


def nested():
    backbone = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(4, 3)], name="inner")
    images = keras.Input((32, 32, 3))
    pooled = layers.GlobalAveragePooling2D()(backbone(images))
    return keras.Model(images, layers.Dense(1, activation="sigmoid")(pooled), name="outer")


@pytest.mark.parametrize("method", METHODS)
def test_a_nested_model(method):
    with pytest.raises(ValueError, match=r"needs a flat model.* 'inner' inside 'outer' is itself"):
        heatmaps(nested(), images_of(32), method)


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


def test_an_output_whose_logits_are_not_known():
    images = keras.Input((32, 32, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(images))
    model = keras.Model(images, layers.Activation("sigmoid", name="last")(layers.Dense(1)(pooled)))
    with pytest.raises(ValueError, match=r"needs a dense output layer .* 'last' \(Activation\)"):
        cam(model, images_of(32))
    model = keras.Model(images, layers.Dense(1, activation=layers.ReLU(), name="last")(pooled))
    with pytest.raises(ValueError, match=r"needs a dense output layer .* 'last' \(Dense\)"):
        cam(model, images_of(32))


def test_a_wrong_layer_lists_the_candidates(small):
    with pytest.raises(ValueError, match="Near it are: stage4_relu") as caught:
        heatmaps(small, images_of(32), "grad_cam", layer="stage4_rleu")
    assert "the last are: stage3_relu, stage4_pool, stage4_conv, stage4_norm, stage4_relu" in str(
        caught.value
    )
    with pytest.raises(ValueError, match=r"Received: 'pool'"):  # a layer without feature maps
        heatmaps(small, images_of(32), "grad_cam", layer="pool")
    with pytest.raises(ValueError, match="'cam' takes no layer, grad_cam, grad_cam_plus_plus, sco"):
        heatmaps(small, images_of(32), "cam", layer="stage4_relu")


@pytest.mark.parametrize("method", [name for name in METHODS if name != "attention"])
def test_classes_need_a_class(classifier, method):
    with pytest.raises(ValueError, match=r"has 4 classes.* Give one of 0 to 3"):
        heatmaps(classifier, images_of(32), method)


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


def test_an_unknown_method(small):
    with pytest.raises(ValueError, match=r"must be one of cam, grad_cam,.* Received: 'gradcam'"):
        heatmaps(small, images_of(32), "gradcam")


def test_no_attention_to_show(small):
    with pytest.raises(ValueError, match="maps of a head with the layer 'attention:HEADS'"):
        heatmaps(small, images_of(32), "attention")


@pytest.mark.parametrize("method", [name for name in METHODS if name not in NATIVE])
def test_without_tf_keras_vis(small, method, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras_vis", None)
    for name in list(sys.modules):
        if name.startswith("tf_keras_vis."):
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'mura-tf\[explain\]'"):
        heatmaps(small, images_of(32), method)


def test_gradients_on_another_backend(small, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"Received: the backend 'jax'. Set KERAS_BACKEND"):
        heatmaps(small, images_of(32), "saliency")


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
        np.testing.assert_array_equal(cam(run, USUAL, name), expected)
        np.testing.assert_array_equal(cam([run, run], USUAL, index), expected)
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
    with pytest.warns(
        UserWarning, match="unlike those the run was trained on.*preprocessing, 'tf'"
    ):
        cam(run, images, 0)


def test_a_run_of_before_the_statistics_does_not_warn(run, recwarn):
    (run.path / "run.json").write_text(json.dumps({"classes": CLASSES}))
    cam(run, USUAL * 100, 0)
    assert not [one for one in recwarn if "unlike" in str(one.message)]


def test_a_run_folder_that_was_trained_anew_is_loaded_anew(run, small):
    cam(run, USUAL, 0)
    small.save(run.path / "best.keras")
    shutil.copystat(__file__, run.path / "best.keras")  # another time of change
    np.testing.assert_array_equal(cam(run, USUAL), cam(small, USUAL))
