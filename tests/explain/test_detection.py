"""Boxes of heatmaps, and average precision against COCO's own code."""

import contextlib
import io

import cv2
import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mura_tf.data.boxes import BOX
from mura_tf.explain.detection import IOUS, average_precision, boxes_of, overlap


def boxes(*rows):
    """(view, x, y, width, height, confidence) each."""
    return pd.DataFrame(rows, columns=["view", *BOX, "confidence"])


def test_boxes_hold_the_hot_parts():
    rng = np.random.default_rng(0)
    heat = cv2.GaussianBlur(rng.random((64, 64)).astype(np.float32), (0, 0), 3)
    heat = (heat - heat.min()) / np.ptp(heat)
    found = boxes_of(heat, 0.7)
    count, numbers, stats, _ = cv2.connectedComponentsWithStats((heat >= 0.7).astype(np.uint8))
    assert len(found) == count - 1 > 3
    assert sorted(found[BOX].to_numpy().tolist()) == sorted(stats[1:, :4].tolist())
    assert found.confidence.is_monotonic_decreasing and found.confidence[0] == 1
    confidence = {tuple(row[BOX]): row.confidence for _, row in found.iterrows()}
    for part in range(1, count):
        assert confidence[tuple(stats[part, :4])] == pytest.approx(heat[numbers == part].max())


def test_a_part_is_as_hot_as_it_is_itself():
    """An L of 0.6 around a spot of 1: the spot comes first."""
    heat = np.zeros((8, 8))
    heat[1:7, 1], heat[6, 1:7], heat[2, 5] = 0.6, 0.6, 1
    assert boxes_of(heat).to_numpy().tolist() == [[0, 5, 2, 1, 1, 1], [0, 1, 1, 6, 6, 0.6]]


def test_each_map_has_its_own_maximum_and_a_map_of_zeros_no_box():
    heat = np.zeros((3, 8, 8))
    heat[0, 1:3, 2:5], heat[2, 4, 4] = 0.2, 1
    assert boxes_of(heat).to_numpy().tolist() == [[0, 2, 1, 3, 2, 0.2], [2, 4, 4, 1, 1, 1]]
    assert boxes_of(np.zeros((2, 8, 8))).empty
    for wrong in (np.zeros(8), np.zeros((1, 2, 3, 4))):
        with pytest.raises(ValueError, match=r"boxes_of takes heatmaps \(n, S, S\) or \(S, S\)"):
            boxes_of(wrong)
    with pytest.raises(ValueError, match=r"a share in \(0, 1\] of their maximum"):
        boxes_of(heat, 0)


def test_overlap_by_hand():
    found = overlap(np.array([0, 0, 4, 2]), np.array([[2, 0, 4, 2], [0, 0, 4, 2], [9, 9, 1, 1]]))
    assert found.tolist() == [pytest.approx(4 / 12), 1, 0]


def test_average_precision_by_hand():
    """Right, wrong, right of two: precision 1 up to recall 1/2, then 2/3."""
    true = boxes((0, 0, 0, 4, 4, 1), (1, 0, 0, 4, 4, 1))
    found = boxes((0, 0, 0, 4, 4, 0.9), (2, 0, 0, 4, 4, 0.8), (1, 0, 0, 4, 3, 0.7))
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert average_precision(found, true, 0.5) == pytest.approx(expected)
    assert average_precision(found, true, 0.8) == pytest.approx(51 / 101)
    assert average_precision(found[:0], true, 0.5) == 0
    assert np.isnan(average_precision(found, true[:0], 0.5))


def test_a_true_box_is_found_once():
    true = boxes((0, 0, 0, 4, 4, 1))
    twice = boxes((0, 0, 0, 4, 4, 0.9), (0, 0, 0, 4, 4, 0.8))
    assert average_precision(twice, true, 0.5) == 1
    wrong_first = boxes((0, 9, 9, 4, 4, 0.9), (0, 0, 0, 4, 4, 0.8))
    assert average_precision(wrong_first, true, 0.5) == 0.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("iou", IOUS)
def test_average_precision_is_cocos(seed, iou):
    rng = np.random.default_rng(seed)
    true = boxes(
        *((view, *rng.uniform(1, 40, 4), 1) for view in range(12) for _ in range(view % 4))
    )
    near = true.copy()
    near[BOX] += rng.normal(0, 4, near[BOX].shape)
    near[["width", "height"]] = near[["width", "height"]].clip(1)
    others = boxes(*((rng.integers(14), *rng.uniform(1, 40, 4), 0) for _ in range(15)))
    found = pd.concat([near, others], ignore_index=True)
    found["confidence"] = rng.permutation(len(found)) / len(found)
    ours = average_precision(found, true, iou)
    assert ours == pytest.approx(coco(found, true, iou), abs=1e-9)
    assert 0.05 < ours < 0.99


def coco(found, true, iou):
    views = [{"id": view + 1} for view in range(14)]
    truth = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth.dataset = {
            "images": views,
            "categories": [{"id": 1}],
            "annotations": [
                {"id": number + 1, "image_id": row.view + 1, "category_id": 1, "iscrowd": 0}
                | {"bbox": box, "area": box[2] * box[3]}
                for number, (row, box) in enumerate(
                    zip(true.itertuples(), true[BOX].to_numpy().tolist(), strict=True)
                )
            ],
        }
        truth.createIndex()
        rows = found[["view", *BOX, "confidence"]].to_numpy(float)
        said = truth.loadRes(np.column_stack([rows[:, 0] + 1, rows[:, 1:], np.ones(len(rows))]))
        judged = COCOeval(truth, said, "bbox")
        judged.params.iouThrs = np.array([iou])
        judged.evaluate()
        judged.accumulate()
    return judged.eval["precision"][0, :, 0, 0, -1].mean()
