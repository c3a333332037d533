"""Randomized weights, rank correlation, deletion and insertion, each on a case that is known."""

import keras
import numpy as np
import pandas as pd

from mura_tf.explain.sanity import SHARES, deletion_and_insertion, randomized, rank_correlations
from mura_tf.models.build import build_model


def test_randomized_weights_are_others_in_the_same_graph():
    model = build_model("small_cnn", None, image_size=32)
    other = randomized(model, seed=1)
    assert [layer.name for layer in other.layers] == [layer.name for layer in model.layers]
    kernels = [
        (one, two)
        for one, two in zip(model.get_weights(), other.get_weights(), strict=True)
        if one.ndim > 1
    ]
    assert kernels
    assert not any(np.allclose(one, two) for one, two in kernels)
    for one, two in zip(other.get_weights(), randomized(model, seed=1).get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert keras.ops.shape(other.output) == keras.ops.shape(model.output)


def test_rank_correlations_are_pandas():
    rng = np.random.default_rng(0)
    heat, other = rng.random((2, 3, 8, 8)).round(1)  # with ties
    other[1] += 3 * heat[1]
    inside = np.zeros((3, 8, 8), bool)
    inside[:, 2:7] = True
    expected = [
        pd.Series(one[2:7].ravel()).corr(pd.Series(two[2:7].ravel()), method="spearman")
        for one, two in zip(heat, other, strict=True)
    ]
    np.testing.assert_allclose(rank_correlations(heat, other, inside), expected)


def test_a_constant_map_agrees_with_nothing():
    heat = np.random.default_rng(0).random((1, 8, 8))
    inside = np.ones((1, 8, 8), bool)
    assert rank_correlations(heat, np.zeros((1, 8, 8)), inside) == 0


def bright_share(images):
    """A "probability" that is the share of bright pixels."""
    return (images[..., 0] > 0.5).mean(axis=(1, 2))


def test_deletion_and_insertion_of_a_known_order():
    image = np.zeros((1, 20, 20, 3), np.float32)
    image[0, 9:11] = 1  # a tenth of the pixels, and blurred they are dark
    inside = np.ones((1, 20, 20), bool)
    right = image[..., 0]
    deletion, insertion = deletion_and_insertion(bright_share, image, right, inside)
    np.testing.assert_allclose(deletion[0], [0.1, 0.05] + 5 * [0])
    np.testing.assert_allclose(insertion[0], [0, 0.05] + 5 * [0.1])
    deletion, insertion = deletion_and_insertion(bright_share, image, 1 - right, inside)
    np.testing.assert_allclose(deletion[0], 6 * [0.1] + [0])
    np.testing.assert_allclose(insertion[0], 6 * [0] + [0.1])


def test_ties_are_deleted_in_random_order():
    image = np.zeros((1, 20, 20, 3), np.float32)
    image[0, ::4] = 1  # a quarter, in rows too thin to stay bright when blurred
    inside = np.ones((1, 20, 20), bool)
    deletion, _ = deletion_and_insertion(bright_share, image, np.zeros((1, 20, 20)), inside)
    np.testing.assert_allclose(deletion[0], 0.25 * (1 - SHARES), atol=0.02)


def test_padding_is_left_alone():
    image = np.random.default_rng(0).random((1, 20, 20, 3)).astype(np.float32)
    inside = np.zeros((1, 20, 20), bool)
    inside[:, 5:15] = True
    steps = []

    def keep(images):
        steps.extend(images)
        return np.zeros(len(images))

    deletion_and_insertion(keep, image, inside.astype(float), inside)
    assert len(steps) == 2 * len(SHARES) - 2  # the ends are shared
    for step in steps:
        np.testing.assert_array_equal(step[:5], image[0, :5])
        np.testing.assert_array_equal(step[15:], image[0, 15:])
    np.testing.assert_array_equal(steps[0], image[0])
