"""The documents' augmentations beyond the flip, inside the tf.data pipeline."""

import keras
import numpy as np
import tensorflow as tf

from mura_tf.models.backend import require_backend
from mura_tf.models.specs import AUGMENTATIONS

_WARPS = ("rotation", "shift", "shear", "zoom")


class Augmenter:
    """Warps images once, whatever of a warp is asked for, then changes their grey values.

    That is, in the order of `specs.AUGMENTATIONS`: autocontrast, contrast, brightness, gamma and
    erased rectangles.

    All randomness comes from the step's seed, so that a resumed run draws the same again; what one
    augmentation draws does not hang on the others.

    Args:
        specs: name -> value, see `specs.AUGMENTATIONS`, without the flip and mixup.
    """

    def __init__(self, specs: dict[str, float]):
        require_backend()
        self._specs = specs
        # mixed precision is for the model alone
        self._contrast = keras.layers.AutoContrast(value_range=(0, 255), dtype="float32")

    def __call__(self, images: tf.Tensor, step_seed: tf.Tensor) -> tf.Tensor:
        """Augments a batch.

        Args:
            images: float32 (B, S, S, C): grey values in [0, 255], and whatever else is to be warped
                as they are, and nothing more.
            step_seed: int32 (2,).
        """
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
        images, beside = images[..., :1], images[..., 1:]
        if "autocontrast" in self._specs:
            chosen = (drawn("autocontrast")[0] + 1) / 2 < self._specs["autocontrast"]
            stretched = self._contrast(images, training=True)
            images = tf.where(chosen[:, None, None, None], stretched, images)
        for name, change in _GREY_CHANGES.items():
            if name in self._specs:
                images = change(images, self._specs[name] * drawn(name)[0][:, None, None, None])
        if "erase" in self._specs:
            images = erased(images, self._specs["erase"], drawn("erase", 6))
        return tf.concat([images, beside], axis=-1)


def contrasted(images: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Grey values spread about their mean, `tf.image.adjust_contrast` by 1 + amount; in [0, 255].

    Args:
        images: float32 (B, S, S, 1) in [0, 255].
        amount: float32 (B, 1, 1, 1).
    """
    mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
    return tf.clip_by_value(mean + (1 + amount) * (images - mean), 0, 255)


def brightened(images: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Grey values plus 255 * amount, in [0, 255]; see `contrasted`."""
    return tf.clip_by_value(images + 255 * amount, 0, 255)


def gamma_changed(images: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Grey values, as parts of 255, to the power of 1 + amount, or 1 / (1 - amount) below 0."""
    power = tf.where(amount < 0, 1 / (1 - amount), 1 + amount)
    return 255 * tf.pow(tf.clip_by_value(images / 255, 0, 1), power)


_GREY_CHANGES = {"contrast": contrasted, "brightness": brightened, "gamma": gamma_changed}


def erased(images: tf.Tensor, probability: float, drawn: list[tf.Tensor]) -> tf.Tensor:
    """A rectangle of one grey value in some images (Zhong et al., "Random erasing", 2020).

    It covers 2 to 20 % of the square and is 0.3 to 3.3 times as high as wide.

    Args:
        images: float32 (B, S, S, 1) in [0, 255].
        probability: of an image.
        drawn: six times float32 (B,) in [-1, 1): whether, the area, the shape, the grey value, and
            the place from above and from the left.
    """
    whether, area, shape, grey, down, across = ((one + 1) / 2 for one in drawn)
    side = images.shape[1]
    area, ratio = 0.02 + 0.18 * area, tf.exp(np.log(0.3) + (np.log(3.3) - np.log(0.3)) * shape)
    inside = (whether < probability)[:, None, None]
    places = tf.range(side, dtype=tf.float32) + 0.5
    for axis, share, start in ((2, area * ratio, down), (1, area / ratio, across)):
        length = side * tf.sqrt(share)  # 0.81 of it at most
        first = (start * (side - length))[:, None]
        covered = (places >= first) & (places < first + length[:, None])
        inside = inside & tf.expand_dims(covered, axis)
    return tf.where(inside[..., None], 255 * grey[:, None, None, None], images)


def mixed(
    images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, share: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Lays each view of a batch over the one that stands as far from the batch's end.

    The middle one of an odd batch stays as it is.

    The weighted cross entropy of what comes out is `share` times that of the view and `1 - share`
    times that of the other (Zhang et al., "mixup", 2018, equation 2).

    Args:
        images: float32 (B, S, S, 3).
        labels: float32 (B,) or (B, K).
        weights: float32 (B,), from 0 up.
        share: float32 (), of the first of the two.

    Returns:
        The same three, of the same shapes.
    """
    both = share * weights + (1 - share) * weights[::-1]
    own = tf.math.divide_no_nan(share * weights, both)
    if len(labels.shape) == 2:
        own = own[:, None]
    return (
        share * images + (1 - share) * images[::-1],
        own * labels + (1 - own) * labels[::-1],
        both,
    )


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
