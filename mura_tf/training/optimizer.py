"""Recipe + model -> the optimizer, with its learning rate at each step and in each layer."""

from typing import Any

import keras
from keras import KerasTensor

from mura_tf.models.build import HEAD_NAMES
from mura_tf.models.specs import Cosine, parse_optimizer, parse_schedule
from mura_tf.training.recipe import Recipe
from mura_tf.training.torch_optimizers import TorchAdam, TorchSGD


def optimizer_of(recipe: Recipe, model: keras.Model, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a model's trainable weights, built.

    Args:
        steps: of an epoch, for schedules that go by step.
    """
    name, momentum = parse_optimizer(recipe.optimizer)
    kind, decay = _KINDS[name], recipe.weight_decay
    if recipe.first_rate < 1:
        kind = _layer_wise(kind, layer_shares(model, recipe.first_rate))
    settings: dict[str, Any] = {"learning_rate": _learning_rate(recipe, steps)}
    if momentum is not None:
        settings["momentum"] = momentum
    if name.startswith("torch"):
        settings["decay"] = decay
    else:  # AdamW asks for a number
        settings["weight_decay"] = decay if name == "adamw" else decay or None
    if recipe.averaging:
        settings |= {"use_ema": True, "ema_momentum": recipe.averaging}
    optimizer = kind(**settings)
    if name == "adamw":
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if recipe.mixed_precision:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def layer_shares(model: keras.Model, first: float) -> list[float]:
    """The share of the learning rate that each trainable weight of a model has.

    `first` in the first layer that is trained, then from layer to layer by the same factor more, up
    to 1 in all layers of the head.

    Source: Howard and Ruder, "Universal language model fine-tuning", 2018, section 3.2.
    """
    trained = [layer for layer in model.layers if layer.trainable_weights]
    below = [layer.name for layer in trained if not layer.name.startswith(HEAD_NAMES)]
    shares = {name: first ** (1 - place / len(below)) for place, name in enumerate(below)}
    share_of = {
        weight.path: shares.get(layer.name, 1.0)
        for layer in trained
        for weight in layer.trainable_weights
    }
    return [share_of[weight.path] for weight in model.trainable_variables]


def _layer_wise(
    kind: type[keras.optimizers.Optimizer], shares: list[float]
) -> type[keras.optimizers.Optimizer]:
    class LayerWise(kind):
        """Of one model, and never saved: weight decay that is taken off the weights goes by the
        whole rate."""

        def update_step(
            self, gradient: KerasTensor, variable: keras.Variable, learning_rate: KerasTensor
        ) -> None:
            share = shares[self._get_variable_index(variable)]
            super().update_step(gradient, variable, learning_rate * share)

    return LayerWise


def _learning_rate(
    recipe: Recipe, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The rate itself, or, where it goes by step, what it is at each."""
    schedule = parse_schedule(recipe.schedule)
    if not isinstance(schedule, Cosine):
        return recipe.learning_rate
    rising = round(schedule.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if rising else recipe.learning_rate,
        max(recipe.max_epochs * steps - rising, 1),
        warmup_target=recipe.learning_rate if rising else None,
        warmup_steps=rising,
    )


_KINDS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "torch_adam": TorchAdam,
    "torch_sgd": TorchSGD,
}
"""Of `specs.OPTIMIZERS`."""
