"""Each method of heatmaps against an oracle, the layers it explains, and what it refuses."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from explained import assert_map_of, assert_maps_equal, images_of
from keras import layers
from scipy.ndimage import zoom

from mura_tf.explain import heatmaps as explain
from mura_tf.explain import methods as heatmap_methods
from mura_tf.explain.heatmaps import cam, heatmaps, raw_cam
from mura_tf.explain.methods import METHODS
from mura_tf.models.build import build_model
from mura_tf.models.graph import affine_head, layer_name, logits_of

pytestmark = pytest.mark.usefixtures("eagerly")
NATIVE = ["cam", "attention", "learned"]
"""The methods that need no tf-keras-vis."""
OF_ANY_HEAD = [name for name in METHODS if name not in ("attention", "learned")]


def linear_model(side=8):
    images = keras.Input((side, side, 3))
    output = layers.Dense(1, activation="sigmoid")(layers.Flatten()(images))
    model = keras.Model(images, output)
    rng = np.random.default_rng(0)
    model.layers[-1].set_weights([rng.normal(0, 0.01, (side * side * 3, 1)), np.zeros(1)])
    return model


# Against an oracle


def test_learned_is_the_heads_map(mapped):
    images = images_of(32)
    logits = keras.Model(mapped.input, mapped.get_layer("head0_map").output)
    expected = 1 / (1 + np.exp(-logits.predict_on_batch(images)[..., 0]))
    assert expected.shape == (2, 8, 8)
    assert_map_of(heatmaps(mapped, images, "learned"), expected)


def test_a_head_with_a_map_is_explained_at_what_it_pools(mapped):
    """CAM has the part of the logit that is pooled; Grad-CAM all that comes through these maps."""
    images = images_of(32)
    features, kernel, _ = affine_head(mapped)
    maps = keras.Model(mapped.input, features).predict_on_batch(images) @ kernel[:, 0]
    assert_map_of(heatmaps(mapped, images, "cam"), np.maximum(maps, 0))
    grad_cam = heatmaps(mapped, images, "grad_cam", layer="stage4_relu")
    np.testing.assert_allclose(heatmaps(mapped, images, "grad_cam"), grad_cam, atol=1e-5)
    with pytest.raises(ValueError, match="is no mean over positions, for its head has a map"):
        raw_cam(mapped, images)


@pytest.mark.parametrize("method", OF_ANY_HEAD)
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


# Layers


def test_methods_explain_another_layer_than_the_last(small):
    images = images_of(32)
    for method in ("grad_cam", "grad_cam_plus_plus", "score_cam"):
        last = heatmaps(small, images, method)
        assert_maps_equal(heatmaps(small, images, method, layer="stage4_relu"), last)
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
    model.layers[-1].kernel.assign(np.linspace(-0.5, 1, 8)[:, None])  # no map is blank
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


@pytest.mark.parametrize("method", OF_ANY_HEAD)
def test_classes_need_a_class(classifier, method):
    with pytest.raises(ValueError, match=r"has 4 classes.* Give one of 0 to 3"):
        heatmaps(classifier, images_of(32), method)


def test_an_unknown_method(small):
    with pytest.raises(ValueError, match=r"must be one of cam, grad_cam,.* Received: 'gradcam'"):
        heatmaps(small, images_of(32), "gradcam")


def test_no_attention_to_show(small):
    with pytest.raises(ValueError, match="maps of a head with the layer 'attention:HEADS'"):
        heatmaps(small, images_of(32), "attention")


def test_no_learned_map_to_show(small):
    with pytest.raises(ValueError, match="the map of a head with the layer 'map:STRIDE:WEIGHT'"):
        heatmaps(small, images_of(32), "learned")


@pytest.mark.parametrize("method", [name for name in METHODS if name not in NATIVE])
def test_without_tf_keras_vis(small, method, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras_vis", None)
    for name in list(sys.modules):
        if name.startswith("tf_keras_vis."):
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'mura-tf\[explain\]'"):
        heatmaps(small, images_of(32), method)


def test_gradients_on_another_backend(small, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "numpy")  # is installed everywhere
    with pytest.raises(ValueError, match=r"Received: the backend 'numpy'. Set KERAS_BACKEND"):
        heatmaps(small, images_of(32), "saliency")
