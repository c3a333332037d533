"""Where lesions are, beside the labels of a batch: as the boxes say, and moved with the pixels."""

import cv2
import numpy as np
import pandas as pd
import pytest
from batches import SIZE, dataset

from mura_tf.data.boxes import boxes_above
from mura_tf.data.table import VIEW_KEY
from mura_tf.data.views import load_mura

AUGMENT = ("flip", "rotation:20", "shift:0.1", "zoom:0.2")


def batches_of(views, boxes, **settings):
    """(images, labels, lesions) of a pass, views in their order within batches."""
    parts = dataset(views, boxes=boxes, **settings).as_numpy_iterator()
    parts = [(images, y["labels"], y["lesions"]) for images, y, _ in parts]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


@pytest.fixture(scope="module")
def shown(lesions):
    views = load_mura(lesions)
    return views, boxes_above(views)


def test_lesions_lie_on_the_bright_squares(shown):
    views, boxes = shown
    images, labels, masks = batches_of(views, boxes)
    assert masks.shape == (len(views), SIZE, SIZE) and masks.dtype == np.float32
    assert labels.tolist() == views.label.tolist()
    assert np.array_equal(masks.max(axis=(1, 2)), views.label)
    bright = images[..., 0] > 150
    assert np.mean(bright == (masks > 0)) > 0.99  # the edge is interpolated


@pytest.mark.parametrize("augment", [("flip",), AUGMENT], ids=",".join)
def test_lesions_are_moved_with_the_pixels(shown, augment):
    """Of abnormal views, every bright pixel lies in a lesion and every lesion on bright pixels."""
    views, boxes = shown
    views = views[views.label == 1]
    images, _, masks = batches_of(views, boxes, training=True, augment=augment, seed=1)
    still = batches_of(views, boxes)[2]
    assert not np.array_equal(np.sort(masks.sum(axis=1), 0), np.sort(still.sum(axis=1), 0))
    assert masks.min() >= 0 and masks.max() <= 1
    overlap = [
        (np.minimum(one, bright).sum() / np.maximum(one, bright).sum())
        for one, bright in zip(masks > 0.5, images[..., 0] > 150, strict=True)
    ]
    assert np.mean(overlap) > 0.7  # of squares of 6 x 5 pixels, to half a pixel


def test_an_abnormal_view_without_a_box_is_unknown(shown):
    views, boxes = shown
    abnormal = views[views.label == 1].iloc[[0]]
    others = boxes.merge(abnormal[VIEW_KEY], on=VIEW_KEY, how="left", indicator=True)
    others = others[others._merge == "left_only"].drop(columns="_merge")
    for settings in ({}, {"training": True, "augment": AUGMENT}):
        masks = batches_of(views, others, **settings)[2]
        unknown = (masks < 0).any(axis=(1, 2))
        assert unknown.sum() == 1
        np.testing.assert_allclose(masks[unknown], -1, atol=1e-6)


def test_a_normal_view_with_a_box_is_unknown(shown):
    views, boxes = shown
    contradicted = boxes[VIEW_KEY].drop_duplicates().iloc[[0]]
    here = views.merge(contradicted, on=VIEW_KEY, how="left", indicator=True)._merge == "both"
    masks = batches_of(views.assign(label=views.label.where(~here.to_numpy(), 0)), boxes)[2]
    assert (masks.min(axis=(1, 2)) < 0).tolist() == here.tolist()


def test_boxes_change_neither_images_nor_weights(shown):
    views, boxes = shown
    settings = {"training": True, "augment": AUGMENT, "seed": 3}
    with_boxes = dataset(views, boxes=boxes, **settings).as_numpy_iterator()
    without = dataset(views, **settings).as_numpy_iterator()
    for (images, y, weights), expected in zip(with_boxes, without, strict=True):
        np.testing.assert_allclose(images, expected[0], atol=1e-2)
        np.testing.assert_array_equal(y["labels"], expected[1])
        np.testing.assert_allclose(weights, expected[2], rtol=1e-6)


def test_views_of_other_shapes_have_their_boxes_on_the_square(tmp_path):
    """A wide radiograph lies between black bands, and its box with it."""
    image = np.zeros((40, 80), np.uint8)
    image[20:30, 40:60] = 255
    cv2.imwrite(str(tmp_path / "wide.png"), image)
    key = dict(zip(VIEW_KEY, ["train", "hand", "p", "s", "wide.png"], strict=True))
    views = pd.DataFrame([key | {"label": 1, "path": str(tmp_path / "wide.png")}])
    boxes = pd.DataFrame([key | {"x": 0.5, "y": 0.5, "width": 0.25, "height": 0.25}])
    settings = {"class_weights": {"hand": (1.0, 1.0)}}
    images, _, (mask,) = batches_of(views, boxes, **settings)
    assert np.array_equal(mask > 0, images[0, ..., 0] > 127)
