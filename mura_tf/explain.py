"""Where a model looked: heatmaps of radiographs, by any of `METHODS` behind one signature."""

import contextlib
import difflib
import importlib
import io
import re
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import keras
import numpy as np
from keras import layers

from mura_tf.run import Run

BATCH = 8
"""Images per step; a gradient's activations take gigabytes at 32."""
SMOOTH_SAMPLES, SMOOTH_NOISE = 20, 0.2
"""SmoothGrad: noisy copies of an image; the noise's deviation as a share of the image's range."""
SCORE_CAM_CHANNELS = 32
"""Score-CAM weighs the channels that vary most over a view; each costs a forward pass."""


def heatmaps(
    model,
    images,
    method: str = "cam",
    of_class: int | str | None = None,
    *,
    layer: str | None = None,
    frames=None,
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
            that the head pools, or the model's last.
        frames: int (B, 4), top, left, height and width of each radiograph in its square, see
            `padded_box`; by default, a border of one colour is taken for padding.

    Returns:
        float32 (B, S, S), in [0, 1].

    Raises:
        ValueError: a nested model, a head or layer that the method cannot explain, an unknown
            method or class, images of another shape than the model's or with NaN, frames that do
            not fit them.
        ImportError: a method of tf-keras-vis without the extra `mura-tf[explain]`.

    Warns:
        UserWarning: a `Run`, and images of another range than it was trained on.
    """
    chosen = find_method(method)
    if layer is not None and not chosen.takes_layer:
        layered = ", ".join(name for name, one in METHODS.items() if one.takes_layer)
        raise ValueError(
            f"the method {method!r} takes no layer, {layered} do. Received: layer={layer!r}. "
            "Leave it out."
        )
    if isinstance(model, list | tuple):
        maps = [
            heatmaps(member, images, method, of_class, layer=layer, frames=frames)
            for member in _members(model)
        ]
        return np.mean(maps, axis=0)
    model, index, images = _opened(model, images, of_class, chosen.takes_class)
    maps = _by_batches(lambda batch: chosen.maps(model, batch, index, layer), images)
    return _finished(maps, images, frames)


def cam(model, images, of_class: int | str | None = None, *, frames=None) -> np.ndarray:
    """The class activation maps of `raw_cam` as heatmaps, float32 (B, S, S); see `heatmaps`."""
    return heatmaps(model, images, "cam", of_class, frames=frames)


def raw_cam(model, images, of_class: int | str | None = None) -> tuple[np.ndarray, float]:
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
    bias = _affine_head(model)[2][index]
    return _by_batches(lambda batch: _cam(model, batch, index, None), images), float(bias)


def probabilities(model, images, of_class: int | str | None = None) -> np.ndarray:
    """What `model` says of each image: float (B,), the mean over the members of an ensemble.

    Args:
        model, images, of_class: see `heatmaps`.
    """
    if isinstance(model, list | tuple):
        said = [probabilities(member, images, of_class) for member in _members(model)]
        return np.mean(said, axis=0)
    model, index, images = _opened(model, images, of_class, takes_class=True)
    predictor = _derived(model, "output", lambda: model.output)
    return _by_batches(predictor.predict_on_batch, images)[:, index].astype(float)


def find_method(name: str) -> "Method":
    """`METHODS[name]`, or a ValueError that lists the names."""
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}. Received: {name!r}.")
    return METHODS[name]


def methods_for(model) -> list[str]:
    """The methods that can explain a `keras.Model` or `Run`, of `METHODS`."""
    model = _keras_model(model)
    lacking = set() if _attention_maps(model) else {"attention"}
    try:
        _affine_head(model)
    except ValueError:
        lacking.add("cam")
    return [name for name in METHODS if name not in lacking]


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


def _members(models: Sequence) -> Sequence:
    if not models:
        raise ValueError("an ensemble needs at least one model or run. Received: an empty list.")
    return models


def _opened(model, images, of_class, takes_class: bool) -> tuple[keras.Model, int, np.ndarray]:
    """The `keras.Model`, the number of the class and the images, all of them checked."""
    info = model.info if isinstance(model, Run) else {}
    model = _keras_model(model)
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
    if not len(images):
        raise ValueError("images holds none, expected at least one.")
    if not np.isfinite(images).all():
        raise ValueError("images must be finite numbers. Received: some that are NaN or infinite.")
    if "inputs" in info:
        _warn_of_other_range(images, info["inputs"])
    if not takes_class:
        return model, 0, images
    classes = tuple(info.get("classes", ()))
    return model, _class_index(of_class, model.output_shape[-1], classes), images


def _keras_model(model) -> keras.Model:
    """A model, or a run's model, whose graph can be taken apart."""
    if isinstance(model, Run):
        best = (model.path / "best.keras").resolve()
        model = _loaded(best.parent, best.stat().st_mtime_ns)
    _require_flat(model)
    return model


@lru_cache(maxsize=8)
def _loaded(folder: Path, changed: int) -> keras.Model:
    return Run(folder).model()


def _require_flat(model) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(
            "model must be a keras.Model, a Run or a list of either. Received: "
            f"{type(model).__name__}."
        )
    nested = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    mend = (
        "Build one graph, as mura_tf.build_model does: call the backbone's layers on the model's "
        "input, or put the head on `backbone.output`."
    )
    if nested:
        raise ValueError(
            "a heatmap needs a flat model, whose feature maps belong to its own graph. Received "
            f"a nested one: {', '.join(map(repr, nested))} inside {model.name!r} is itself a "
            f"model. {mend}"
        )
    if len(getattr(model, "inputs", None) or ()) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "a heatmap needs a functional model with one input and one output. Received: "
            f"{model.name!r}. {mend}"
        )


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


def _warn_of_other_range(images: np.ndarray, inputs: dict) -> None:
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
            stacklevel=4,
        )


def _by_batches(function: Callable, images: np.ndarray) -> np.ndarray:
    parts = [function(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate([np.asarray(part) for part in parts])


def _finished(maps: np.ndarray, images: np.ndarray, frames) -> np.ndarray:
    """Raw maps (B, h, w) as heatmaps (B, S, S), see `heatmaps`."""
    height, width = images.shape[1:3]
    heat = np.zeros(images.shape[:3], np.float32)
    frames = frames_of(images) if frames is None else np.asarray(frames)
    if (
        frames.shape != (len(images), 4)
        or frames.min() < 0
        or (frames[:, :2] + frames[:, 2:] > (height, width)).any()
    ):
        raise ValueError(
            f"frames must be int ({len(images)}, 4), the top, left, height and width of each "
            f"radiograph in its square of {height} x {width} pixels. Received: {frames.tolist()}."
        )
    for one, raw, frame in zip(heat, maps, frames, strict=True):
        raw = np.maximum(raw, 0).astype(np.float32)
        inside = slice(frame[0], frame[0] + frame[2]), slice(frame[1], frame[1] + frame[3])
        one[inside] = cv2.resize(raw, (width, height), interpolation=cv2.INTER_LINEAR)[inside]
        one /= one.max() or 1
    return heat


# Parts of a model. They are made once per model, since tracing one takes seconds.

_DERIVED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _derived(model: keras.Model, name: str, outputs: Callable, inputs=None) -> keras.Model:
    """A model with the same layers, to the symbolic tensors that `outputs` gives.

    Args:
        model: whose part it is.
        name: of the part.
        outputs: called where the part is not made yet.
        inputs: the symbolic tensor it starts from; by default the model's input.
    """
    parts = _DERIVED.setdefault(model, {})
    if name not in parts:
        parts[name] = keras.Model(model.inputs[0] if inputs is None else inputs, outputs())
        if keras.backend.backend() == "tensorflow":
            parts[name].jit_compile = False  # XLA compiles longer than a few batches take
    return parts[name]


def _affine_head(model: keras.Model) -> tuple:
    """What the head pools and does with it.

    Returns:
        (features, kernel, bias): the symbolic tensor (B, h, w, C) that is pooled, and the affine
        map (C, K), (K,) from its mean to the logits.
    """
    output = _output_layer(model)
    kernel, bias = (np.asarray(part, float) for part in _kernel_and_bias(output))
    layer = _layer_before(output)
    while not isinstance(layer, layers.GlobalAveragePooling2D):
        if isinstance(layer, layers.BatchNormalization):
            scale, shift = _scale_and_shift(layer)
            kernel, bias = scale[:, None] * kernel, bias + shift @ kernel
        elif isinstance(layer, layers.Dense) and layer.activation is keras.activations.linear:
            inner, shift = _kernel_and_bias(layer)
            kernel, bias = inner @ kernel, bias + shift @ kernel
        elif not isinstance(layer, layers.Dropout):
            raise ValueError(
                "cam needs a head of global average pooling, then batch normalization, dropout or "
                "dense layers without activation, then the output: only then is the logit a mean "
                f"over positions. Received: {layer.name!r} ({type(layer).__name__}) behind the "
                "feature maps. Use grad_cam, which explains any head."
            )
        layer = _layer_before(layer)
    return layer.input, kernel, bias


def _output_layer(model: keras.Model):
    layer = _origin(model.outputs[0])
    known = ("sigmoid", "softmax", "linear")
    activation = getattr(getattr(layer, "activation", None), "__name__", None)
    if not isinstance(layer, layers.Dense) or activation not in known:
        raise ValueError(
            f"a heatmap needs a dense output layer with one of the activations {', '.join(known)}, "
            f"whose logits it explains. Received: {layer.name!r} ({type(layer).__name__}). Give "
            "the last dense layer the activation itself."
        )
    return layer


def _layer_before(layer):
    return _origin(layer.input[0] if isinstance(layer.input, list) else layer.input)


def _origin(tensor):
    """The layer whose output a symbolic tensor is."""
    return tensor._keras_history.operation


def _kernel_and_bias(dense) -> tuple[np.ndarray, np.ndarray]:
    kernel, *bias = dense.get_weights()
    return kernel, bias[0] if bias else np.zeros(kernel.shape[1])


def _scale_and_shift(norm) -> tuple[np.ndarray, np.ndarray]:
    """Batch normalization in inference as y = scale * x + shift, float (C,) each."""
    mean, variance = np.asarray(norm.moving_mean, float), np.asarray(norm.moving_variance, float)
    scale = 1 / np.sqrt(variance + norm.epsilon)
    scale = scale * np.asarray(norm.gamma, float) if norm.scale else scale
    shift = -mean * scale
    return scale, shift + np.asarray(norm.beta, float) if norm.center else shift


def _logits(model: keras.Model) -> keras.Model:
    """The model without its last activation, which would flatten the gradients."""

    def logits():
        dense = _output_layer(model)  # its own variables, so that further training counts
        values = keras.ops.matmul(keras.ops.cast(dense.input, "float32"), dense.kernel)
        return values + dense.bias if dense.use_bias else values

    return _derived(model, "logits", logits)


def _layer_name(model: keras.Model, name: str | None) -> str:
    """The layer of that name, checked; by default the one the head pools, or the last."""
    if name is None:
        with contextlib.suppress(ValueError):
            return _origin(_affine_head(model)[0]).name
    spatial = [
        layer.name
        for layer in model.layers
        if not isinstance(layer, layers.InputLayer)
        and len(getattr(layer.output, "shape", ())) == 4
        and layer.output.shape[1] != 1
    ]
    if name is None and spatial:
        return spatial[-1]
    if name not in spatial:
        near = difflib.get_close_matches(str(name), spatial, n=5, cutoff=0.3)
        raise ValueError(
            "layer must be the name of one with feature maps (B, h, w, channels). Received: "
            f"{name!r}. Near it are: {', '.join(near) or 'none'}; the last are: "
            f"{', '.join(spatial[-5:]) or 'none'}."
        )
    return name


# The methods: (model, images, number of the class, layer) -> raw maps (B, h, w), in any scale.


def _cam(model, images, index, layer):
    features, kernel, _ = _affine_head(model)
    extractor = _derived(model, "pooled maps", lambda: features)
    maps = np.asarray(extractor.predict_on_batch(images), np.float32)
    return maps @ kernel[:, index].astype(np.float32)


def _grad_cam(model, images, index, layer):
    return _gradient_cam("gradcam.Gradcam", model, images, index, layer)


def _grad_cam_plus_plus(model, images, index, layer):
    return _gradient_cam("gradcam_plus_plus.GradcamPlusPlus", model, images, index, layer)


def _gradient_cam(name, model, images, index, layer):
    """By tf-keras-vis on what follows the layer, where all of the logit comes through it.

    What precedes it needs no gradient and runs as a graph, several times as fast as eagerly. Of a
    layer that others bypass, as in DenseNet's blocks, the whole model is differentiated.
    """
    layer = model.get_layer(_layer_name(model, layer))
    logits = _logits(model)
    try:
        behind = _derived(model, f"behind {layer.name}", lambda: logits.output, layer.output)
    except ValueError:  # the graph is disconnected
        pass
    else:
        before = _derived(model, f"maps of {layer.name}", lambda: layer.output)
        images = before.predict_on_batch(images)
        logits, layer = behind, behind.layers[0]
    cams = _visualized(
        name,
        logits,
        # 0 with the logit's gradient: Grad-CAM++ takes its exponential, which only scales a map
        lambda logits: logits[:, index] - keras.ops.stop_gradient(logits[:, index]),
        images,
        penultimate_layer=layer,
        **_RAW,
    )
    return np.asarray(cams)


_RAW = {"seek_penultimate_conv_layer": False, "expand_cam": False, "normalize_cam": False}
"""Has tf-keras-vis leave the maps as they are; `_finished` does the rest."""


def _score_cam(model, images, index, layer):
    """One view at a time, because tf-keras-vis weighs the channels of a whole batch together."""
    layer = _layer_name(model, layer)
    logits = _logits(model)
    if model.output_shape[-1] == 1:
        # tf-keras-vis takes the softmax, which of one logit is 1: every channel would weigh the
        # same. Of (0, z) it is the sigmoid of z.
        logits = _derived(
            model,
            "two logits",
            lambda: keras.ops.concatenate([0 * logits.output, logits.output], axis=-1),
        )
        index = 1
    maps = [
        _visualized(
            "scorecam.Scorecam",
            logits,
            lambda probabilities: probabilities[:, index],
            image[None],
            penultimate_layer=layer,
            max_N=min(SCORE_CAM_CHANNELS, model.get_layer(layer).output.shape[-1]),
            **_RAW,
        )
        for image in images
    ]
    return np.concatenate(maps)


def _saliency(model, images, index, layer):
    return np.abs(_gradients(model, images, index)).max(axis=-1)


def _smoothgrad(model, images, index, layer):
    """The same noise on every view, so that a map depends on its view alone."""
    deviation = SMOOTH_NOISE * np.ptp(images, axis=(1, 2, 3), keepdims=True)
    rng = np.random.default_rng(0)
    total = 0
    for _ in range(SMOOTH_SAMPLES):
        noise = deviation * rng.standard_normal(images.shape[1:], np.float32)
        total = total + _gradients(model, images + noise, index)
    return np.abs(total / SMOOTH_SAMPLES).max(axis=-1)


def _gradients(model, images, index) -> np.ndarray:
    """What the logit changes with each value: (B, S, S, 3)."""
    parts = _DERIVED.setdefault(model, {})
    if ("gradients", index) not in parts:
        import tensorflow as tf

        logits = _logits(model)
        parts["gradients", index] = tf.function(  # half as long as eagerly
            lambda batch: _visualized(
                "saliency.Saliency",
                logits,
                lambda values: values[:, index],
                batch,
                keepdims=True,
                normalize_map=False,
                gradient_modifier=None,
            ),
            autograph=False,
            reduce_retracing=True,
        )
    return np.asarray(parts["gradients", index](images))


def _attention(model, images, index, layer):
    maps = _attention_maps(model)
    if not maps:
        raise ValueError(
            "attention shows the maps of a head with the layer 'attention:HEADS'. Received: "
            f"{model.name!r} without any. Use another of {', '.join(METHODS)}."
        )
    extractor = _derived(model, "attention", lambda: keras.ops.concatenate(maps, axis=-1))
    return np.asarray(extractor.predict_on_batch(images), np.float32).mean(axis=-1)


def _attention_maps(model) -> list:
    """The symbolic maps (B, h, w, 1) of the head's layers "attention"."""
    return [one.output for one in model.layers if re.fullmatch(r"head\d+_attention_\d+", one.name)]


def _visualized(name: str, model: keras.Model, score: Callable, images, **settings):
    """What tf-keras-vis' class "module.Class" makes of images, for a score of the outputs."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "the methods of tf-keras-vis need Keras on TensorFlow; cam and attention do not. "
            f"Received: the backend {keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow."
        )
    module, _, visualizer = name.partition(".")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of its imports, and of lists where Keras has a tensor
        try:
            visualizer = getattr(importlib.import_module(f"tf_keras_vis.{module}"), visualizer)
        except ImportError:
            raise ImportError(
                "this method is tf-keras-vis', which is not installed. "
                "Install the extra: pip install 'mura-tf[explain]'."
            ) from None
        return visualizer(model)(score, images, **settings)


class Method(NamedTuple):
    """One way to a heatmap.

    Attributes:
        maps: (model, images, number of the class, layer) -> raw maps (B, h, w), in any scale.
        source: where it is from.
        takes_layer: whether it explains the feature maps of a layer that can be chosen.
        takes_class: whether it explains a class.
    """

    maps: Callable
    source: str
    takes_layer: bool = False
    takes_class: bool = True


METHODS = {
    "cam": Method(_cam, "Zhou et al., 2016; exact, without gradients"),
    "grad_cam": Method(_grad_cam, "Selvaraju et al., 2017", takes_layer=True),
    "grad_cam_plus_plus": Method(
        _grad_cam_plus_plus, "Chattopadhay et al., 2018", takes_layer=True
    ),
    "score_cam": Method(
        _score_cam, f"Wang et al., 2020; the {SCORE_CAM_CHANNELS} channels that vary most", True
    ),
    "saliency": Method(_saliency, "Simonyan et al., 2014"),
    "smoothgrad": Method(_smoothgrad, f"Smilkov et al., 2017; {SMOOTH_SAMPLES} noisy copies"),
    "attention": Method(
        _attention, "the attention heads' own maps (003, Fig. 16)", takes_class=False
    ),
}
