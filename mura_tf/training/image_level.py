"""What a model says of the views that its epoch is selected on, one by one.

Where a head weighs the views of a study, it is of studies: they are what such a model learns.
"""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mura_tf.data.table import STUDY_KEY
from mura_tf.data.tasks import abnormality_of
from mura_tf.evaluation.metrics import THRESHOLD
from mura_tf.evaluation.predictions import CLASS_PREFIX, model_outputs
from mura_tf.evaluation.scores import mean_probability, study_probabilities

if TYPE_CHECKING:
    import tensorflow as tf


class ValidationAuroc(keras.callbacks.Callback):
    """Adds `val_auroc` to the logs of each epoch, for the callbacks behind it.

    It is exact, which Keras' AUC over fixed thresholds is not where all probabilities are close to
    each other; that takes a second pass over the views.

    Args:
        batches: of those views, in their order.
        views: views table of them.
        classes: of `class_names`.
        weighed: whether the model's second output is how much each view counts in its study.
    """

    def __init__(
        self,
        batches: "tf.data.Dataset",
        views: pd.DataFrame,
        classes: tuple[str, ...],
        *,
        weighed: bool = False,
    ):
        super().__init__()
        self._batches, self._views, self._classes = batches, views, classes
        self._weighed = weighed

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        outputs, *weights = model_outputs(self.model, self._batches)
        rows = self._views.assign(probability=abnormality_of(outputs, self._classes))
        if self._weighed:
            rows = rows.assign(weight=weights[0][:, 0])
            studies = rows.groupby(STUDY_KEY, sort=False)[["label"]].first()
            rows = studies.assign(probability=mean_probability(rows, STUDY_KEY))
        logs["val_auroc"] = auroc(rows.label.to_numpy(), rows.probability.to_numpy())


def decided(predictions: pd.DataFrame) -> dict[str, bool | float | None]:
    """Whether a model decides at all, and how well it ranks.

    Args:
        predictions: predictions table of the views its epoch was selected on; where it has a
            `weight`, their studies are what counts.

    Returns:
        `constant`, whether all views are called the same: abnormal or normal at 0.5, or one class
        where the classes say nothing of that; `auroc` of abnormal against normal, None where it is
        not defined.
    """
    if "weight" in predictions:
        predictions = study_probabilities(predictions)
    unsaid = predictions.probability.isna().all()
    if unsaid:
        classes = [column for column in predictions if column.startswith(CLASS_PREFIX)]
        decisions = predictions[classes].to_numpy().argmax(axis=1)
    else:
        decisions = predictions.probability.to_numpy() > THRESHOLD
    area = np.nan if unsaid else auroc(predictions.label.to_numpy(int), predictions.probability)
    return {
        "constant": len(np.unique(decisions)) == 1,
        "auroc": None if np.isnan(area) else area,
    }


def auroc(labels: np.ndarray, probability: np.ndarray) -> float:
    """The area under the ROC curve, NaN where there is one label only."""
    if len(np.unique(labels)) < 2:
        return np.nan
    return float(roc_auc_score(labels, probability))
