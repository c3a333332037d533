"""PyTorch's update rules, for the documents that trained with it.

They differ from Keras' in where things enter: the weight decay is added to the gradient, and so
goes through the momentum; SGD's learning rate multiplies the momentum as it is now, so that a lower
rate slows at once what came before; Adam adds its epsilon after the correction of the bias.
"""

import keras
from keras import KerasTensor, ops


class TorchSGD(keras.optimizers.SGD):
    """`torch.optim.SGD` without dampening.

    g = gradient + decay * weight;  m = momentum * m + g;  weight -= learning_rate * m

    Args:
        learning_rate: as in Keras.
        momentum: in [0, 1).
        decay: of every trainable weight, biases and batch normalization's too.
        settings: of any of Keras' optimizers.

    Source: the algorithm in PyTorch's documentation of `torch.optim.SGD`.
    """

    def __init__(self, learning_rate: float, momentum: float, decay: float, **settings: object):
        super().__init__(learning_rate, momentum, **settings)
        self.decay = decay

    def update_step(
        self, gradient: KerasTensor, variable: keras.Variable, learning_rate: KerasTensor
    ) -> None:
        step = ops.cast(gradient, variable.dtype) + self.decay * variable
        if self.momentum:
            buffer = self.momentums[self._get_variable_index(variable)]
            step = self.momentum * buffer + step
            self.assign(buffer, step)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * step)


class TorchAdam(keras.optimizers.Adam):
    """`torch.optim.Adam` with betas of 0.9 and 0.999 and an epsilon of 1e-8.

    g = gradient + decay * weight;  m = 0.9 m + 0.1 g;  v = 0.999 v + 0.001 g**2
    weight -= learning_rate * m / (1 - 0.9**t) / (sqrt(v / (1 - 0.999**t)) + 1e-8)

    Args:
        learning_rate: as in Keras.
        decay: of every trainable weight, biases and batch normalization's too.
        settings: of any of Keras' optimizers.

    Source: the algorithm in PyTorch's documentation of `torch.optim.Adam`.
    """

    def __init__(self, learning_rate: float, decay: float, **settings: object):
        super().__init__(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8, **settings)
        self.decay = decay

    def update_step(
        self, gradient: KerasTensor, variable: keras.Variable, learning_rate: KerasTensor
    ) -> None:
        gradient = ops.cast(gradient, variable.dtype) + self.decay * variable
        index = self._get_variable_index(variable)
        mean, square = self._momentums[index], self._velocities[index]
        self.assign(mean, self.beta_1 * mean + (1 - self.beta_1) * gradient)
        self.assign(square, self.beta_2 * square + (1 - self.beta_2) * ops.square(gradient))
        step = ops.cast(self.iterations + 1, variable.dtype)
        unbiased = ops.sqrt(square / (1 - self.beta_2**step)) + self.epsilon
        rate = ops.cast(learning_rate, variable.dtype) / (1 - self.beta_1**step)
        self.assign_sub(variable, rate * mean / unbiased)
