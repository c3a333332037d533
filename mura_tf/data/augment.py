"""The documents' augmentations beyond the flip, as Keras layers inside the tf.data pipeline."""

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from mura_tf.models.backend import require_backend

_FILL = {"fill_mode": "nearest", "dtype": "float32"}
"""What a layer uncovers is as the nearest pixel (003); mixed precision is for the model alone."""

_LAYERS: dict[str, Callable[[float], keras.Layer]] = {
    "rotation": lambda degrees: keras.layers.RandomRotation(degrees / 360, **_FILL),
    "shift": lambda share: keras.layers.RandomTranslation(share, share, **_FILL),
    "shear": lambda degrees: keras.layers.RandomShear(float(np.tan(np.radians(degrees))), **_FILL),
    "zoom": lambda share: keras.layers.RandomZoom(share, share, **_FILL),
    "autocontrast": lambda probability: RandomAutoContrast(probability),
}


class Augmenter:
    """Applies augmentations one after the other; all randomness comes from the step's seed.

    Args:
        specs: (name, value) as `specs.parse_augmentation` returns them, without the flip.
    """

    def __init__(self, specs: list[tuple[str, float]]):
        if specs:
            require_backend()
        self._seeds = _StepSeeds()
        self.layers = [_LAYERS[name](value) for name, value in specs]
        for layer in self.layers:
            layer.get_random_transformation = partial(
                layer.get_random_transformation, seed=self._seeds
            )

    def __call__(self, images: tf.Tensor, step_seed: tf.Tensor) -> tf.Tensor:
        """Augments float32 (B, S, S, 1) in [0, 255]; `step_seed` is int32 (2,)."""
        self._seeds.start(step_seed)
        for layer in self.layers:
            images = layer(images, training=True)
        return images


class _StepSeeds(keras.random.SeedGenerator):
    """A stateless stand-in: the n-th draw of a step depends on the step's seed and n alone.

    Keras' own generator counts in a variable, which a resumed run could not set back and which
    parallel map calls would advance in any order.
    """

    def __init__(self) -> None:
        self.start(None)

    def start(self, step_seed: tf.Tensor | None) -> None:
        self._step_seed, self._draws = step_seed, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        self._draws += 1
        return tf.random.experimental.stateless_fold_in(self._step_seed, self._draws)


class RandomAutoContrast(keras.layers.AutoContrast):
    """Keras' AutoContrast for a random part of the batch."""

    def __init__(self, probability: float):
        super().__init__(value_range=(0, 255), dtype="float32")
        self.probability = probability

    def get_random_transformation(
        self, data: tf.Tensor, training: bool = True, *, seed: _StepSeeds
    ) -> tf.Tensor:
        return tf.random.stateless_uniform(tf.shape(data)[:1], seed.next()) < self.probability

    def transform_images(
        self, images: tf.Tensor, transformation: tf.Tensor, training: bool = True
    ) -> tf.Tensor:
        stretched = super().transform_images(images, None, training)
        return tf.where(transformation[:, None, None, None], stretched, images)
