"""PyTorch's published update rules, written out in NumPy."""

import keras
import numpy as np
import pytest

from mura_tf.training.model import compiled_model
from mura_tf.training.recipe import Recipe
from mura_tf.training.torch_optimizers import TorchAdam, TorchSGD

RATES = [0.1, 0.1, 0.1, 0.03, 0.03, 0.03]
"""A schedule's step in between: PyTorch's momentum does not remember the old rate."""
DECAY = 0.05


def gradients():
    return [np.random.default_rng(step).normal(size=(4, 3)) for step in range(len(RATES))]


def sgd(weight, momentum):
    """torch.optim.SGD: g <- g + decay w; b <- momentum b + g, b = g at first; w <- w - rate b."""
    buffer = None
    for rate, gradient in zip(RATES, gradients(), strict=True):
        gradient = gradient + DECAY * weight
        buffer = gradient if buffer is None else momentum * buffer + gradient
        weight = weight - rate * buffer
        yield weight


def adam(weight):
    """torch.optim.Adam, not amsgrad."""
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    for step, (rate, gradient) in enumerate(zip(RATES, gradients(), strict=True), start=1):
        gradient = gradient + DECAY * weight
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        corrected, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
        weight = weight - rate * corrected / (np.sqrt(square) + 1e-8)
        yield weight


@pytest.mark.parametrize(
    ("optimizer", "rule"),
    [
        (lambda: TorchSGD(RATES[0], 0.8, DECAY), lambda weight: sgd(weight, 0.8)),
        (lambda: TorchSGD(RATES[0], 0.0, DECAY), lambda weight: sgd(weight, 0.0)),
        (lambda: TorchAdam(RATES[0], DECAY), adam),
    ],
    ids=["sgd", "sgd without momentum", "adam"],
)
def test_several_steps_are_pytorchs(optimizer, rule):
    start = np.random.default_rng(9).normal(size=(4, 3))
    weight, optimizer = keras.Variable(start), optimizer()
    for rate, gradient, expected in zip(RATES, gradients(), rule(start), strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [weight])
        np.testing.assert_allclose(np.asarray(weight), expected, rtol=2e-5, atol=1e-6)


def test_keras_own_is_another():
    """Its decay does not go through the momentum, and its momentum remembers the old rate."""
    start = np.random.default_rng(9).normal(size=(4, 3))
    weight = keras.Variable(start)
    optimizer = keras.optimizers.SGD(RATES[0], 0.8, weight_decay=DECAY)
    for rate, gradient in zip(RATES, gradients(), strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [weight])
    *_, expected = sgd(start, 0.8)
    assert np.abs(np.asarray(weight) - expected).max() > 0.01


@pytest.mark.parametrize("mixed_precision", [False, True])
@pytest.mark.parametrize("optimizer", ["torch_sgd:0.8", "torch_adam"])
def test_every_trainable_weight_decays(tmp_path, eagerly, optimizer, mixed_precision):
    """With a loss of weight 0 the decay is the whole gradient: of biases and gains, too."""
    recipe = Recipe(
        backbone="small_cnn",
        weights=None,
        image_size=32,
        optimizer=optimizer,
        learning_rate=0.01,
        weight_decay=0.1,
        mixed_precision=mixed_precision,
    )
    model = compiled_model(recipe, (), tmp_path)
    for weight in model.trainable_weights:
        weight.assign(np.random.default_rng(0).uniform(1, 2, weight.shape))
    before = [np.asarray(weight) for weight in model.trainable_weights]
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")
    model.train_on_batch(images, np.ones((4, 1), "float32"), sample_weight=np.zeros(4, "float32"))
    names = {weight.path.split("/")[-1] for weight in model.trainable_weights}
    assert names == {"kernel", "bias", "gamma", "beta"}
    for start, weight in zip(before, model.trainable_weights, strict=True):
        # Adam's first step is the rate, whatever the gradient
        expected = start - (0.01 if optimizer == "torch_adam" else 0.01 * 0.1 * start)
        np.testing.assert_allclose(np.asarray(weight), expected, rtol=1e-5)
