"""Models to explain, and how their maps are compared."""

import keras
import numpy as np
from keras import layers

from mura_tf.explain.heatmaps import methods_for, raw_cam
from mura_tf.models.build import build_model
from mura_tf.models.graph import logits_of

HEAD_003 = ("squeeze_excite:4", "attention:3", "pool", "residual:8:0.1")


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
    if "cam" in methods_for(model) and "learned" not in methods_for(model):  # something to see
        for index in range(len(bias)):
            maps, _ = raw_cam(model, images, index if len(bias) > 1 else None)
            kernel[:, index] *= 1 if maps.max() > 0 else -1
        output.set_weights([kernel, bias])
    return model


def assert_maps_equal(one, other):
    """But for the rounding of float32 sums; the largest value is 1."""
    np.testing.assert_allclose(one, other, atol=1e-5)


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
