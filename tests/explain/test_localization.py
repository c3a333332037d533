"""Boxes on the padded square and the scores of maps against them, each by its definition."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from mura_tf.data.radiograph import padded_box, read_radiograph, resize_with_pad
from mura_tf.data.table import VIEW_KEY
from mura_tf.data.views import load_fracatlas, load_mura
from mura_tf.explain.localization import (
    THRESHOLDS,
    box_masks,
    box_scores,
    chance_maps,
    frame_masks,
    load_boxes,
    overview,
    score_table,
)

SIDE = 20


# Boxes


def test_synthetic_boxes_are_the_bright_squares(lesions):
    views = load_mura(lesions)
    boxes = load_boxes(lesions.parent, views)
    assert len(boxes) == (views.label == 1).sum()
    frames = np.array([padded_box(*read_radiograph(path).shape, 64) for path in views.path])
    masks = box_masks(views, boxes, frames, 64)
    for view, mask in zip(views.itertuples(), masks, strict=True):
        square = resize_with_pad(read_radiograph(view.path), 64)
        assert mask.any() == view.label
        assert np.mean((square > 150) == mask) > 0.99  # the edge is interpolated


def test_boxes_of_other_views_are_left_out(lesions):
    views = load_mura(lesions)
    chosen = views[(views.split == "valid") & (views.study_type == "wrist")]
    boxes = load_boxes(lesions, chosen)
    assert 0 < len(boxes) == (chosen.label == 1).sum()
    assert set(boxes.split + boxes.study_type) == {"validwrist"}


@pytest.fixture
def fracatlas_tree(tmp_path):
    """Four readable images of FracAtlas' layout, two with boxes; returns its folder."""
    folder = tmp_path / "FracAtlas"
    rows = ["image_id,hand,leg,hip,shoulder,mixed,fractured"]
    images, annotations = [], []
    for number in range(40):
        name, label = f"IMG{number:07d}.jpg", number % 2
        parent = folder / "images" / ("Non_fractured", "Fractured")[label]
        parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (60, 40), np.uint8)
        cv2.imwrite(str(parent / name), image)
        rows.append(f"{name},1,0,0,0,0,{label}")
        if label:  # drawn on the image before it was shrunk by two
            images.append({"id": number, "width": 80, "height": 120, "file_name": name})
            annotations.append({"image_id": number, "bbox": [8.0, 12.0, 20.0, 30.0]})
    annotations.append({"image_id": 1, "bbox": [60.0, 100.0, 10.0, 10.0]})
    (folder / "dataset.csv").write_text("\n".join(rows))
    (folder / "Annotations" / "COCO JSON").mkdir(parents=True)
    content = {"images": images, "annotations": annotations}
    coco_of(folder).write_text(json.dumps(content))
    return folder


def coco_of(folder):
    return folder / "Annotations/COCO JSON/COCO_fracture_masks.json"


def test_fracatlas_boxes_are_fractions_of_the_image_they_were_drawn_on(fracatlas_tree):
    views = load_fracatlas(fracatlas_tree)
    boxes = load_boxes(fracatlas_tree, views)
    assert len(boxes) == 21
    assert boxes.groupby("view").size().loc["IMG0000001.jpg"] == 2
    first = boxes[["x", "y", "width", "height"]].drop_duplicates().to_numpy()
    np.testing.assert_allclose(
        sorted(first.tolist()), [[0.1, 0.1, 0.25, 0.25], [0.75, 100 / 120, 0.125, 10 / 120]]
    )
    test = views[views.split == "test"]
    assert set(load_boxes(fracatlas_tree, test)["view"]) == set(test[test.label == 1]["view"])


def change_coco(folder, change):
    content = json.loads(coco_of(folder).read_text())
    change(content)
    coco_of(folder).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda coco: coco["annotations"][0].update(bbox=[70, 0, 20, 5]), "lies outside"),
        (lambda coco: coco["annotations"][0].update(bbox=[-0.3, 0, 0.2, 5]), "lies outside"),
        (lambda coco: coco["annotations"][0].update(bbox=[0, 300, 9, 0.5]), "lies outside"),
        (
            lambda coco: coco["images"][0].update(width=120, height=80),
            "is of an image of another shape. Received: .*IMG0000001.jpg with 40x60 pixels",
        ),
        (lambda coco: coco.pop("images"), "must be FracAtlas' COCO JSON"),
        (lambda coco: coco["annotations"][0].update(image_id=7777), "must be FracAtlas' COCO"),
    ],
)
def test_boxes_that_do_not_fit(fracatlas_tree, change, sentence):
    change_coco(fracatlas_tree, change)
    with pytest.raises(ValueError, match=sentence):
        load_boxes(fracatlas_tree, load_fracatlas(fracatlas_tree))


def test_no_boxes(mura):
    with pytest.raises(FileNotFoundError, match=r"there is no .*lesions.csv. Use a synthetic"):
        load_boxes(mura, load_mura(mura))


def test_a_damaged_lesions_csv(mura):
    (mura / "lesions.csv").write_text("split,study_type\ntrain,elbow\n")
    with pytest.raises(ValueError, match="must be a CSV with the columns split, study_type, pati"):
        load_boxes(mura, load_mura(mura))


def views_of(*names):
    table = pd.DataFrame({"view": names, "split": "valid", "study_type": "elbow", "study": "s1"})
    return table.assign(patient=[f"p{index}" for index in range(len(names))])


def boxes_of(views, *boxes):
    columns = ["x", "y", "width", "height"]
    return pd.concat([views[VIEW_KEY], pd.DataFrame(boxes, columns=columns)], axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_box_masks_hold_the_pixels_whose_centre_is_inside(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 0.6, 2)
    width, height = rng.uniform(0.1, 0.4, 2)
    views, frame = views_of("a.png"), (3, 0, 14, 20)
    (mask,) = box_masks(views, boxes_of(views, (x, y, width, height)), np.array([frame]), SIDE)
    for row in range(SIDE):
        for column in range(SIDE):
            across, down = (column + 0.5 - 0) / 20, (row + 0.5 - 3) / 14
            inside = x <= across < x + width and y <= down < y + height
            assert mask[row, column] == inside


def test_a_tiny_box_keeps_one_pixel():
    views = views_of("a.png", "b.png")
    boxes = boxes_of(views, (0.51, 0.51, 0.001, 0.001), (0.9999, 0.0, 0.0001, 0.001))
    masks = box_masks(views, boxes, np.array([(0, 0, 20, 20)] * 2), SIDE)
    assert [np.argwhere(mask).tolist() for mask in masks] == [[[10, 10]], [[0, 19]]]


# Scores


@pytest.fixture(scope="module")
def maps():
    """Eight maps of noise with a box and padding each: heat, boxes, inside."""
    rng = np.random.default_rng(0)
    frames = [padded_box(*rng.integers(30, 90, 2), SIDE) for _ in range(8)]
    inside = frame_masks(frames, SIDE)
    boxes = np.zeros_like(inside)
    for box, (top, left, height, width) in zip(boxes, frames, strict=True):
        box[top + 2 : top + 2 + height // 3, left + 1 : left + 1 + width // 2] = True
    return (rng.random(inside.shape) ** 3 * inside).astype(np.float32), boxes, inside


def test_scores_by_definition(maps):
    heat, boxes, inside = maps
    scores = box_scores(heat, boxes, inside)
    for index, (one, box) in enumerate(zip(heat, boxes, strict=True)):
        assert scores["pointing"][index] == box[np.unravel_index(one.argmax(), one.shape)]
        assert scores["energy"][index] == pytest.approx(one[box].sum() / one.sum(), rel=1e-5)
        for threshold, iou in zip(THRESHOLDS, scores["iou_best"][index], strict=True):
            hot = one >= threshold * one.max()
            assert iou == pytest.approx((hot & box).sum() / (hot | box).sum())
        hot = one >= one.max() / 2
        assert scores["iou_half"][index] == pytest.approx((hot & box).sum() / (hot | box).sum())


def test_a_map_that_is_the_box_has_full_marks(maps):
    _, boxes, inside = maps
    for values in box_scores(boxes.astype(np.float32), boxes, inside).values():
        assert (values == 1).all()


def test_uniform_and_empty_maps_score_the_share_of_the_area(maps):
    _, boxes, inside = maps
    share = boxes.sum(axis=(1, 2)) / inside.sum(axis=(1, 2))
    frames = [
        (rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1)
        for rows, columns in map(np.nonzero, inside)
    ]
    for heat in (chance_maps(np.array(frames), SIDE)["uniform"], np.zeros(inside.shape)):
        for values in box_scores(heat, boxes, inside).values():
            np.testing.assert_allclose(values, np.broadcast_to(share, values.T.shape).T, rtol=1e-6)


def test_scores_do_not_depend_on_the_maps_scale(maps):
    heat, boxes, inside = maps
    once, twice = box_scores(heat, boxes, inside), box_scores(heat / 8, boxes, inside)
    for name in once:
        np.testing.assert_allclose(once[name], twice[name])


def test_the_blob_is_a_gaussian_at_the_centre_of_the_radiograph():
    (blob,) = chance_maps(np.array([(2, 0, 16, 20)]), SIDE)["centred_blob"]
    assert not blob[:2].any()
    assert not blob[18:].any()
    # the centre lies between these four
    np.testing.assert_allclose(blob[9:11, 9:11], blob.max(), rtol=1e-5)
    np.testing.assert_allclose(blob, blob[::-1], rtol=1e-5)
    np.testing.assert_allclose(blob, blob[:, ::-1], rtol=1e-5)
    # one standard deviation (5 columns) to the side of the centre lies between two pixels
    across = blob[9] / blob[9].max() * np.exp(-0.005)
    assert across[14] > np.exp(-0.5) > across[15]


# The table


def values_of(n=30, seed=0):
    rng = np.random.default_rng(seed)
    blob, best = rng.random(n), rng.random((n, 3))
    return {
        "cam": {"pointing": (blob > 0.2).astype(float), "deletion": blob - 0.1, "iou_best": best},
        "centred_blob": {"pointing": np.zeros(n), "deletion": blob, "iou_best": best[:, :1]},
        "saliency": {"pointing": np.zeros(n), "randomized": blob},
    }


@pytest.fixture(scope="module")
def table():
    patients = [f"p{index // 2}" for index in range(30)]
    views = pd.DataFrame({"study_type": ["elbow"] * 10 + ["wrist"] * 20, "patient": patients})
    return score_table(values_of(), views, replicates=500).set_index(
        ["study_type", "method", "score"]
    )


def test_the_table_holds_means_and_gains_over_the_blob(table):
    values = values_of()
    for study_type, rows in (
        ("elbow", slice(10)),
        ("wrist", slice(10, 30)),
        ("overall", slice(30)),
    ):
        cam, blob = (values[name] for name in ("cam", "centred_blob"))
        row = table.loc[study_type, "cam", "pointing"]
        assert row.value == pytest.approx(cam["pointing"][rows].mean())
        assert row.gain == pytest.approx(row.value)
        assert row.views == len(cam["pointing"][rows])
        assert row.patients == row.views / 2
        row = table.loc[study_type, "cam", "deletion"]  # the lower, the better, by 0.1 on each view
        assert row.value == pytest.approx(cam["deletion"][rows].mean())
        np.testing.assert_allclose(row[["gain", "gain_low", "gain_high"]].astype(float), 0.1)
        row = table.loc[study_type, "cam", "iou_best"]
        assert row.value == pytest.approx(cam["iou_best"][rows].mean(axis=0).max())
        assert table.loc[study_type, "centred_blob", "iou_best"].value == pytest.approx(
            blob["iou_best"][rows].mean()
        )
    assert (table.low <= table.value).all()
    assert (table.value <= table.high).all()


def test_what_beats_the_blob(table):
    beats = table.loc["overall"].beats_blob
    assert beats["cam", "pointing"]
    assert beats["cam", "deletion"]
    assert not beats["saliency", "pointing"]  # the same as the blob's
    assert not beats["saliency", "randomized"]  # which the blob has not
    assert np.isnan(table.loc["overall", "saliency", "randomized"].gain)


def test_few_patients_beat_nothing(table):
    assert (table.loc["elbow"].patients == 5).all()
    assert table.loc["elbow", "cam", "deletion"].gain_low > 0
    assert not table.loc["elbow"].beats_blob.any()
    assert table.loc["wrist"].patients.eq(10).all()
    assert table.loc["wrist", "cam", "deletion"].beats_blob


def test_patients_are_resampled_whole():
    values = {"centred_blob": {"energy": np.repeat([0.0, 1.0], 10)}}
    views = pd.DataFrame({"study_type": "elbow", "patient": np.repeat(["p1", "p2"], 10)})
    row = score_table(values, views).iloc[0]
    assert (row.low, row.high) == (0, 1)  # as views, they would stay near one half


def test_the_overview_marks_what_beats_the_blob(table):
    shown = overview(table.reset_index()).set_index("method")
    assert list(shown.index) == ["cam", "centred_blob", "saliency"]
    assert shown.loc["cam", "pointing"].endswith("] *")
    assert not shown.loc["centred_blob", "pointing"].endswith("*")
    assert shown.loc["centred_blob", "randomized"] == ""
