"""Study probabilities of the selection split -> what they mean, and the thresholds to decide by.

Both are chosen where the epochs were selected and scored where they are reported, so that what is
told of them holds for other patients as far as the reported split does.
"""

from dataclasses import dataclass
from itertools import chain
from typing import overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_tf.evaluation.metrics import (
    THRESHOLD,
    bootstrap_blocks,
    interval,
    kappa_of_confusion,
)
from mura_tf.evaluation.scores import require_labels

LEAST = 0.95
"""The sensitivity and the specificity between which the operating point `doubt` is doubtful."""
_EDGE = 1e-6
"""Probabilities nearer to 0 or 1 have this one's logit."""


@dataclass(frozen=True)
class Calibration:
    """Platt's: the probability whose logit is `slope` times the model's plus `intercept`.

    Source: Platt, "Probabilistic outputs for support vector machines", 1999.

    >>> Calibration(slope=2, intercept=0)(0.5)
    0.5
    """

    slope: float
    intercept: float

    @overload
    def __call__(self, probabilities: float) -> float: ...

    @overload
    def __call__(self, probabilities: np.ndarray) -> np.ndarray: ...

    def __call__(self, probabilities: float | np.ndarray) -> float | np.ndarray:
        """Calibrated probabilities, in [0, 1], of the shape of `probabilities`."""
        logits = self.slope * _logits(probabilities) + self.intercept
        calibrated = np.exp(-np.logaddexp(0, -logits))  # which no steep slope overflows
        return float(calibrated) if calibrated.ndim == 0 else calibrated


@dataclass(frozen=True)
class OperatingPoint:
    """Where decisions change.

    Attributes:
        name: "paper" (0.5), "kappa" (the highest kappa) or "doubt" (doubtful in between).
        low: a study is normal up to this probability.
        high: and abnormal above this one; `low` where nothing is doubtful.
    """

    name: str
    low: float
    high: float

    def decide(self, probability: float) -> str:
        """ "normal", "doubtful" or "abnormal"; ValueError where the probability is NaN.

        >>> OperatingPoint("doubt", 0.2, 0.7).decide(0.3)
        'doubtful'
        """
        if np.isnan(probability):
            raise ValueError("only a probability decides, a number in [0, 1]. Received: nan.")
        if probability > self.high:
            return "abnormal"
        return "doubtful" if probability > self.low else "normal"


PAPER = OperatingPoint("paper", THRESHOLD, THRESHOLD)


@dataclass(frozen=True)
class Decisions:
    """How one system's probabilities are decided by, and what that comes to.

    Attributes:
        chosen_on, reported_on: splits.
        points: of `operating_points`; the paper's alone where `chosen_on` has studies of one label.
        table: of `score_points`.
        calibration: None where `chosen_on` has studies of one label.
        error_before, error_after: expected calibration error on the reported split.
    """

    chosen_on: str
    reported_on: str
    points: list[OperatingPoint]
    table: pd.DataFrame
    calibration: Calibration | None
    error_before: float
    error_after: float


def decide(studies: pd.DataFrame, chosen_on: str, reported_on: str) -> Decisions:
    """Chooses operating points and calibration on one split and scores them on another.

    Args:
        studies: table of `study_probabilities` of one system, of both splits.
        chosen_on: the selection split, such as "valid".
        reported_on: the reported split.
    """
    selection, shown = (studies[studies.split == split] for split in (chosen_on, reported_on))
    both = selection.label.nunique() == 2
    points = operating_points(selection) if both else [PAPER]
    calibration = calibrate(selection) if both else None
    calibrated = calibration(shown.probability) if calibration else shown.probability
    return Decisions(
        chosen_on,
        reported_on,
        points,
        score_points(points, shown),
        calibration,
        expected_calibration_error(shown.label, shown.probability),
        expected_calibration_error(shown.label, calibrated),
    )


def calibrate(studies: pd.DataFrame) -> Calibration:
    """Fits Platt's slope and intercept, with his targets, which keep both finite.

    Args:
        studies: table of `study_probabilities` of one system on the selection split.

    Raises:
        ValueError: studies of one label, on which nothing can be fitted, or without one.
    """
    from sklearn.linear_model import LogisticRegression  # a second, which reading a file spares

    labels = _two_labels(studies)
    targets = np.where(labels, labels.sum() + 1, 1) / np.where(
        labels, labels.sum() + 2, (~labels).sum() + 2
    )
    logits = np.tile(_logits(studies.probability), 2)[:, None]
    fitted = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
        logits,
        np.repeat([1, 0], len(labels)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    return Calibration(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


def operating_points(studies: pd.DataFrame) -> list[OperatingPoint]:
    """The paper's threshold, the one of highest kappa, and a pair with doubt in between.

    Of the pair, `low` is the highest threshold at which at least 95 % of the abnormal studies lie
    above it, and `high` the lowest at which at least 95 % of the normal ones do not; both lie in
    the middle between two probabilities, or one and an end. Where one threshold does both, nothing
    is doubtful. Where no threshold agrees better than chance, that of the highest kappa is the
    paper's.

    Args:
        studies: see `calibrate`.

    Raises:
        ValueError: studies of one label.
    """
    labels = _two_labels(studies)
    probabilities = studies.probability.to_numpy()
    distinct = np.unique(probabilities)
    ends = np.concatenate([[0.0], distinct, [1.0]])
    cuts = (ends[:-1] + ends[1:]) / 2
    true_positive, false_positive = (
        len(one) - np.searchsorted(np.sort(one), cuts, side="right")  # how many lie above
        for one in (probabilities[labels], probabilities[~labels])
    )
    abnormal, normal = labels.sum(), (~labels).sum()
    confusion = np.stack(
        [[normal - false_positive, false_positive], [abnormal - true_positive, true_positive]]
    )
    kappas = kappa_of_confusion(np.moveaxis(confusion, -1, 0).astype(float))
    best = THRESHOLD
    if kappas.max() > 1e-12:
        highest = cuts[kappas >= kappas.max() - 1e-12]
        best = float(highest[np.argmin(np.abs(highest - THRESHOLD))])
    low = float(cuts[true_positive >= LEAST * abnormal].max(initial=0.0))
    high = float(cuts[normal - false_positive >= LEAST * normal].min())
    if low > high:
        low = high = (low + high) / 2
    return [PAPER, OperatingPoint("kappa", best, best), OperatingPoint("doubt", low, high)]


def score_points(
    points: list[OperatingPoint], studies: pd.DataFrame, *, replicates: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """What deciding by each operating point comes to.

    Args:
        points: of `operating_points`.
        studies: table of `study_probabilities` of one system on the reported split.
        replicates: number of bootstrap samples of patients.
        seed: of the bootstrap.

    Returns:
        A row per point: `point, low, high`; `sensitivity` (of the abnormal studies those above
        `low`, so not called normal), `specificity` (of the normal ones those not above `high`, so
        not called abnormal), `doubtful` (share of all) and `kappa` (doubtful studies left out),
        each with `_low` and `_high` of its 95 % interval; NaN where there are no such studies.
    """
    require_labels(studies)
    labels, probabilities = studies.label.to_numpy(int), studies.probability.to_numpy()
    cells = np.zeros((len(studies), len(points), 2, 3))
    for number, point in enumerate(points):
        part = np.digitize(probabilities, [point.low, point.high], right=True)  # 0, 1, 2
        cells[np.arange(len(studies)), number, labels, part] = 1
    drawn = bootstrap_blocks(studies.patient, replicates, seed)
    blocks = chain([np.ones((1, len(studies)))], drawn)
    sampled = np.concatenate([np.tensordot(weights, cells, axes=1) for weights in blocks])
    rows = []
    for point, counts in zip(points, np.moveaxis(sampled, 1, 0), strict=True):
        decided = counts[:, :, [0, 2]]
        with np.errstate(invalid="ignore"):
            values = {
                "sensitivity": 1 - counts[:, 1, 0] / counts[:, 1].sum(axis=1),
                "specificity": 1 - counts[:, 0, 2] / counts[:, 0].sum(axis=1),
                "doubtful": counts[:, :, 1].sum(axis=1) / counts.sum(axis=(1, 2)),
                "kappa": np.where(
                    decided.sum(axis=(1, 2)) > 0, kappa_of_confusion(decided), np.nan
                ),
            }
        row = {"point": point.name, "low": point.low, "high": point.high}
        for name, samples in values.items():
            row[name] = float(samples[0])
            row[f"{name}_low"], row[f"{name}_high"] = interval(samples[1:])
        rows.append(row)
    return pd.DataFrame(rows)


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """The mean distance between the share of abnormal studies and their mean probability.

    Over ten bins of equal width, each weighed by its studies.

    Args:
        labels: int (n,), 0 or 1.
        probabilities: float (n,), in [0, 1].

    Returns:
        In [0, 1]; 0 is calibrated.

    Source: Guo et al., "On calibration of modern neural networks", 2017.

    >>> expected_calibration_error([0, 1], [0.0, 1.0])
    0.0
    """
    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    place = np.minimum((probabilities * 10).astype(int), 9)
    gaps = np.bincount(place, labels - probabilities)
    return float(np.abs(gaps).sum() / len(labels))


def _logits(probabilities: ArrayLike) -> np.ndarray:
    inside = np.clip(np.asarray(probabilities, float), _EDGE, 1 - _EDGE)
    return np.log(inside / (1 - inside))


def _two_labels(studies: pd.DataFrame) -> np.ndarray:
    """bool (n,); ValueError where there are not both."""
    require_labels(studies)
    labels = studies.label.to_numpy().astype(bool)
    if labels.all() or not labels.any():
        raise ValueError(
            "thresholds and calibration need normal and abnormal studies to be chosen on. "
            f"Received: {len(labels)} studies, {labels.sum()} of them abnormal."
        )
    return labels
