"""Training on boxes: the loss of a map, beside the label's, and that a map learns where."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
from trainings import RECIPE

from mura_tf.data.boxes import box_masks, boxes_above
from mura_tf.data.pipeline import load_images
from mura_tf.data.radiograph import padded_boxes
from mura_tf.data.views import load_mura
from mura_tf.explain.heatmaps import heatmaps
from mura_tf.models.build import build_model
from mura_tf.models.graph import lesion_logits
from mura_tf.training.joint import JointModel, map_loss
from mura_tf.training.train import train

MAPPED = dataclasses.replace(
    RECIPE,
    augment=("flip", "rotation:20"),
    head=("map:4:0.5", "pool", "dropout:0.5"),
    preprocessing="native",
    averaging=0.9,
    schedule="cosine:0.5",
    optimizer="adamw",
    weight_decay=0.01,
    monitor="val_auroc",
    max_epochs=3,
)


def loss_of(lesions, logits):
    return float(map_loss(keras.ops.array(lesions), keras.ops.array(logits)))


def test_of_whole_cells_it_is_keras_focal_loss():
    rng = np.random.default_rng(0)
    cells = (rng.random((3, 8, 8)) < 0.1).astype(np.float32)
    logits = rng.normal(size=(3, 8, 8, 1)).astype(np.float32)
    lesions = cells.repeat(4, axis=1).repeat(4, axis=2)
    focal = keras.losses.BinaryFocalCrossentropy(gamma=2, from_logits=True, reduction="sum")
    expected = float(focal(cells[..., None, None], logits[..., None])) / cells.sum()
    assert loss_of(lesions, logits) == pytest.approx(expected, rel=1e-4)


def test_of_parts_of_cells_by_its_formula():
    rng = np.random.default_rng(1)
    lesions = np.zeros((2, 16, 16), np.float32)
    lesions[0, 3:9, 2:7] = 1
    lesions[1, 0:1, 0:1] = 1  # a sixteenth of one cell, which is the view's largest share
    logits = rng.normal(size=(2, 4, 4, 1)).astype(np.float32)
    total, targets = 0.0, 0.0
    for view, logit in zip(lesions, logits[..., 0], strict=True):
        shares = view.reshape(4, 4, 4, 4).mean(axis=(1, 3))
        for t, z in zip((shares / shares.max()).ravel(), logit.ravel(), strict=True):
            p = 1 / (1 + np.exp(-z))
            total -= (t - p) ** 2 * (t * np.log(p) + (1 - t) * np.log(1 - p))
            targets += t
    assert loss_of(lesions, logits) == pytest.approx(total / targets, rel=1e-4)


def test_views_whose_lesions_are_unknown_do_not_count():
    rng = np.random.default_rng(2)
    lesions = np.zeros((2, 16, 16), np.float32)
    lesions[0, 4:8, 4:8] = 1
    logits = rng.normal(size=(2, 4, 4, 1)).astype(np.float32)
    alone = loss_of(lesions[:1], logits[:1])
    assert loss_of(lesions, logits) > alone
    lesions[1] = -1
    assert loss_of(lesions, logits) == pytest.approx(alone)
    assert loss_of(lesions[1:], logits[1:]) == 0


def test_normal_views_alone_have_a_loss():
    logits = np.zeros((1, 4, 4, 1), np.float32)
    assert loss_of(np.zeros((1, 16, 16), np.float32), logits) == pytest.approx(16 * np.log(2) / 4)


def test_the_loss_is_the_labels_and_the_weighed_maps():
    model = build_model("small_cnn", None, image_size=32, head=("map:4:0.5", "pool"))
    located = JointModel.around(model, 0.5)
    located.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 32, 32, 3)).astype(np.float32)
    labels, weights = np.array([0, 1, 1, 0], np.float32), np.array([1, 2, 3, 4], np.float32)
    lesions = np.zeros((4, 32, 32), np.float32)
    lesions[1, 5:12, 6:20] = 1
    said, logits = (np.asarray(one) for one in located(images, training=False))
    crossed = -np.where(labels == 1, np.log(said[:, 0]), np.log(1 - said[:, 0]))
    of_labels = (weights * crossed).mean()
    settings = {"sample_weight": weights, "return_dict": True}
    found = located.test_on_batch(images, labels, **settings)
    assert found["loss"] == pytest.approx(of_labels, rel=1e-4)
    assert found["accuracy"] == pytest.approx(np.mean((said[:, 0] > 0.5) == labels))
    located.reset_metrics()
    found = located.test_on_batch(images, {"labels": labels, "lesions": lesions}, **settings)
    expected = of_labels + 0.5 * loss_of(lesions, logits)
    assert found["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_map_learns_where_lesions_are(lesions, tmp_path):
    """On unseen views its peak lies in the box; the model that is kept has one output."""
    views = load_mura(lesions)
    recipe = dataclasses.replace(MAPPED, augment=("flip",), learning_rate=0.01, max_epochs=12)
    run = train(recipe, views, tmp_path / "run", verbose=0)
    model = run.model()
    assert model.output_shape == (None, 1)
    assert lesion_logits(model).shape == (None, 8, 8, 1)
    seen = views[(views.split == "valid") & (views.label == 1)].reset_index(drop=True)
    images = load_images(seen, image_size=32, preprocessing=recipe.preprocessing_mode)
    frames = padded_boxes(seen.path, 32)
    heat = heatmaps(run, images, "learned", frames=frames)
    masks = box_masks(seen, boxes_above(seen), frames, 32)
    hits = [mask[one == one.max()].any() for mask, one in zip(masks, heat, strict=True)]
    assert np.mean(hits) >= 0.75


def test_boxes_are_a_part_of_the_data(lesions, tmp_path):
    """A run is not gone on with on others."""
    shutil.copytree(lesions, tmp_path / "MURA-v1.1")
    views = load_mura(tmp_path)
    recipe = dataclasses.replace(MAPPED, max_epochs=1)
    train(recipe, views, tmp_path / "run", verbose=0)
    table = tmp_path / "MURA-v1.1/lesions.csv"
    table.write_text(table.read_text().replace(",8,10", ",8,9"))
    with pytest.raises(ValueError, match="was trained on a data set with the fingerprint"):
        train(recipe, views, tmp_path / "run", verbose=0)
    without = dataclasses.replace(recipe, head=("pool",))
    assert train(without, views, tmp_path / "other", verbose=0).finished


def test_the_history_has_the_labels_loss_beside_the_maps(lesions, folder):
    recipe = dataclasses.replace(MAPPED, head=("map:4:50", "pool"), max_epochs=1)
    history = train(recipe, load_mura(lesions), folder, verbose=0).history.iloc[0]
    assert history.val_data_loss == pytest.approx(history.val_loss, rel=1e-4)
    assert history.loss > 2 * history.data_loss > 0


def test_a_data_set_without_boxes(mura, folder):
    recipe = dataclasses.replace(MAPPED, preprocessing="caffe", max_epochs=1)
    with pytest.raises(FileNotFoundError, match="a map that is trained on boxes needs a data set"):
        train(recipe, load_mura(mura), folder, verbose=0)
    weak = dataclasses.replace(recipe, head=("map:4:0", "pool"))
    assert train(weak, load_mura(mura), folder, verbose=0).finished  # by the labels alone
