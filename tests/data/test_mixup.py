"""Mixup: two views, their labels and their weights in one."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from batches import SIZE, dataset, one_pass
from sklearn.metrics import log_loss

from mura_tf.data.augment import mixed
from mura_tf.data.pipeline import make_dataset
from mura_tf.data.table import VIEW_KEY
from mura_tf.training.recipe import Recipe

ALONE = {"training": True, "augment": ("mixup:0.4",)}
PLAIN = {"training": True, "augment": ()}


@pytest.mark.parametrize("classes", [0, 3])
def test_the_loss_of_a_mixture_is_the_mixture_of_losses(classes):
    """`scikit-learn`'s cross entropy, a view counting as often as its label and weight say."""
    rng = np.random.default_rng(classes)
    count, width = 6, classes or 2
    truth = rng.integers(0, width, count)
    labels = np.eye(width)[truth] if classes else truth.astype(float)
    weights, share = rng.uniform(0.5, 2, count), 0.3
    said = rng.dirichlet(np.ones(width), count)
    parts = [tf.constant(part, tf.float32) for part in (np.zeros((count, 2, 2, 3)), labels)]
    _, mixture, both = mixed(*parts, tf.constant(weights, tf.float32), tf.constant(share))

    def loss(labels, weights):
        """The sum over views and classes, each class of a view a row."""
        shares = labels if classes else np.stack([1 - labels, labels], axis=1)
        rows, columns = np.repeat(said, width, axis=0), np.tile(np.arange(width), count)
        counted = (shares * np.asarray(weights)[:, None]).ravel()
        return log_loss(columns, rows, sample_weight=counted, normalize=False, labels=range(width))

    expected = share * loss(labels, weights) + (1 - share) * loss(labels[::-1], weights[::-1])
    assert loss(np.asarray(mixture, float), both) == pytest.approx(expected, rel=1e-5)


def shares_of(views, **settings):
    """Of each step: the share of the first of two, by the pixels."""
    mixtures, plain = (
        dataset(views, batch_size=8, **(kind | settings)).as_numpy_iterator()
        for kind in (ALONE, PLAIN)
    )
    shares = []
    for (images, labels, weights), (own, own_labels, own_weights) in zip(
        mixtures, plain, strict=True
    ):
        apart = (own - own[::-1]).ravel()
        share = float((images - own[::-1]).ravel() @ apart / (apart @ apart))
        np.testing.assert_allclose(images, share * own + (1 - share) * own[::-1], atol=0.02)
        expected = share * own_weights + (1 - share) * own_weights[::-1]
        np.testing.assert_allclose(weights, expected, rtol=1e-3)
        positive = share * own_weights * own_labels
        positive += (1 - share) * (own_weights * own_labels)[::-1]
        np.testing.assert_allclose(labels * weights, positive, atol=1e-3)
        shares.append(round(share, 3))
    return shares


def test_images_labels_and_weights_are_mixed_alike(views):
    first = shares_of(views, seed=5)
    assert len(set(first)) == len(first) > 1
    assert all(0 <= share <= 1 for share in first)
    assert shares_of(views, seed=5) == first
    assert shares_of(views, seed=6) != first
    assert shares_of(views, seed=5, first_epoch=1) != first


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_weights_of_0_leave_no_nan(share):
    images, labels = tf.zeros((5, 2, 2, 3)), tf.constant([0.0, 1, 0, 1, 1])
    weights = tf.constant([0.0, 2, 0, 0, 0])
    _, mixture, both = mixed(images, labels, weights, tf.constant(share))
    counted = np.asarray(both) > 0
    np.testing.assert_allclose(both, share * weights + (1 - share) * weights[::-1])
    assert np.isfinite(mixture).all() and (np.asarray(mixture)[counted] == 1).all()


def test_it_goes_with_the_other_augmentations(views):
    both = ("flip", "rotation:20", "mixup:1")
    mixture = one_pass(dataset(views, training=True, augment=both))
    turned = one_pass(dataset(views, training=True, augment=both[:2]))
    assert mixture[0].shape == turned[0].shape
    assert np.abs(mixture[0] - turned[0]).max() > 1
    assert len(np.unique(mixture[1])) > len(np.unique(turned[1])) == 2


def test_there_is_none_in_evaluation(views):
    found, plain = one_pass(dataset(views, augment=("mixup:1",))), one_pass(dataset(views))
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_array_equal(one, other)


def test_boxes_are_of_one_view(views):
    boxes = pd.DataFrame(columns=[*VIEW_KEY, "x", "y", "width", "height"])
    with pytest.raises(ValueError, match="lays two views over each other; boxes and"):
        make_dataset(views, image_size=SIZE, training=True, augment=("mixup:0.2",), boxes=boxes)
    head = ("map:16:0.2", "pool")
    with pytest.raises(ValueError, match=r"Give the map the weight 0, or leave 'mixup' out"):
        Recipe(augment=("mixup:0.2",), head=head)
    Recipe(augment=("mixup:0.2",), head=("map:16:0", "pool"))
