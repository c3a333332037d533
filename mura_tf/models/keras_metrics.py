"""Cohen's kappa as a Keras metric."""

import keras
from keras import ops


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

    `y_true` holds class numbers, (B,) or (B, 1), or one-hot rows (B, K). `sample_weight` (B,)
    counts a row more than once or in part.

    Source: the paper, section V-E.

    >>> metric = CohenKappa()
    >>> metric.update_state([0, 0, 1, 1], [0.1, 0.7, 0.8, 0.9])
    >>> round(float(metric.result()), 3)
    0.5
    """

    def __init__(self, name="kappa", num_classes=None, dtype=None):
        wide = keras.backend.result_type(dtype or keras.config.floatx(), "float32")
        super().__init__(name=name, dtype=wide)
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

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        side = self.num_classes or 2
        if self.num_classes is None:
            predicted = ops.cast(ops.reshape(y_pred, (-1,)) > 0.5, "int32")
        else:
            predicted = ops.argmax(y_pred, axis=-1)
        if self.num_classes and len(y_true.shape) == 2 and y_true.shape[-1] == side:
            y_true = ops.argmax(y_true, axis=-1)
        actual = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        rows = ops.one_hot(actual, side, dtype=self.dtype)
        columns = ops.one_hot(predicted, side, dtype=self.dtype)
        if sample_weight is not None:
            columns *= ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        self.confusion.assign_add(ops.matmul(ops.transpose(rows), columns))

    def result(self):
        total = ops.sum(self.confusion)
        shares = self.confusion / ops.where(total == 0, ops.ones_like(total), total)
        observed = ops.trace(shares)
        expected = ops.sum(ops.sum(shares, axis=0) * ops.sum(shares, axis=1))
        room = 1 - expected
        degenerate = ops.logical_or(total == 0, room <= 0)
        safe_room = ops.where(degenerate, ops.ones_like(room), room)
        return ops.where(degenerate, ops.zeros_like(room), (observed - expected) / safe_room)

    def get_config(self):
        return super().get_config() | {"num_classes": self.num_classes}
