"""What a model says of the views that its epoch is selected on, one by one."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mura_tf.data.tasks import abnormality_of
from mura_tf.evaluation.metrics import THRESHOLD
from mura_tf.evaluation.predictions import CLASS_PREFIX

if TYPE_CHECKING:
    import tensorflow as tf


class ValidationAuroc(keras.callbacks.Callback):
    """Adds `val_auroc` to the logs of each epoch, for the callbacks behind it.

    It is exact, which Keras' AUC over fixed thresholds is not where all probabilities are close to
    each other; that takes a second pass over the views.

    Args:
        batches: of those views, in their order.
        labels: int (n_views,), 0 and 1.
        classes: of `class_names`.
    """

    def __init__(self, batches: "tf.data.Dataset", labels: np.ndarray, classes: tuple[str, ...]):
        super().__init__()
        self._batches, self._labels, self._classes = batches, labels, classes

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        outputs = self.model.predict(self._batches, verbose=0)
        if isinstance(outputs, list):  # beside a map's
            outputs = outputs[0]
        logs["val_auroc"] = auroc(
            self._labels, abnormality_of(outputs.astype(float), self._classes)
        )


def decided(predictions: pd.DataFrame) -> dict[str, bool | float | None]:
    """Whether a model decides at all, and how well it ranks.

    Args:
        predictions: predictions table of the views its epoch was selected on.

    Returns:
        `constant`, whether all views are called the same: abnormal or normal at 0.5, or one class
        where the classes say nothing of that; `auroc` of abnormal against normal, None where it is
        not defined.
    """
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
