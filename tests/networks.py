"""A small network, and two compared."""

import keras
import numpy as np


def of_one_convolution():
    """A model whose probabilities differ from image to image."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((32, 32, 3)),
        keras.layers.Rescaling(1 / 128),
        keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
    return keras.Sequential(layers, name="tiny")


def outputs(model, images):
    """What `predict` gives, without the seconds that it needs to compile."""
    return keras.ops.convert_to_numpy(model(images, training=False))


def assert_weights_equal(one, other):
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def shape_of_graph(model):
    """Layer classes with their settings, less the names that Keras counts up."""
    settings = [layer.get_config() for layer in model.layers]
    return [
        (type(layer).__name__, {key: value for key, value in one.items() if key != "name"})
        for layer, one in zip(model.layers, settings, strict=True)
    ]
