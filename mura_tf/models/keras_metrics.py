"""Keras metrics: Cohen's kappa, and the part of a loss that the labels are in."""

from typing import Any

import keras
from keras import KerasTensor, ops
from numpy.typing import ArrayLike


@keras.saving.register_keras_serializable("mura_tf")
class CohenKappa(keras.metrics.Metric):
    """Cohen's kappa between labels and predictions, over all batches of an epoch.

    kappa = (p_o - p_e) / (1 - p_e), where p_o is the share of agreement and p_e the share expected
    by chance. Where labels and predictions are one and the same class only, 0/0 is defined as 0.

    Args:
        name: of the metric; "kappa" gives `val_kappa` in the logs.
        num_classes: None for binary: `y_pred` (B,) or (B, 1) is a probability, class 1 above 0.5.
            K for K classes: `y_pred` (B, K) is a distribution, its largest entry the class.
        dtype: of the counts; float32 at least, also where Keras' floatx is narrower, because
            float16 counts to 2,048 only.

    `y_true` holds class numbers, (B,) or (B, 1), or one-hot rows (B, K); what is mixed of two
    labels counts as the nearer one. `sample_weight` (B,) counts a row more than once or in part.
    A label that is no class, such as NaN, makes kappa NaN, and so does a prediction that is no
    number; predictions of another width than `num_classes` are a ValueError.

    Source: the paper, section V-E.

    Examples:
        >>> metric = mt.CohenKappa()
        >>> metric.update_state([0, 0, 1, 1], [0.1, 0.7, 0.8, 0.9])
        >>> round(float(metric.result()), 3)
        0.5
    """

    def __init__(
        self, name: str = "kappa", num_classes: int | None = None, dtype: str | None = None
    ):
        dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
        super().__init__(name=name, dtype="float32" if dtype in ("float16", "bfloat16") else dtype)
        if num_classes is not None and num_classes < 2:
            raise ValueError(
                f"num_classes must be None (binary) or at least 2. Received: {num_classes}."
            )
        self.num_classes = num_classes
        side = num_classes or 2
        self.confusion = self.add_weight(
            shape=(side, side),
            initializer="zeros",
            dtype=self.dtype,  # which Keras does not take from the metric itself
            name="confusion",
        )

    def update_state(
        self,
        y_true: ArrayLike | KerasTensor,
        y_pred: ArrayLike | KerasTensor,
        sample_weight: ArrayLike | KerasTensor | None = None,
    ) -> None:
        labels, predictions = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        side = self.num_classes or 2
        width = 1 if len(predictions.shape) == 1 else predictions.shape[-1]
        if width not in (None, self.num_classes or 1):
            raise ValueError(
                f"y_pred must be {_wanted(self.num_classes)}. Received: the shape "
                f"{tuple(predictions.shape)}. Give CohenKappa the num_classes of the model."
            )
        if self.num_classes is None:
            predicted = ops.cast(ops.reshape(predictions, (-1,)) > 0.5, "int32")
        else:
            predicted = ops.argmax(predictions, axis=-1)
        if self.num_classes and len(labels.shape) == 2 and labels.shape[-1] == side:
            labels = ops.where(ops.max(labels, axis=-1) > 0, ops.argmax(labels, axis=-1), -1)
        labels = ops.cast(_nearest(ops.reshape(labels, (-1,))), self.dtype)
        known = ops.logical_and(labels >= 0, labels < side)  # before NaN is cast to some number
        finite = ops.isfinite(ops.cast(predictions, self.dtype))
        said = ops.all(finite, axis=-1) if len(predictions.shape) > 1 else finite
        known = ops.logical_and(known, said)
        rows = ops.one_hot(ops.cast(ops.where(known, labels, 0), "int32"), side, dtype=self.dtype)
        if sample_weight is not None:
            masked = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,)) == 0
            known = ops.logical_or(known, masked)
        rows = ops.where(known[:, None], rows, float("nan"))  # what is no class is no view less
        columns = ops.one_hot(predicted, side, dtype=self.dtype)
        if sample_weight is not None:
            columns *= ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        self.confusion.assign_add(ops.matmul(ops.transpose(rows), columns))

    def result(self) -> KerasTensor:
        total = ops.sum(self.confusion)
        shares = self.confusion / ops.where(total == 0, ops.ones_like(total), total)
        observed = ops.trace(shares)
        expected = ops.sum(ops.sum(shares, axis=0) * ops.sum(shares, axis=1))
        room = 1 - expected
        degenerate = ops.logical_or(total == 0, room <= 0)
        safe_room = ops.where(degenerate, ops.ones_like(room), room)
        return ops.where(degenerate, ops.zeros_like(room), (observed - expected) / safe_room)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"num_classes": self.num_classes}


def _wanted(num_classes: int | None) -> str:
    return f"(B, {num_classes})" if num_classes else "(B,) or (B, 1)"


@keras.saving.register_keras_serializable("mura_tf")
class LabelAccuracy(keras.metrics.BinaryAccuracy):
    """Keras' binary accuracy, where what is mixed of two labels counts as the nearer one."""

    def update_state(
        self, y_true: KerasTensor, y_pred: KerasTensor, sample_weight: KerasTensor | None = None
    ) -> None:
        super().update_state(_nearest(ops.convert_to_tensor(y_true)), y_pred, sample_weight)


def _nearest(labels: KerasTensor) -> KerasTensor:
    return ops.round(labels) if "float" in keras.backend.standardize_dtype(labels.dtype) else labels


@keras.saving.register_keras_serializable("mura_tf")
class DataLoss(keras.metrics.Metric):
    """The mean over all views of the weighted cross entropy: the loss without what is added to it.

    sum(sample_weight * cross entropy) / (number of views), as Keras' loss is, and unlike Keras'
    weighted metrics, which divide by the sum of the weights. A metric for `weighted_metrics`.

    Args:
        name: "data_loss" gives `val_data_loss` in the logs.
        categorical: whether `y_pred` is a distribution (B, K) and `y_true` one-hot rows; otherwise
            a probability (B, 1) and labels (B,) or (B, 1).
        label_smoothing: as of the loss.
        dtype: of the sums.
    """

    def __init__(
        self,
        name: str = "data_loss",
        categorical: bool = False,
        label_smoothing: float = 0.0,
        dtype: str | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.categorical = categorical
        self.label_smoothing = label_smoothing
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")
        self.count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(
        self, y_true: KerasTensor, y_pred: KerasTensor, sample_weight: KerasTensor | None = None
    ) -> None:
        y_true = ops.reshape(ops.cast(y_true, self.dtype), ops.shape(y_pred))
        kind = "categorical" if self.categorical else "binary"
        cross_entropy = getattr(keras.losses, f"{kind}_crossentropy")
        losses = cross_entropy(y_true, y_pred, label_smoothing=self.label_smoothing)
        if sample_weight is not None:
            losses = losses * ops.reshape(ops.cast(sample_weight, self.dtype), (-1,))
        self.total.assign_add(ops.sum(losses))
        self.count.assign_add(ops.cast(ops.size(losses), self.dtype))

    def result(self) -> KerasTensor:
        return self.total / ops.maximum(self.count, 1)

    def get_config(self) -> dict[str, Any]:
        own = {"categorical": self.categorical, "label_smoothing": self.label_smoothing}
        return super().get_config() | own
