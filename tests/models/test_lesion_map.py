"""A head's map: its size, what it says of the view, and what cannot be one."""

import keras
import numpy as np
import pytest
import scipy.special
from networks import outputs

from mura_tf.models.build import build_model
from mura_tf.models.graph import affine_head, lesion_logits
from mura_tf.models.lesion_map import PRIOR

SIDE = 64


@pytest.fixture
def images(images):
    """Small enough that a random model is sure of none."""
    return images / 128


def with_map(stride, backbone="small_cnn", after=("pool",)):
    keras.utils.set_random_seed(0)
    head = (f"map:{stride}:1", *after)
    return build_model(backbone, None, image_size=SIDE, head=head)


@pytest.mark.parametrize("stride", [8, 4, 2])
def test_a_map_has_a_cell_per_stride_and_its_log_sum_exp_enters_the_probability(images, stride):
    model = with_map(stride)
    logits = lesion_logits(model)
    assert logits.shape == (None, SIDE // stride, SIDE // stride, 1)
    dense = model.get_layer("probability")
    parts = keras.Model(model.input, [logits, model.get_layer("pool").output])
    raw, pooled = outputs_of(parts, images)
    said = scipy.special.logsumexp(raw, axis=(1, 2))
    kernel, bias = dense.get_weights()
    expected = scipy.special.expit(np.concatenate([pooled, said], axis=1) @ kernel + bias)
    np.testing.assert_allclose(outputs(model, images), expected, atol=1e-5)


def outputs_of(model, images):
    return [keras.ops.convert_to_numpy(one) for one in model(images, training=False)]


def test_each_cell_begins_improbable():
    """Where the features say nothing."""
    _, bias = with_map(4).get_layer("head0_map").get_weights()
    np.testing.assert_allclose(scipy.special.expit(bias), PRIOR, rtol=1e-5)


@pytest.mark.parametrize("backbone", ["efficientnet_v2_b0", "efficientnet_b0", "mobilenet_v2_035"])
def test_the_backbones_have_maps_of_stride_16(backbone):
    model = with_map(16, backbone)
    assert lesion_logits(model).shape == (None, 4, 4, 1)
    extra = (
        model.count_params()
        - build_model(backbone, None, image_size=SIDE, head=("pool",)).count_params()
    )
    assert extra < 0.5 * model.count_params()


def test_a_map_is_kept_in_a_file(images, tmp_path):
    model = with_map(4)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(outputs(again, images), outputs(model, images), atol=1e-6)
    assert lesion_logits(again).shape == (None, 16, 16, 1)


def test_what_is_pooled_is_told_without_the_map(images):
    """For CAM: the logit is the mean of the folded maps, the bias, and the map's part."""
    model = with_map(4, after=("pool", "batch_norm"))
    features, kernel, bias = affine_head(model)
    maps, raw = outputs_of(keras.Model(model.input, [features, lesion_logits(model)]), images)
    of_map = model.get_layer("probability").get_weights()[0][-1]
    logit = maps.mean(axis=(1, 2)) @ kernel + bias
    logit = logit + scipy.special.logsumexp(raw, axis=(1, 2)) * of_map
    np.testing.assert_allclose(scipy.special.expit(logit), outputs(model, images), atol=1e-5)


@pytest.mark.parametrize("stride", [1, 3, 16, 64])
def test_a_stride_that_the_backbone_lacks(stride):
    with pytest.raises(ValueError, match=f"STRIDE must be .*of 8, 4, 2 at 64 px. Rec.*{stride}"):
        with_map(stride)
