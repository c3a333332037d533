"""Heatmaps against the boxes of lesions: does a method point at them, and better than chance does?

Everything here is NumPy on finished maps. Two maps that know nothing of the model stand beside the
methods and are scored as they are: "uniform", whose every score against boxes is their share of the
radiograph's area, and "centred_blob", which knows that lesions are rarely at the border.
"""

import numpy as np
import pandas as pd

from mura_tf.evaluation.metrics import bootstrap_weights, interval
from mura_tf.published import OVERALL

CHANCE = UNIFORM, BLOB = "uniform", "centred_blob"
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
) -> pd.DataFrame:
    """The means over views, with 95 % intervals of a bootstrap that resamples patients.

    Args:
        values: method -> score -> float (n,), or (n, T) at T thresholds, of which the one with the
            best mean counts, in every bootstrap sample anew; with the method "centred_blob".
        views: the n views, `study_type` and `patient`.
        replicates: number of bootstrap samples.

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
        weights = np.vstack([np.ones(len(chosen)), bootstrap_weights(patients, replicates, seed=0)])
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

    A star marks what beats the centred blob, on ten patients or more.
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
