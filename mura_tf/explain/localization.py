"""Heatmaps against the boxes of lesions: does a method point at them, and better than chance does?

Everything here is NumPy on finished maps. Two maps that know nothing of the model stand beside the
methods and are scored as they are: "uniform", whose every score against boxes is their share of the
radiograph's area, and "centred_blob", which knows that lesions are rarely at the border.
"""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from mura_tf.data.fracatlas import is_fracatlas
from mura_tf.data.layouts import find_dataset
from mura_tf.data.radiograph import read_size
from mura_tf.data.table import VIEW_KEY, unsplit_key
from mura_tf.data.text import is_csv
from mura_tf.evaluation.metrics import bootstrap_weights, interval
from mura_tf.published import OVERALL

UNIFORM, BLOB = "uniform", "centred_blob"
THRESHOLDS = np.arange(1, 20) / 20
"""Of a map's maximum; the fixed one is 0.5."""
SCORES = {
    "pointing": "share of maps whose maximum lies in a box (Zhang et al., 2018, no tolerance)",
    "energy": "share of the map's sum that lies in boxes (Wang et al., 2020)",
    "iou_half": "intersection over union of boxes and map >= half of its maximum",
    "iou_best": "the same at the threshold that is best for the method (Choe et al., 2020)",
    "deletion": "area under the probability while the hottest pixels are blurred; low is good",
    "insertion": "area under the probability while the hottest pixels are restored; high is good",
    "randomized": "rank correlation, without sign, with the maps of random weights; 0 is good",
}
"""`deletion` and `insertion`: Petsiuk et al., 2018. `randomized`: Adebayo et al., 2018."""
LOWER_IS_BETTER = ("deletion",)
FEWEST_PATIENTS = 10
"""That a method is said to beat the blob on; of fewer, resampling says too little."""
_BOX = ["x", "y", "width", "height"]
_COCO = Path("Annotations", "COCO JSON", "COCO_fracture_masks.json")


def box_file(data: str | os.PathLike[str]) -> Path:
    """Where the boxes of a data set are, if it has any; beside a CSV, its `lesions.csv`."""
    if is_csv(data):
        return Path(data).with_name("lesions.csv")
    folder = find_dataset(data)
    return folder / (_COCO if is_fracatlas(folder) else "lesions.csv")


def load_boxes(data: str | os.PathLike[str], views: pd.DataFrame) -> pd.DataFrame:
    """The boxes of lesions on some views.

    Args:
        data: FracAtlas, whose boxes are in `Annotations/COCO JSON/COCO_fracture_masks.json`, or a
            synthetic data set, whose boxes are in `lesions.csv`; or the folder above it.
        views: views table; boxes of other views are left out.

    Returns:
        One row per box: the view's key (`split, study_type, patient, study, view`) and `x, y,
        width, height` as fractions of its width and height, from the top left.

    Raises:
        FileNotFoundError: the data set has no boxes.
        ValueError: a box lies outside its view, or is of an image of another shape.

    Examples:
        >>> boxes = mt.load_boxes("demo/MURA-v1.1", mt.load_mura("demo/MURA-v1.1"))
        >>> list(boxes)[-5:]
        ['view', 'x', 'y', 'width', 'height']
    """
    path = box_file(data)
    if not path.is_file():
        raise FileNotFoundError(
            f"maps are scored against boxes, and there is no {path}. Use a synthetic data set "
            "(mura-tf synthesize), which has a lesions.csv, or FracAtlas with its Annotations."
        )
    boxes = _fracatlas_boxes(path) if path.name == _COCO.name else _synthetic_boxes(path)
    key = [column for column in unsplit_key(boxes) if column in boxes]
    others = [name for name in VIEW_KEY if name in boxes and name not in key]
    boxes = views[[*VIEW_KEY, "path"]].merge(boxes.drop(columns=others), on=key)
    return _as_fractions(boxes, path)


def box_masks(
    views: pd.DataFrame, boxes: pd.DataFrame, frames: np.ndarray, side: int
) -> np.ndarray:
    """Where the boxes of each view lie in its padded square.

    Args:
        views: the n views.
        boxes: of `load_boxes`; one view may have several.
        frames: int (n, 4), see `padded_box`.
        side: S of the square, pixels.

    Returns:
        bool (n, S, S), True on the pixels whose centre lies in a box, and on the one pixel that
        holds the centre of a box too small for that.
    """
    masks = np.zeros((len(views), side, side), bool)
    place = {key: index for index, key in enumerate(_keys(views))}
    for key, box in zip(_keys(boxes), boxes[_BOX].to_numpy(float), strict=True):
        if key in place:
            top, left, height, width = frames[place[key]]
            rows = _covered(top + box[1] * height, box[3] * height)
            columns = _covered(left + box[0] * width, box[2] * width)
            masks[place[key]][rows, columns] = True
    return masks


def frame_masks(frames: np.ndarray, side: int) -> np.ndarray:
    """bool (n, S, S), True on the radiographs, False on the padding."""
    masks = np.zeros((len(frames), side, side), bool)
    for mask, (top, left, height, width) in zip(masks, frames, strict=True):
        mask[top : top + height, left : left + width] = True
    return masks


def chance_maps(frames: np.ndarray, side: int) -> dict[str, np.ndarray]:
    """The two chance levels as heatmaps, float32 (n, S, S).

    The blob is a Gaussian at the radiograph's centre, with a quarter of its height and width as
    standard deviations.
    """
    inside = frame_masks(frames, side)
    places = np.arange(side) + 0.5
    blobs = np.empty(inside.shape, np.float32)
    for blob, (top, left, height, width) in zip(blobs, frames, strict=True):
        down = np.exp(-(((places - top - height / 2) / (height / 4)) ** 2) / 2)
        across = np.exp(-(((places - left - width / 2) / (width / 4)) ** 2) / 2)
        blob[:] = np.outer(down, across)
    return {UNIFORM: inside.astype(np.float32), BLOB: blobs * inside}


def box_scores(heat: np.ndarray, boxes: np.ndarray, inside: np.ndarray) -> dict[str, np.ndarray]:
    """How each map lies to its boxes.

    A map of zeros says nothing, and counts as the uniform one.

    Args:
        heat: float (n, S, S), from 0 up, 0 outside `inside`.
        boxes: bool (n, S, S); at least one pixel of each view.
        inside: bool (n, S, S), the radiographs without padding.

    Returns:
        `pointing, energy, iou_half`, float (n,), and `iou_best`, float (n, thresholds), all in
        [0, 1]. Pointing is the share of the pixels at the maximum that lie in a box: 0 or 1 unless
        several share the maximum.
    """
    pointing, energy, overlaps = [], [], []
    for one, box, frame in zip(heat, boxes, inside, strict=True):
        one = one if one.any() else frame.astype(np.float32)
        hot, hot_in_box = one[frame], one[box & frame]
        highest = hot.max()
        pointing.append((hot_in_box == highest).sum() / (hot == highest).sum())
        energy.append(hot_in_box.sum(dtype=float) / hot.sum(dtype=float))
        levels = THRESHOLDS[:, None] * highest
        both = (hot_in_box >= levels).sum(axis=1)
        either = (hot >= levels).sum(axis=1) + (box & frame).sum() - both
        overlaps.append(both / either)
    iou = np.array(overlaps)
    return {
        "pointing": np.array(pointing),
        "energy": np.array(energy),
        "iou_best": iou,
        "iou_half": iou[:, int(np.flatnonzero(THRESHOLDS == 0.5)[0])],
    }


def score_table(
    values: dict[str, dict[str, np.ndarray]],
    views: pd.DataFrame,
    *,
    replicates: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """The means over views, with 95 % intervals of a bootstrap that resamples patients.

    Args:
        values: method -> score -> float (n,), or (n, T) at T thresholds, of which the one with the
            best mean counts, in every bootstrap sample anew; with the method "centred_blob".
        views: the n views, `study_type` and `patient`.
        replicates, seed: of the bootstrap.

    Returns:
        A row per study type and "overall", method and score of `SCORES`: `study_type, views,
        patients, method, score, value, low, high`, and `gain, gain_low, gain_high`, by how much the
        method is better than the centred blob on the same views (NaN where the blob has no such
        score). `beats_blob` says that the gain's interval lies above 0, of ten patients or more.
    """
    rows = []
    everything = np.arange(len(views))
    of_type = views.reset_index(drop=True).groupby("study_type").groups
    for study_type, chosen in [*of_type.items(), (OVERALL, everything)]:
        patients = views.patient.to_numpy()[chosen]
        weights = np.vstack([np.ones(len(chosen)), bootstrap_weights(patients, replicates, seed)])
        weights /= weights.sum(axis=1, keepdims=True)
        means = {
            (method, score): _best_mean(one[chosen], weights)
            for method, scores in values.items()
            for score, one in scores.items()
        }
        for (method, score), sampled in means.items():
            sign = -1 if score in LOWER_IS_BETTER else 1
            gain = sign * (sampled - means.get((BLOB, score), np.nan))
            low, high = interval(sampled[1:])
            gain_low, gain_high = interval(gain[1:])
            rows.append(
                {
                    "study_type": study_type,
                    "views": len(chosen),
                    "patients": len(set(patients)),
                    "method": method,
                    "score": score,
                    "value": sampled[0],
                    "low": low,
                    "high": high,
                    "gain": gain[0],
                    "gain_low": gain_low,
                    "gain_high": gain_high,
                    "beats_blob": gain_low > 0 and len(set(patients)) >= FEWEST_PATIENTS,
                }
            )
    return pd.DataFrame(rows)


def overview(table: pd.DataFrame) -> pd.DataFrame:
    """A `score_table` over all study types for reading: a row per method, a column per score.

    A star marks what beats the centred blob.
    """
    rows = table[table.study_type == OVERALL]
    cells = [
        f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]{' *' if row.beats_blob else ''}"
        for row in rows.itertuples()
    ]
    wide = rows.assign(cell=cells).pivot_table("cell", "method", "score", aggfunc="first")
    wide = wide.reindex(index=rows.method.unique(), columns=rows.score.unique())
    return wide.fillna("").rename_axis(columns=None).reset_index()


def _best_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means of (n,) or (n, T) at the best threshold: float (weightings,)."""
    return (weights @ values.reshape(len(values), -1)).max(axis=1)


def _covered(start: float, length: float) -> slice:
    """The pixels whose centre lies in [start, start + length), at least one."""
    first, stop = np.ceil([start - 0.5, start + length - 0.5]).astype(int)
    if first == stop:
        first = int(start + length / 2)
        stop = first + 1
    return slice(max(first, 0), stop)


def _keys(table: pd.DataFrame) -> list[tuple[str, ...]]:
    return list(table[VIEW_KEY].itertuples(index=False, name=None))


def _fracatlas_boxes(path: Path) -> pd.DataFrame:
    """`view`, the box, and the size of the image it was drawn on."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = pd.DataFrame(content["images"]).set_index("id")
        drawn = images.loc[[one["image_id"] for one in content["annotations"]]]
        boxes = pd.DataFrame([one["bbox"] for one in content["annotations"]], columns=_BOX)
        sizes = drawn[["file_name", "width", "height"]].to_numpy()
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be FracAtlas' COCO JSON, with images (id, file_name, width, height) and "
            f"annotations (image_id, bbox), and is not: {error!r}. Restore it."
        ) from None
    return boxes.astype(float).assign(
        view=sizes[:, 0], of_width=sizes[:, 1].astype(float), of_height=sizes[:, 2].astype(float)
    )


def _synthetic_boxes(path: Path) -> pd.DataFrame:
    try:
        boxes = pd.read_csv(path, dtype=str, keep_default_na=False)
        return boxes[[*VIEW_KEY, *_BOX]].astype(dict.fromkeys(_BOX, float))
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{path} must be a CSV with the columns {', '.join([*VIEW_KEY, *_BOX])}, and "
            f"is not: {error}. Write the data set again with `mura-tf synthesize`."
        ) from None


def _as_fractions(boxes: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Pixels -> fractions of the view; COCO's of the image it names, which may be larger."""
    sizes = {view: read_size(view) for view in boxes.path.unique()}
    heights = boxes.path.map({view: size[0] for view, size in sizes.items()}).astype(float)
    widths = boxes.path.map({view: size[1] for view, size in sizes.items()}).astype(float)
    of_height = boxes.get("of_height", heights)
    of_width = boxes.get("of_width", widths)
    fractions = boxes.assign(
        x=boxes.x / of_width,
        y=boxes.y / of_height,
        width=boxes.width / of_width,
        height=boxes.height / of_height,
    )
    other_shape = (of_width / of_height / (widths / heights) - 1).abs() > 0.02
    ends = fractions.x + fractions.width, fractions.y + fractions.height
    outside = (fractions[_BOX] < -0.01).any(axis=1) | (ends[0] > 1.01) | (ends[1] > 1.01)
    outside |= (ends[0] <= 0) | (ends[1] <= 0) | (fractions.x >= 1) | (fractions.y >= 1)
    for wrong, what in (
        (other_shape, "is of an image of another shape"),
        (outside, "lies outside"),
    ):
        if wrong.any():
            one = boxes[wrong].iloc[0]
            size = "x".join(str(length) for length in reversed(sizes[one.path]))
            raise ValueError(
                f"{path}: {wrong.sum()} boxes do not fit their views, the first: "
                f"{', '.join(f'{name}={one[name]:g}' for name in _BOX)} {what}. Received: "
                f"{one.path} with {size} pixels. Restore the images the boxes were drawn on."
            )
    return fractions[[*VIEW_KEY, *_BOX]]
