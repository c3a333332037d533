"""Predictions over classes -> confusion matrix, report, one-against-rest ROC and kappa.

At image level, as document 003 has them; `mura_tf.score` is for studies and abnormality.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import auc, precision_recall_fscore_support, roc_curve

from mura_tf.data.table import VIEW_KEY
from mura_tf.data.tasks import class_of
from mura_tf.evaluation.metrics import (
    accuracy_of_confusion,
    bootstrap_weights,
    interval,
    kappa_of_confusion,
)
from mura_tf.evaluation.predictions import CLASS_PREFIX
from mura_tf.evaluation.scores import (
    reported_split,
    require_labels,
    study_probabilities,
    system_key,
)

MICRO, MACRO, WEIGHTED = AVERAGES = ("micro average", "macro average", "weighted average")
MEASURES = ["precision", "recall", "f1", "auroc"]
_GRID = np.linspace(0, 1, 201)
"""False positive rates at which the macro curve is drawn."""


@dataclass(frozen=True)
class ClassScores:
    """How well a system tells K classes apart, view by view.

    Attributes:
        split: the reported one.
        members: models whose mean a probability is.
        confusion: int (K, K), views by class (rows) and decision (columns), both by name.
        table: a row per class, then the `AVERAGES`; columns `MEASURES`, float in [0, 1], and
            `support`, the number of views. A class without views has NaN, and so has the AUROC of
            a class that all views belong to. Precision is 0 where a class was never decided for.
        accuracy: share of views whose most probable class is theirs.
        kappa: Cohen's over the K classes.
        kappa_low: where its 95 % percentile interval begins, of a bootstrap that resamples
            patients.
        kappa_high: where it ends.
        curves: name in `table` -> ROC curve, float (m, 2): false and true positive rate. Without
            points where the AUROC is NaN; the weighted average has none.
    """

    split: str
    members: int
    confusion: pd.DataFrame
    table: pd.DataFrame
    accuracy: float
    kappa: float
    kappa_low: float
    kappa_high: float
    curves: dict[str, np.ndarray]

    @property
    def classes(self) -> list[str]:
        """In the order of the model's outputs."""
        return list(self.confusion)


def score_classes(
    predictions: pd.DataFrame, task: str, *, replicates: int = 2000, seed: int = 0
) -> ClassScores:
    """Scores one system of a task with classes on the split that is reported.

    A view's probabilities are averaged over the members first; the most probable class is the
    decision. The macro average is the mean over the classes that have views; the weighted one
    weighs them by their views; the micro average pools all pairs of a view and a class, so its
    precision, recall and F1 are all the accuracy.

    Args:
        predictions: predictions table of one system (backbone, stage, repeat), with a column for
            each class, see `predict_views`.
        task: of its recipe, "study_type" or "type_and_abnormality".
        replicates: number of bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: no classes, several systems, no view in the split, a view of no class, a
            missing probability, or members that saw different views.

    Examples:
        >>> predictions = pd.DataFrame({
        ...     "split": "valid", "study_type": ["elbow", "elbow", "wrist", "wrist"],
        ...     "patient": ["p1", "p2", "p3", "p4"], "study": "study1", "view": "image1.png",
        ...     "label": 0, "backbone": "small_cnn", "stage": "mura", "repeat": 0, "member": 0,
        ...     "probability": np.nan,
        ...     "p:elbow": [0.9, 0.4, 0.2, 0.1], "p:wrist": [0.1, 0.6, 0.8, 0.9]})
        >>> scores = mt.score_classes(predictions, "study_type")
        >>> scores.accuracy, round(scores.kappa, 3), scores.confusion.to_numpy().tolist()
        (0.75, 0.5, [[1, 1], [0, 2]])
    """
    columns = [column for column in predictions if column.startswith(CLASS_PREFIX)]
    if not columns:
        raise ValueError(
            f"score_classes takes a predictions table with a column {CLASS_PREFIX}CLASS for each "
            "class. Received: none, so the task is abnormality; mura_tf.score is for it."
        )
    systems = predictions[system_key(predictions)].drop_duplicates()
    if len(systems) > 1:
        raise ValueError(
            "score_classes takes one system (backbone, stage, repeat). Received: "
            f"{systems.to_dict('records')}. Select one."
        )
    split = reported_split(predictions)
    if task == "study_type" and not (predictions.split == split).any():
        split = "test"  # which needs no labels for it
    rows = predictions[predictions.split == split]
    if rows.empty:
        raise ValueError(
            "predictions must hold views of test with labels, or of valid, to score. Received: "
            f"none. Its splits are {', '.join(predictions.split.unique()) or 'none'}."
        )
    if rows[columns].isna().any(axis=None):
        raise ValueError(
            "every view needs a probability for every class. Received: a table that lacks some; "
            "do its members have the same classes?"
        )
    members = study_probabilities(rows).members
    if (members != members.iloc[0]).any():
        raise ValueError(
            "every member must have seen every study. Received: studies of "
            f"{' and '.join(map(str, sorted(members.unique())))} members."
        )
    means = dict.fromkeys(columns, "mean")
    views = rows.groupby(VIEW_KEY, sort=False).agg({"label": "first"} | means)
    views = views.reset_index()
    if task != "study_type":
        require_labels(views)
    classes = [column.removeprefix(CLASS_PREFIX) for column in columns]
    truth = pd.Index(classes).get_indexer(class_of(views, task))
    if (truth < 0).any():
        raise ValueError(
            f"every view must belong to one of the classes {', '.join(classes)}. Received: "
            f"{class_of(views, task)[truth < 0].iloc[0]!r}. Predict data with the same study types."
        )
    probabilities = views[columns].to_numpy()
    decisions = probabilities.argmax(axis=1)
    names, patients = np.unique(views.patient, return_inverse=True)
    by_patient = np.zeros((len(names), len(classes), len(classes)), int)
    np.add.at(by_patient, (patients, truth, decisions), 1)
    confusion = by_patient.sum(axis=0)
    accuracy = float(accuracy_of_confusion(confusion))
    drawn = np.tensordot(bootstrap_weights(names, replicates, seed), by_patient, axes=1)
    low, high = interval(kappa_of_confusion(drawn))
    curves = _curves(truth, probabilities, classes)
    return ClassScores(
        split=split,
        members=int(members.iloc[0]),
        confusion=pd.DataFrame(confusion, classes, classes),
        table=_table(truth, decisions, curves, accuracy, classes),
        accuracy=accuracy,
        kappa=float(kappa_of_confusion(confusion)),
        kappa_low=low,
        kappa_high=high,
        curves=curves,
    )


def _table(
    truth: np.ndarray,
    decisions: np.ndarray,
    curves: dict[str, np.ndarray],
    accuracy: float,
    classes: list[str],
) -> pd.DataFrame:
    """`ClassScores.table`."""
    scores = precision_recall_fscore_support(
        truth, decisions, labels=range(len(classes)), zero_division=0
    )
    table = pd.DataFrame(dict(zip([*MEASURES[:3], "support"], scores, strict=True)), classes)
    table.insert(3, "auroc", [_area(curves[name]) for name in classes])
    table.loc[table.support == 0, MEASURES] = np.nan
    values, support = table[MEASURES], table.support
    weights = values.notna().mul(support, axis=0)
    averages = {
        MICRO: [accuracy, accuracy, accuracy, _area(curves[MICRO])],
        MACRO: values.mean(),
        WEIGHTED: (values * weights).sum() / weights.sum(),
    }
    for name, row in averages.items():
        table.loc[name] = [*row, support.sum()]
    return table.astype({"support": int})


def _curves(
    truth: np.ndarray, probabilities: np.ndarray, classes: list[str]
) -> dict[str, np.ndarray]:
    """`ClassScores.curves`."""
    is_class = np.eye(len(classes), dtype=bool)[truth]
    curves = {
        name: _roc(is_class[:, number], probabilities[:, number])
        for number, name in enumerate(classes)
    }
    heights = [np.interp(_GRID, *curve.T) for curve in curves.values() if len(curve)]
    curves[MICRO] = _roc(is_class.ravel(), probabilities.ravel())
    curves[MACRO] = np.empty((0, 2))
    if heights:
        mean = np.transpose([_GRID, np.mean(heights, axis=0)])
        curves[MACRO] = np.vstack([[0, 0], mean])
    return curves


def _roc(is_class: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """A curve of `ClassScores.curves`."""
    if is_class.all() or not is_class.any():
        return np.empty((0, 2))
    return np.transpose(roc_curve(is_class, probabilities)[:2])


def _area(curve: np.ndarray) -> float:
    return auc(*curve.T) if len(curve) else np.nan
