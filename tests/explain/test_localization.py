"""The scores of maps against boxes, each by its definition."""

import numpy as np
import pandas as pd
import pytest

from mura_tf.data.radiograph import padded_box
from mura_tf.explain.localization import (
    THRESHOLDS,
    box_scores,
    chance_maps,
    frame_masks,
    overview,
    score_table,
)

SIDE = 20


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
    assert (row.low, row.high) == pytest.approx((0, 1))  # as views, they would stay near one half


def test_the_overview_marks_what_beats_the_blob(table):
    shown = overview(table.reset_index()).set_index("method")
    assert list(shown.index) == ["cam", "centred_blob", "saliency"]
    assert shown.loc["cam", "pointing"].endswith("] *")
    assert not shown.loc["centred_blob", "pointing"].endswith("*")
    assert shown.loc["centred_blob", "randomized"] == ""
