"""The documents' augmentations beyond the flip, inside the tf.data pipeline."""

import keras
import numpy as np
import tensorflow as tf

from mura_tf.models.backend import require_backend
from mura_tf.models.specs import AUGMENTATIONS

_WARPS = ("rotation", "shift", "shear", "zoom")


class Augmenter:
    """Warps images once, whatever of a warp is asked for, then stretches their grey values.

    All randomness comes from the step's seed, so that a resumed run draws the same again; what one
    augmentation draws does not hang on the others.

    Args:
        specs: name -> value, see `specs.AUGMENTATIONS`, without the flip.
    """

    def __init__(self, specs: dict[str, float]):
        require_backend()
        self._specs = specs
        # mixed precision is for the model alone
        self._contrast = keras.layers.AutoContrast(value_range=(0, 255), dtype="float32")

    def __call__(self, images: tf.Tensor, step_seed: tf.Tensor) -> tf.Tensor:
        """Augments float32 (B, S, S, 1) in [0, 255]; `step_seed` is int32 (2,)."""
        count, side = tf.shape(images)[0], images.shape[1]

        def drawn(name: str, parts: int = 1) -> list[tf.Tensor]:
            """(B,) numbers in [-1, 1), `parts` times; of this augmentation alone."""
            place = list(AUGMENTATIONS).index(name)
            seed = tf.random.experimental.stateless_fold_in(step_seed, place)
            return tf.unstack(tf.random.stateless_uniform((parts, count), seed, -1, 1))

        if self._specs.keys() & set(_WARPS):
            rotation, shift, shear, zoom = (self._specs.get(name, 0.0) for name in _WARPS)
            images = warped(
                images,
                theta=rotation * drawn("rotation")[0],
                shifts=[side * shift * one for one in drawn("shift", 2)],
                shear=shear * drawn("shear")[0],
                zooms=[1 + zoom * one for one in drawn("zoom", 2)],
            )
        if "autocontrast" in self._specs:
            chosen = (drawn("autocontrast")[0] + 1) / 2 < self._specs["autocontrast"]
            stretched = self._contrast(images, training=True)
            images = tf.where(chosen[:, None, None, None], stretched, images)
        return images


def warped(
    images: tf.Tensor,
    theta: tf.Tensor,
    shifts: list[tf.Tensor],
    shear: tf.Tensor,
    zooms: list[tf.Tensor],
) -> tf.Tensor:
    """One affine warp about the centre; what it uncovers is as the nearest pixel.

    Equal to Keras' `apply_affine_transform(theta, tx, ty, shear, zx, zy)`, which is what
    ImageDataGenerator does (003): rotation, shift, shear and zoom multiplied to one matrix, from
    places in the output to places in the input, and one linear interpolation.

    Args:
        images: float32 (B, S, S, C).
        theta, shear: float32 (B,), degrees.
        shifts: along the columns and along the rows, each float32 (B,), pixels.
        zooms: likewise, factors; above 1 shows more of the image.
    """
    theta, shear = (np.pi / 180 * angle for angle in (theta, shear))
    cos, sin = tf.cos(theta), tf.sin(theta)
    # rotation @ shear @ zoom, and what rotation makes of the shift
    matrix = [
        [zooms[0] * cos, -zooms[1] * tf.sin(theta + shear)],
        [zooms[0] * sin, zooms[1] * tf.cos(theta + shear)],
    ]
    moved = [cos * shifts[0] - sin * shifts[1], sin * shifts[0] + cos * shifts[1]]
    centre = (images.shape[1] - 1) / 2
    rows = [
        [to_x, to_y, centre * (1 - to_x - to_y) + by]
        for (to_x, to_y), by in zip(matrix, moved, strict=True)
    ]
    still = tf.zeros_like(theta)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([*rows[0], *rows[1], still, still], axis=1),
        output_shape=images.shape[1:3],
        fill_value=0.0,  # of another fill mode
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
