"""Scores of study probabilities and their bootstrap intervals, in NumPy."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

THRESHOLD = 0.5
"""A study is abnormal above this probability (the paper, section V-D)."""
BLOCK = 2**23
"""How many weights of a bootstrap are in memory at a time, 64 MiB of them."""


def cohen_kappa(labels: ArrayLike, predictions: ArrayLike, num_classes: int = 2) -> float:
    """Cohen's kappa of two raters: (p_o - p_e) / (1 - p_e).

    p_o is the share of agreement, p_e the share that chance would give two raters with these
    class frequencies. Where both raters know one and the same class only, 0/0 is defined as 0.

    Args:
        labels: int (n,), the first rater.
        predictions: int (n,), the second rater.
        num_classes: number of classes K; both arrays hold values in [0, K).

    Returns:
        Kappa in [-1, 1]; 0 is agreement by chance, 1 complete agreement.

    Raises:
        ValueError: other values, such as probabilities, or raters of different lengths.

    Source: Cohen, "A coefficient of agreement for nominal scales", 1960.

    Examples:
        >>> one, other = [0] * 25 + [1] * 25, [0] * 20 + [1] * 5 + [0] * 10 + [1] * 15
        >>> round(mt.cohen_kappa(one, other), 3)
        0.4
    """
    raters = [
        _classes(labels, num_classes, "labels"),
        _classes(predictions, num_classes, "predictions"),
    ]
    if len(raters[0]) != len(raters[1]):
        raise ValueError(
            "labels and predictions must be of the same n studies or views. Received: "
            f"{len(raters[0])} and {len(raters[1])}."
        )
    confusion = np.zeros((num_classes, num_classes))
    np.add.at(confusion, tuple(raters), 1)
    return float(kappa_of_confusion(confusion))


def _classes(values: ArrayLike, num_classes: int, name: str) -> np.ndarray:
    """int (n,), the class numbers that one rater gives."""
    found = np.asarray(values)
    wrong = found[~np.isin(found, np.arange(num_classes))] if found.ndim == 1 else found
    if found.ndim != 1 or len(wrong):
        raise ValueError(
            f"{name} must be whole numbers from 0 to {num_classes - 1}, (n,). Received: "
            f"{wrong.ravel()[:1].tolist()} in the shape {found.shape}. Decide first, by a "
            "threshold or the largest probability."
        )
    return found.astype(int)


def kappa_of_confusion(confusion: np.ndarray) -> np.ndarray:
    """Cohen's kappa of confusion matrices (..., K, K), 0 where it is 0/0; shape (...)."""
    total = confusion.sum(axis=(-2, -1))
    total = np.where(total == 0, 1, total)
    observed = np.trace(confusion, axis1=-2, axis2=-1) / total
    expected = (confusion.sum(axis=-1) * confusion.sum(axis=-2)).sum(axis=-1) / total**2
    return _ratio(observed - expected, 1 - expected, undefined=0.0)


def accuracy_of_confusion(confusion: np.ndarray) -> np.ndarray:
    """The share of agreement in confusion matrices (..., K, K), NaN in empty ones; (...)."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def weighted_confusion(
    labels: ArrayLike, probabilities: ArrayLike, weights: np.ndarray
) -> np.ndarray:
    """Confusion matrices, label by decision, under many weightings; see `weighted_scores`.

    Args:
        labels: int (n,), 0 or 1.
        probabilities: float (..., n), in [0, 1], of one system or several.
        weights: float (replicates, n), >= 0.

    Returns:
        float (..., replicates, 2, 2).
    """
    labels = np.asarray(labels, bool)
    abnormal = np.asarray(probabilities) > THRESHOLD
    cells = [label & decision for label in (~labels, labels) for decision in (~abnormal, abnormal)]
    stacked = np.stack(cells).astype(float)
    drawn = stacked.reshape(-1, len(labels)) @ weights.T  # one product for all systems
    return np.moveaxis(drawn.reshape(2, 2, *abnormal.shape[:-1], -1), (0, 1), (-2, -1))


def weighted_scores(
    labels: ArrayLike, probabilities: ArrayLike, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Every score of one set of studies under many weightings at once.

    A weighting is a bootstrap replicate (how often each study was drawn) or all ones.

    Args:
        labels: int (n,), 0 or 1.
        probabilities: float (n,), in [0, 1].
        weights: float (replicates, n), >= 0.

    Returns:
        `accuracy, kappa, auroc, sensitivity, specificity`, each float (replicates,). Without an
        abnormal study sensitivity is NaN, without a normal one specificity is, and AUROC in both
        cases; kappa is always a number.
    """
    labels = np.asarray(labels, bool)
    confusion = weighted_confusion(labels, probabilities, weights)
    (true_negative, false_positive), (false_negative, true_positive) = np.moveaxis(confusion, 0, -1)
    return {
        "accuracy": accuracy_of_confusion(confusion),
        "kappa": kappa_of_confusion(confusion),
        "auroc": weighted_auroc(labels, probabilities, weights),
        "sensitivity": _ratio(true_positive, true_positive + false_negative),
        "specificity": _ratio(true_negative, true_negative + false_positive),
    }


def weighted_auroc(labels: ArrayLike, probabilities: ArrayLike, weights: np.ndarray) -> np.ndarray:
    """The area under the ROC curve under many weightings; see `weighted_scores`.

    That is the share of (abnormal, normal) pairs in the right order, ties counted half.

    Args:
        labels: bool (n,).
        probabilities: float (n,), in [0, 1].
        weights: float (replicates, n), >= 0.

    Returns:
        float (replicates,), NaN where one label was not drawn.
    """
    order = np.argsort(probabilities)
    rising, labels = np.asarray(probabilities)[order], np.asarray(labels, bool)[order]
    weights = weights[:, order]
    first = np.flatnonzero(np.diff(rising, prepend=-1))  # of each distinct probability
    positive = np.add.reduceat(weights * labels, first, axis=1)
    negative = np.add.reduceat(weights * ~labels, first, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return _ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def bootstrap_weights(clusters: ArrayLike, replicates: int, seed: int) -> np.ndarray:
    """How often each study is drawn when whole clusters (patients) are resampled.

    Args:
        clusters: (n,), the patient of each study.
        replicates: number of bootstrap samples.
        seed: of the random draw.

    Returns:
        float (replicates, n). In each row as many patients are drawn, with replacement, as there
        are, and each brings all their studies. NaN of one patient, who tells nothing of others.
    """
    return np.concatenate([*bootstrap_blocks(clusters, replicates, seed)])


def bootstrap_blocks(clusters: ArrayLike, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """The rows of `bootstrap_weights`, so many at a time that a block stays small in memory."""
    codes = np.unique(np.asarray(clusters), return_inverse=True)[1]
    count, rng = codes.max() + 1, np.random.default_rng(seed)
    at_once = max(1, BLOCK // len(codes))
    for start in range(0, max(replicates, 1), at_once):  # of none, an empty block
        rows = min(at_once, replicates - start)
        drawn = rng.multinomial(count, np.full(count, 1 / count), rows)[:, codes].astype(float)
        yield drawn if count > 1 else np.full_like(drawn, np.nan)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of bootstrap values without the NaN; NaN where nothing is left."""
    values = values[~np.isnan(values)]
    if not values.size:
        return np.nan, np.nan
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, undefined: float = np.nan) -> np.ndarray:
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    filled = np.full(numerator.shape, undefined)
    return np.divide(numerator, denominator, out=filled, where=denominator != 0)
