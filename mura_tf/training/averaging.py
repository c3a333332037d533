"""Validation with the weights' averages, which the optimizer keeps."""

import keras
import numpy as np
from keras import ops


class AveragedWeights(keras.callbacks.Callback):
    """Has the averages in the weights' place while an epoch is validated and compared.

    It stands behind the callbacks that compare and before those that save, so that what is saved is
    the weights that training goes on with. Keras' SwapEMAWeights does not remember which of the two
    are in the model, and swaps by sums, which change the last bits.
    """

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of mixed precision
        self._own: list[np.ndarray] = []
        for variable, average in zip(
            self.model.trainable_variables, optimizer._model_variables_moving_average, strict=True
        ):
            self._own.append(np.array(ops.convert_to_numpy(variable)))
            variable.assign(ops.copy(average))  # JAX would share it, and give it away

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        for variable, own in zip(self.model.trainable_variables, self._own, strict=True):
            variable.assign(own)
