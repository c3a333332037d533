"""Prepared views -> shuffled, augmented, centred tf.data batches."""

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Generic, TypeAlias, TypeVar

import cv2
import numpy as np
import pandas as pd
import tensorflow as tf

from mura_tf.data.augment import Augmenter, mixed
from mura_tf.data.boxes import box_pixels, covered
from mura_tf.data.cache import PreparedViews, prepare
from mura_tf.data.counts import class_weights as weights_of
from mura_tf.data.table import STUDY_KEY, VIEW_KEY
from mura_tf.models.backbones import IMAGENET_MEAN_BGR, IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from mura_tf.models.specs import parse_augmentations

Labels: TypeAlias = tf.Tensor | dict[str, tf.Tensor]
"""Those of a batch; with boxes or studies, a dictionary in which they are beside these."""
T = TypeVar("T")


def make_dataset(
    views: pd.DataFrame,
    *,
    image_size: int,
    batch_size: int = 8,
    training: bool = False,
    seed: int = 0,
    preprocessing: str = "caffe",
    augment: tuple[str, ...] = ("flip",),
    cache_dir: str | os.PathLike[str] | None = None,
    resize: str = "bilinear",
    class_weights: Mapping[str, tuple[float, float]] | None = None,
    targets: np.ndarray | None = None,
    boxes: pd.DataFrame | None = None,
    studies: bool = False,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """A `tf.data.Dataset` of batches; one pass over it is one epoch.

    Everything random is a function of `seed`, the epoch and the step: order, flips and the other
    augmentations differ from epoch to epoch and come back from the same seed.

    Args:
        views: views table; all its rows are used, so select the split before.
        image_size: side S of the squares, pixels.
        batch_size: views per batch. The last batch is smaller where it has to be.
        training: whether to shuffle and augment; otherwise the order is that of `views`.
        seed: of the order and the augmentations.
        preprocessing: "caffe" (BGR minus the ImageNet mean, the paper's), "caffe_rgb" (the same in
            RGB), "tf" ([-1, 1]), "torch" (ImageNet mean and deviation), "unit" ([0, 1]) or "raw"
            ([0, 255]).
        augment: see `specs.AUGMENTATIONS`; ignored unless `training`.
        cache_dir, resize: see `prepare`.
        class_weights: (w0, w1) per study type, see `class_weights`; by default those of `views`.
        targets: float (n_views,) or (n_views, K), what the model learns instead of the label.
        boxes: of `load_boxes`, to learn where lesions are as well.
        studies: whether to say which views are of one study. In training they stand beside each
            other, and the study at the end of a batch may go on in the next; otherwise a batch has
            whole studies, as far as they stand beside each other, and more than `batch_size` views
            where one study has.
        first_epoch: the number of the first pass, for a training that goes on.

    Returns:
        Batches (images float32 (B, S, S, 3), labels float32 (B,) or (B, K), sample_weight float32
        (B,)). With `boxes`, in the labels' place {"labels": as above, "lesions": float32 (B, S,
        S)}, 1 in a box and 0 outside, moved with the pixels; all -1 in an abnormal view without a
        box, where nobody has said where its lesion is, if it shows it, and in a normal one with a
        box, which contradict each other. With `studies`, likewise
        {"labels": as above, "studies": int32 (B,)}, a number for each study. It must be kept as
        long as it is read through another that it is an element of (`from_tensors`), or that makes
        it inside `flat_map`.

    Raises:
        BadViewsError: some files are unreadable.
        ValueError: no view, a column is lacking, targets of other views, or an unknown
            preprocessing or augmentation; "mixup" with boxes or studies; for an augmentation beyond
            the flip, what `require_backend` refuses.

    Examples:
        >>> views = mt.load_mura("demo/MURA-v1.1")
        >>> batches = mt.make_dataset(views[views.split == "train"], image_size=64, training=True)
        >>> images, labels, weights = next(iter(batches))
        >>> tuple(images.shape), tuple(labels.shape), tuple(weights.shape)
        ((8, 64, 64, 3), (8,), (8,))
    """
    keys = VIEW_KEY if boxes is not None else STUDY_KEY if studies else ["study_type"]
    if lacking := {*keys, "label", "path"} - set(views):
        raise ValueError(
            f"views must be a views table, with label (0 or 1), path, {', '.join(keys)}. Received "
            f"one without {', '.join(sorted(lacking))}. Views to be predicted alone may have any "
            "label."
        )
    if not (known := views.label.isin([0, 1])).all():
        raise ValueError(
            f"labels must be 0 or 1. Received: {(~known).sum()} of {len(views)} views without a "
            "label or with another. mura_tf.predict_views predicts such views, too."
        )
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} must be a whole number from {least} up. Received: {value}.")
    if targets is not None and len(targets) != len(views):
        raise ValueError(
            f"targets must have a row per view, {len(views)} of them. Received: {len(targets)}."
        )
    table = preprocessing_table(preprocessing)
    specs = parse_augmentations(augment) if training else {}
    mixup = specs.pop("mixup", None)
    if mixup and (studies or boxes is not None):
        raise ValueError(
            "'mixup' lays two views over each other; boxes and studies are of one. Received: "
            f"'mixup' with {'studies' if studies else 'boxes'}. Leave one out."
        )
    prepared = prepare(views, image_size, cache_dir, resize=resize)
    labels = np.asarray(views.label if targets is None else targets, np.float32)
    weights = _sample_weights(views, class_weights)
    count = len(views)
    flip = "flip" in specs
    beyond = {name: value for name, value in specs.items() if value is not None}
    augmenter = Augmenter(beyond) if beyond else None
    lesions = None if boxes is None else _Lesions(views, boxes, prepared)
    codes = np.arange(count, dtype=np.int32)
    if studies:
        codes = views.groupby(STUDY_KEY, sort=False).ngroup().to_numpy(np.int32)
    bounds = np.append(np.arange(0, count, batch_size), count)
    if studies and not training:
        bounds = _whole_studies(codes, batch_size)
    steps = len(bounds) - 1
    epoch_counter = iter(range(first_epoch, 2**31))

    @lru_cache(maxsize=2)
    def epoch_order(epoch: int) -> np.ndarray:
        if not training:
            return np.arange(count)
        draw = np.random.default_rng([seed, epoch])
        if studies:
            return np.argsort(draw.permutation(codes.max() + 1)[codes], kind="stable")
        return draw.permutation(count)

    def gather(epoch: np.int64, step: np.int64) -> tuple[np.ndarray | np.float32, ...]:
        chosen = epoch_order(int(epoch))[bounds[step] : bounds[step + 1]]
        squares = prepared.images[prepared.rows[chosen]]
        masks = np.empty(0, np.float32) if lesions is None else lesions.masks(chosen)
        # step + 1, because 0 would repeat the order's
        draw = np.random.default_rng([seed, int(epoch), int(step) + 1])
        if flip:
            flipped = draw.random(len(chosen)) < 0.5
            squares[flipped] = squares[flipped, :, ::-1]
            if lesions:
                masks[flipped] = masks[flipped, :, ::-1]
        step_seed = draw.integers(2**31, size=2, dtype=np.int32)
        share = np.float32(draw.beta(mixup, mixup) if mixup else 1)
        images = squares[..., None] if augmenter else looked_up(squares, table)
        return images, labels[chosen], weights[chosen], codes[chosen], masks, step_seed, share

    kept = _Kept(gather)

    def load(epoch: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, Labels, tf.Tensor]:
        dtype = tf.uint8 if augmenter else tf.float32
        parts = [dtype, tf.float32, tf.float32, tf.int32, tf.float32, tf.int32, tf.float32]
        images, label, weight, study, masks, step_seed, share = tf.numpy_function(
            kept, [epoch, step], parts
        )
        images.set_shape((None, image_size, image_size, 1 if augmenter else 3))
        label.set_shape((None, *labels.shape[1:]))
        weight.set_shape((None,))
        if lesions:
            masks.set_shape((None, image_size, image_size, 1))
        if augmenter:
            step_seed.set_shape((2,))
            grey = tf.cast(images, tf.float32)
            both = augmenter(tf.concat([grey, masks], axis=-1) if lesions else grey, step_seed)
            grey, masks = both[..., :1], both[..., 1:]
            images = grey * tf.constant(table[1] - table[0]) + tf.constant(table[0])
        if mixup:
            share.set_shape(())
            images, label, weight = mixed(images, label, weight, share)
        beside = {"lesions": masks[..., 0]} if lesions else {}
        if studies:
            beside["studies"] = tf.ensure_shape(study, (None,))
        return images, {"labels": label, **beside} if beside else label, weight

    epochs = tf.data.Dataset.from_tensors(0).map(
        lambda _: tf.ensure_shape(
            tf.numpy_function(_Kept(lambda: np.int64(next(epoch_counter))), [], tf.int64), ()
        )
    )
    batches = epochs.flat_map(
        lambda epoch: tf.data.Dataset.range(steps).map(lambda step: (epoch, step))
    )
    loaded = (
        batches.map(load, num_parallel_calls=2, deterministic=True)
        .apply(tf.data.experimental.assert_cardinality(steps))
        .prefetch(4)
    )
    weakref.finalize(loaded, kept.let_go)  # its iterators keep it, and so does what is made of it
    return loaded


class _Kept(Generic[T]):
    """A function that TensorFlow keeps as long as the process lives, and with it what it holds.

    That is the views' mapped file, until it is let go. TensorFlow's threads call it. A process that
    ends waits for them, and they for the interpreter: so none is left inside before.
    """

    _inside, _last, _lock = 0, 0.0, threading.Lock()
    ending = False

    def __init__(self, function: Callable[..., T]):
        self._function: Callable[..., T] | None = function

    def __call__(self, *numbers: np.int64) -> T:
        self._count(1)
        try:
            if self._function is None or _Kept.ending:
                raise StopIteration  # which TensorFlow tells whoever reads on, and logs not
            return self._function(*numbers)
        finally:
            self._count(-1)

    def let_go(self) -> None:
        self._function = None

    @classmethod
    def end(cls, quiet: float = 0.3) -> None:
        """Lets every call under way return, and those that follow until the buffers are full;
        half a minute at most."""
        cls.ending, started = True, time.monotonic()
        while time.monotonic() - started < 30:
            with cls._lock:
                if not cls._inside and time.monotonic() - cls._last > quiet:
                    return
            time.sleep(0.02)

    @classmethod
    def _count(cls, change: int) -> None:
        with cls._lock:
            cls._inside += change
            cls._last = time.monotonic()


atexit.register(_Kept.end)


def _whole_studies(codes: np.ndarray, batch_size: int) -> np.ndarray:
    """Where batches of whole studies begin, and the end.

    Args:
        codes: int (n,), a number for each study.
        batch_size: views of a batch, at most, unless one study has more.
    """
    ends = [*(np.flatnonzero(np.diff(codes)) + 1), len(codes)]
    bounds = [0]
    for end, following in zip(ends, [*ends[1:], np.inf], strict=True):
        if following - bounds[-1] > batch_size:
            bounds.append(end)
    return np.array(bounds)


class _Lesions:
    """Where the lesions of each view lie in its square, as far as that is known."""

    def __init__(self, views: pd.DataFrame, boxes: pd.DataFrame, prepared: PreparedViews):
        self._side = prepared.images.shape[1]
        self._pixels = box_pixels(views, boxes, prepared.frames)
        boxed = np.array([bool(parts) for parts in self._pixels])
        self._unknown = (views.label == 1).to_numpy() != boxed  # unmarked, or contradictory

    def masks(self, chosen: np.ndarray) -> np.ndarray:
        """float32 (B, S, S, 1), see `make_dataset`."""
        masks = covered([self._pixels[index] for index in chosen], self._side)
        masks = masks[..., None].astype(np.float32)
        masks[self._unknown[chosen]] = -1
        return masks


def load_images(
    views: pd.DataFrame,
    *,
    image_size: int,
    preprocessing: str = "caffe",
    cache_dir: str | os.PathLike[str] | None = None,
    resize: str = "bilinear",
) -> np.ndarray:
    """All views at once, as a model is given them: float32 (n_views, S, S, 3).

    Args:
        views, image_size, preprocessing, cache_dir, resize: see `make_dataset`.

    Examples:
        >>> views = mt.load_mura("demo/MURA-v1.1")
        >>> mt.load_images(views[:3], image_size=64).shape
        (3, 64, 64, 3)
    """
    prepared = prepare(views, image_size, cache_dir, resize=resize)
    return looked_up(prepared.images[prepared.rows], preprocessing_table(preprocessing))


def input_statistics(
    views: pd.DataFrame,
    *,
    image_size: int,
    preprocessing: str,
    cache_dir: str | os.PathLike[str] | None = None,
    resize: str = "bilinear",
) -> dict[str, float | str]:
    """What a model's inputs look like, to know others by.

    Args:
        views, image_size, preprocessing, cache_dir, resize: see `make_dataset`.

    Returns:
        `low` and `high`, what black and white become; `mean` and `deviation` of the values,
        padding included, in up to 256 views evenly spread over the table; `preprocessing`.
    """
    prepared = prepare(views, image_size, cache_dir, resize=resize)
    spread = np.unique(np.linspace(0, len(views) - 1, 256).astype(int))
    counts = np.bincount(prepared.images[prepared.rows[spread]].ravel(), minlength=256)
    values = preprocessing_table(preprocessing).astype(float)
    shares = np.repeat(counts[:, None], 3, axis=1) / (3 * counts.sum())
    mean = float((shares * values).sum())
    return {
        "preprocessing": preprocessing,
        "low": float(values.min()),
        "high": float(values.max()),
        "mean": mean,
        "deviation": float(np.sqrt((shares * (values - mean) ** 2).sum())),
    }


def preprocessing_table(mode: str) -> np.ndarray:
    """What each grey level becomes: float32 (256, 3), in the channel order the model gets.

    Equal to `keras.applications.imagenet_utils.preprocess_input` on a grey image of three equal
    channels, by table because every pixel has one of 256 values. "caffe_rgb" is Keras' "caffe" with
    its channels turned round; "unit" and "raw" need no ImageNet.

    Raises:
        ValueError: an unknown mode.
    """
    grey = np.arange(256, dtype=np.float32)[:, None]
    if mode == "caffe":
        return grey - np.array(IMAGENET_MEAN_BGR, np.float32)
    if mode == "caffe_rgb":
        return grey - np.array(IMAGENET_MEAN_BGR[::-1], np.float32)
    if mode == "torch":
        mean, std = np.array(IMAGENET_MEAN_RGB), np.array(IMAGENET_STD_RGB)
        return ((grey / 255 - mean) / std).astype(np.float32)
    if mode == "tf":
        return np.repeat(grey / 127.5 - 1, 3, axis=1).astype(np.float32)
    if mode == "unit":
        return np.repeat(grey / 255, 3, axis=1)
    if mode == "raw":
        return np.repeat(grey, 3, axis=1)
    hint = " What is native depends on the backbone: BACKBONES[name].preprocessing."
    raise ValueError(
        f"preprocessing must be one of caffe, caffe_rgb, tf, torch, unit, raw. Received: {mode!r}."
        + (hint if mode == "native" else "")
    )


def looked_up(squares: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`table[squares]` for uint8 (B, S, S): float32 (B, S, S, 3), ten times as fast by OpenCV."""
    flat = cv2.cvtColor(squares.reshape(-1, squares.shape[-1]), cv2.COLOR_GRAY2BGR)
    return cv2.LUT(flat, table[None]).reshape(*squares.shape, 3)


def _sample_weights(
    views: pd.DataFrame, class_weights: Mapping[str, tuple[float, float]] | None
) -> np.ndarray:
    weights = weights_of(views) if class_weights is None else class_weights
    lacking = set(views.study_type) - set(weights)
    if lacking:
        raise ValueError(
            f"class_weights must name every study type. Received: {sorted(weights)}, without "
            f"{sorted(lacking)}."
        )
    pairs = zip(views.study_type, views.label, strict=True)
    return np.array([weights[study_type][int(label)] for study_type, label in pairs], np.float32)
