"""Where a model looked: heatmaps of radiographs, by any of `METHODS` behind one signature."""

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import ArrayLike

from mura_tf.explain.maps import enlarged
from mura_tf.explain.methods import METHODS, find_method
from mura_tf.models.backend import require_backend
from mura_tf.models.graph import (
    affine_head,
    attention_maps,
    in_float32,
    lesion_logits,
    part_of,
    require_flat,
)
from mura_tf.terminal import Notice
from mura_tf.training.run import Run

BATCH = 8
"""Images per step; a gradient's activations take gigabytes at 32."""
ModelOrRun: TypeAlias = keras.Model | Run


def heatmaps(
    model: ModelOrRun | Sequence[ModelOrRun],
    images: ArrayLike,
    method: str = "cam",
    of_class: int | str | None = None,
    *,
    layer: str | None = None,
    frames: ArrayLike | None = None,
) -> np.ndarray:
    """Where `model` looked on each image.

    A map's negative part is cut off, it is enlarged to the input (bilinear, half-pixel centres),
    padding is set to 0, and it is divided by its maximum. So 1 is the strongest place of this very
    image, and a map of zeros says that nowhere speaks for the class. An ensemble's map is the mean
    of its members', and reaches 1 only where all of them are strongest.

    Args:
        model: a flat `keras.Model`; or a finished `Run`, whose class names are known and which
            warns of images unlike those it was trained on; or a list of either, an ensemble: the
            mean of the members' maps.
        images: float (B, S, S, 3), preprocessed as for training.
        method: a key of `METHODS`.
        of_class: for a model with classes, the number or (a `Run`'s) name of the one to explain.
        layer: whose feature maps the methods of `METHODS` that take one explain; by default those
            that the head pools, or the model's last. Saliency has the part of the gradient that
            comes through the layer; by default all of it.
        frames: int (B, 4), top, left, height and width of each radiograph in its square, see
            `padded_box`; by default, a border of one colour is taken for padding.

    Returns:
        float32 (B, S, S), in [0, 1].

    Raises:
        ValueError: a nested model, a head or layer that the method cannot explain, an unknown
            method or class, a method that Keras' backend cannot make, images of another shape than
            the model's or with NaN, frames that do not fit them.
        ImportError: a method of tf-keras-vis without the extra `mura-tf[explain]`.

    Warns:
        Notice: a `Run`, and images of another range than it was trained on.

    Examples:
        >>> members = [mt.Run(path) for path in Path("demo/small_cnn/type/wrist").iterdir()]
        >>> views, recipe = members[0].predictions[:2], members[0].recipe
        >>> settings = {"preprocessing": recipe.preprocessing_mode, "resize": recipe.resize}
        >>> images = mt.load_images(views, image_size=recipe.side, **settings)
        >>> mt.heatmaps(members, images, "cam").shape == (2, recipe.side, recipe.side)
        True
    """
    chosen = find_method(method)
    if layer is not None and not chosen.takes_layer:
        layered = ", ".join(name for name, one in METHODS.items() if one.takes_layer)
        raise ValueError(
            f"the method {method!r} takes no layer, {layered} do. Received: layer={layer!r}. "
            "Leave it out."
        )
    if isinstance(model, list | tuple):
        of_members = [
            heatmaps(member, images, method, of_class, layer=layer, frames=frames)
            for member in _members(model)
        ]
        return np.mean(of_members, axis=0)
    model, index, images = _opened(model, images, of_class, chosen.takes_class)
    maps = _by_batches(lambda batch: chosen.maps(model, batch, index, layer), images)
    return _finished(maps, images, frames)


def cam(
    model: ModelOrRun | Sequence[ModelOrRun],
    images: ArrayLike,
    of_class: int | str | None = None,
    *,
    frames: ArrayLike | None = None,
) -> np.ndarray:
    """The class activation maps of `raw_cam` as heatmaps, float32 (B, S, S); see `heatmaps`.

    Examples:
        >>> model = mt.build_model("small_cnn", weights=None, image_size=32)
        >>> mt.cam(model, np.random.default_rng(0).normal(size=(2, 32, 32, 3))).shape
        (2, 32, 32)
    """
    return heatmaps(model, images, "cam", of_class, frames=frames)


def raw_cam(
    model: ModelOrRun, images: ArrayLike, of_class: int | str | None = None
) -> tuple[np.ndarray, float]:
    """The class activation maps that a class's logit is the mean of.

    Between the feature maps f and the logit, the head averages over the positions p and is affine:
    logit = w . mean_p f(p) + b = mean_p(w . f(p)) + b. Here w and b are the output layer's, folded
    through batch normalization and dense layers without activation; so no gradient is needed, and
    any backend will do.

    Args:
        model: a `keras.Model` or `Run` whose head is global average pooling, then any of batch
            normalization, dropout and dense layers without activation, then the output.
        images, of_class: see `heatmaps`.

    Returns:
        (maps, bias): float32 (B, h, w), w . f at the size of the feature maps, and b. The logit of
        image i is `maps[i].mean() + bias`.

    Raises:
        ValueError: see `heatmaps`.

    Source: Zhou et al., "Learning deep features for discriminative localization", 2016.
    """
    model, index, images = _opened(model, images, of_class, takes_class=True)
    if lesion_logits(model) is not None:
        raise ValueError(
            f"the logit of {model.name!r} is no mean over positions, for its head has a map, whose "
            "log-sum-exp it adds. heatmaps(model, images, 'cam') shows the part that is pooled."
        )
    bias = affine_head(model)[2][index]
    maps = _by_batches(lambda batch: METHODS["cam"].maps(model, batch, index, None), images)
    return maps, float(bias)


def probabilities(
    model: ModelOrRun | Sequence[ModelOrRun], images: ArrayLike, of_class: int | str | None = None
) -> np.ndarray:
    """What `model` says of each image: float (B,), the mean over the members of an ensemble.

    Args:
        model, images, of_class: see `heatmaps`.
    """
    if isinstance(model, list | tuple):
        said = [probabilities(member, images, of_class) for member in _members(model)]
        return np.mean(said, axis=0)
    model, index, images = _opened(model, images, of_class, takes_class=True)
    predictor = part_of(model, "output", lambda: model.outputs[0])
    return _by_batches(predictor.predict_on_batch, images)[:, index].astype(float)


def methods_for(model: ModelOrRun) -> list[str]:
    """The methods of `METHODS` that can explain a `keras.Model` or `Run` on Keras' backend."""
    model = model_of(model)
    lacking = set() if attention_maps(model) else {"attention"}
    if lesion_logits(model) is None:
        lacking.add("learned")
    try:
        affine_head(model)
    except ValueError:
        lacking.add("cam")
    return [name for name, one in METHODS.items() if one.works_here and name not in lacking]


def model_of(model: ModelOrRun) -> keras.Model:
    """A model, or a run's model, whose graph can be taken apart."""
    if isinstance(model, Run):
        model = _loaded(model.path.resolve(), model.model_path.stat().st_mtime_ns)
    require_flat(model)
    return model


def frames_of(images: np.ndarray) -> np.ndarray:
    """Where each radiograph lies in its padded square, as far as its pixels tell.

    Rows and columns at the border that have one colour throughout are taken for padding; so a
    radiograph loses its own black margin, too.

    Args:
        images: (B, S, S, 3).

    Returns:
        int (B, 4): top, left, height, width; a blank image fills its square.
    """
    frames = []
    for image in images:
        rows = np.flatnonzero((image != image[:, :1]).any(axis=(1, 2)))
        columns = np.flatnonzero((image != image[:1]).any(axis=(0, 2)))
        rows = rows if len(rows) else np.arange(image.shape[0])
        columns = columns if len(columns) else np.arange(image.shape[1])
        frames.append((rows[0], columns[0], np.ptp(rows) + 1, np.ptp(columns) + 1))
    return np.array(frames)


def _members(models: Sequence[ModelOrRun]) -> Sequence[ModelOrRun]:
    if not models:
        raise ValueError("an ensemble needs at least one model or run. Received: an empty list.")
    return models


def _opened(
    model: ModelOrRun, images: ArrayLike, of_class: int | str | None, takes_class: bool
) -> tuple[keras.Model, int, np.ndarray]:
    """The `keras.Model`, the number of the class and the images, all of them checked."""
    require_backend()
    info = model.info if isinstance(model, Run) else {}
    model = model_of(model)
    images = np.asarray(images, np.float32)
    expected = model.input_shape[1:]
    if images.ndim != 4 or any(
        side not in (None, got) for side, got in zip(expected, images.shape[1:], strict=True)
    ):
        sides = ", ".join("any" if side is None else str(side) for side in expected)
        raise ValueError(
            f"images must be float (B, {sides}), of the size the model was built for. Received: "
            f"{images.shape}. Prepare them at its size: mura_tf.load_images(views, image_size=...)."
        )
    if images.shape[1] != images.shape[2]:
        raise ValueError(
            f"images must be squares, float (B, S, S, 3). Received: {images.shape}. Pad them: "
            "mura_tf.load_images(views, image_size=...)."
        )
    if not len(images):
        raise ValueError("images holds none, expected at least one.")
    if not np.isfinite(images).all():
        raise ValueError("images must be finite numbers. Received: some that are NaN or infinite.")
    if "inputs" in info:
        _warn_of_other_range(images, info["inputs"])
    if not takes_class:
        return model, 0, images
    classes = tuple(info.get("classes", ()))
    return model, _class_index(of_class, model.outputs[0].shape[-1], classes), images


@lru_cache(maxsize=8)
def _loaded(folder: Path, changed: int) -> keras.Model:
    return in_float32(Run(folder).model())  # float16 has no gradients this small


def _class_index(of_class: int | str | None, count: int, classes: tuple[str, ...]) -> int:
    named = ", ".join(classes) if classes else f"0 to {count - 1}"
    if count == 1:
        if of_class is not None:
            raise ValueError(
                "the model has one output, the probability of abnormality. Received: of_class="
                f"{of_class!r}. Leave it out."
            )
        return 0
    if of_class is None:
        raise ValueError(
            f"the model has {count} classes, and a heatmap is of one of them. Received: "
            f"of_class=None. Give one of {named}."
        )
    if isinstance(of_class, str) and of_class in classes:
        return classes.index(of_class)
    if isinstance(of_class, int | np.integer) and 0 <= of_class < count:
        return int(of_class)
    hint = ""
    if isinstance(of_class, str) and not classes:
        hint = " A keras.Model knows its classes by number only; a Run knows their names."
    raise ValueError(f"of_class must be one of {named}. Received: {of_class!r}.{hint}")


def _warn_of_other_range(images: np.ndarray, inputs: dict[str, Any]) -> None:
    """Warns of images that cannot come from the preprocessing of `input_statistics`."""
    low, high, mean, deviation = (inputs[key] for key in ("low", "high", "mean", "deviation"))
    slack = 0.01 * (high - low)
    if (
        images.min() < low - slack
        or images.min() > low + 20 * slack  # radiographs have black in them
        or images.max() > high + slack
        or abs(images.mean() - mean) > deviation
        or images.std() < deviation / 4
    ):
        warnings.warn(
            f"the images are unlike those the run was trained on: their values lie in "
            f"[{images.min():.3g}, {images.max():.3g}] with mean {images.mean():.3g} and deviation "
            f"{images.std():.3g}; expected [{low:.3g}, {high:.3g}], about {mean:.3g} and "
            f"{deviation:.3g}. Prepare them with the run's preprocessing, "
            f"{inputs['preprocessing']!r}.",
            Notice,
            stacklevel=4,
        )


def _by_batches(function: Callable[[np.ndarray], ArrayLike], images: np.ndarray) -> np.ndarray:
    parts = [function(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate([np.asarray(part) for part in parts])


def _finished(maps: np.ndarray, images: np.ndarray, frames: ArrayLike | None) -> np.ndarray:
    """Raw maps (B, h, w) as heatmaps (B, S, S), see `heatmaps`."""
    height, width = images.shape[1:3]
    frames = frames_of(images) if frames is None else np.asarray(frames)
    if (
        frames.shape != (len(images), 4)
        or not np.issubdtype(frames.dtype, np.integer)
        or frames.min() < 0
        or not frames[:, 2:].all()
        or (frames[:, :2] + frames[:, 2:] > (height, width)).any()
    ):
        raise ValueError(
            f"frames must be int ({len(images)}, 4), the top, left, height and width of each "
            f"radiograph in its square of {height} x {width} pixels. Received: {frames.tolist()}."
        )
    return enlarged(maps, frames, height)
