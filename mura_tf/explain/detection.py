"""Boxes from heatmaps, and their average precision against the boxes of lesions."""

import numpy as np
import pandas as pd
import scipy.ndimage
from numpy.typing import ArrayLike

from mura_tf.data.boxes import BOX

IOUS = (0.1, 0.3, 0.5)
"""From which intersection over union on a box counts as found."""
_RECALLS = np.linspace(0, 1, 101)
"""At which COCO reads the precision."""


def boxes_of(heat: ArrayLike, least: float = 0.5) -> pd.DataFrame:
    """A box around each part of a heatmap that is hot enough.

    Args:
        heat: float (n, S, S), heatmaps, or (S, S), one.
        least: the share of a map's maximum that a part's pixels have, in (0, 1].

    Returns:
        A row per box, `view` (the number of the map), `x, y, width, height`, pixels of the square
        from its top left, and `confidence`, the highest heat of the part. The hottest of a view
        first; a map of zeros has none.

    Examples:
        >>> heat = np.zeros((8, 8))
        >>> heat[2:4, 1:6] = 0.9
        >>> mt.boxes_of(heat).to_numpy().tolist()
        [[0.0, 1.0, 2.0, 5.0, 2.0, 0.9]]
    """
    heat = np.asarray(heat, float)
    if heat.ndim not in (2, 3) or not 0 < least <= 1:
        raise ValueError(
            "boxes_of takes heatmaps (n, S, S) or (S, S), and a share in (0, 1] of their maximum. "
            f"Received: {heat.shape} and {least!r}."
        )
    rows = []
    for view, one in enumerate(heat.reshape(-1, *heat.shape[-2:])):
        hot = (one > 0) & (one >= least * one.max())
        numbers, count = scipy.ndimage.label(hot, structure=np.ones((3, 3)))
        hottest = scipy.ndimage.maximum(one, numbers, range(1, count + 1))
        found = [
            (
                view,
                across.start,
                down.start,
                across.stop - across.start,
                down.stop - down.start,
                confidence,
            )
            for (down, across), confidence in zip(
                scipy.ndimage.find_objects(numbers), hottest, strict=True
            )
        ]
        rows += sorted(found, key=lambda row: -row[-1])
    kinds = dict.fromkeys(["view", *BOX], int) | {"confidence": float}
    return pd.DataFrame(rows, columns=[*kinds]).astype(kinds)


def average_precision(found: pd.DataFrame, true: pd.DataFrame, iou: float) -> float:
    """The area under precision over recall, as COCO has it.

    From the surest box down, each takes the true box of its view that it overlaps most and that is
    not taken yet, if that is by `iou` or more; then it is right, and otherwise wrong. The precision
    at a recall is the highest at that recall or more, read at 101 recalls from 0 to 1. All boxes
    of a view count, where COCO takes the 100 surest.

    Args:
        found: of `boxes_of`, of all views that are judged, those without a lesion among them.
        true: `view, x, y, width, height`.
        iou: intersection over union, in (0, 1].

    Returns:
        In [0, 1]; NaN where there is no true box.

    Source: Lin et al., "Microsoft COCO", 2014, and its evaluation code.
    """
    if true.empty:
        return np.nan
    right = []
    left = {view: boxes[BOX].to_numpy(float) for view, boxes in true.groupby("view")}
    ranked = found.sort_values("confidence", ascending=False, kind="stable")
    for view, *box in ranked[["view", *BOX]].itertuples(index=False, name=None):
        others = left.get(view, np.empty((0, 4)))
        overlaps = overlap(np.array(box, float), others)
        right.append(len(others) > 0 and overlaps.max() >= iou)
        if right[-1]:
            left[view] = np.delete(others, overlaps.argmax(), axis=0)
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / len(true), _RECALLS, side="left")
    return float(np.append(highest, 0.0)[np.minimum(places, len(highest))].mean())


def overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,) and others (n, 4), each x, y, width and height."""
    first = np.maximum(box[:2], others[:, :2])
    last = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    both = np.prod(np.maximum(last - first, 0), axis=1)
    return both / (np.prod(box[2:]) + np.prod(others[:, 2:], axis=1) - both)
