"""The methods behind a heatmap: CAM exactly, the gradients' by tf-keras-vis, attention's own."""

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
import numpy as np
from keras import KerasTensor
from numpy.typing import ArrayLike

from mura_tf.models.graph import (
    affine_head,
    attention_maps,
    layer_name,
    lesion_logits,
    logits_of,
    made_once,
    part_of,
)

SMOOTH_SAMPLES, SMOOTH_NOISE = 20, 0.2
"""SmoothGrad: noisy copies of an image; the noise's deviation as a share of the image's range."""
SCORE_CAM_CHANNELS = 32
"""Score-CAM weighs the channels that vary most over a view; each costs a forward pass."""


def _cam(model: keras.Model, images: np.ndarray, index: int, layer: str | None) -> np.ndarray:
    features, kernel, _ = affine_head(model)
    extractor = part_of(model, "pooled maps", lambda: features)
    maps = np.asarray(extractor.predict_on_batch(images), np.float32)
    return maps @ kernel[:, index].astype(np.float32)


def _gradient_cam(
    name: str, model: keras.Model, images: np.ndarray, index: int, layer: str | None
) -> np.ndarray:
    """By tf-keras-vis on what follows the layer, where all of the logit comes through it.

    What precedes it needs no gradient and runs as a graph, several times as fast as eagerly. Of a
    layer that others bypass, as in DenseNet's blocks, the whole model is differentiated.
    """
    explained = model.get_layer(layer_name(model, layer))
    logits = logits_of(model)
    try:
        behind = part_of(model, f"behind {explained.name}", lambda: logits.output, explained.output)
    except ValueError:  # the graph is disconnected
        pass
    else:
        before = part_of(model, f"maps of {explained.name}", lambda: explained.output)
        images = before.predict_on_batch(images)
        logits, explained = behind, behind.layers[0]
    cams = _visualized(
        name,
        logits,
        # 0 with the logit's gradient: Grad-CAM++ takes its exponential, which only scales a map
        lambda logits: logits[:, index] - keras.ops.stop_gradient(logits[:, index]),
        images,
        penultimate_layer=explained,
        **_RAW,
    )
    return np.asarray(cams)


_RAW = {"seek_penultimate_conv_layer": False, "expand_cam": False, "normalize_cam": False}
"""Has tf-keras-vis leave the maps as they are; `explain` does the rest."""


def _score_cam(model: keras.Model, images: np.ndarray, index: int, layer: str | None) -> np.ndarray:
    """One view at a time, because tf-keras-vis weighs the channels of a whole batch together."""
    layer = layer_name(model, layer)
    logits = logits_of(model)
    if model.outputs[0].shape[-1] == 1:
        # tf-keras-vis takes the softmax, which of one logit is 1: every channel would weigh the
        # same. Of (0, z) it is the sigmoid of z.
        logits = part_of(
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


def _saliency(model: keras.Model, images: np.ndarray, index: int, layer: str | None) -> np.ndarray:
    gradients = _gradients if layer is None else partial(_gradients_through, layer=layer)
    return np.abs(gradients(model, images, index)).max(axis=-1)


def _smoothgrad(
    model: keras.Model, images: np.ndarray, index: int, layer: str | None
) -> np.ndarray:
    """The same noise on every view, so that a map depends on its view alone."""
    deviation = SMOOTH_NOISE * np.ptp(images, axis=(1, 2, 3), keepdims=True)
    rng = np.random.default_rng(0)
    total = np.zeros(images.shape, np.float32)
    for _ in range(SMOOTH_SAMPLES):
        noise = deviation * rng.standard_normal(images.shape[1:], np.float32)
        total = total + _gradients(model, images + noise, index)
    return np.abs(total / SMOOTH_SAMPLES).max(axis=-1)


def _gradients(model: keras.Model, images: np.ndarray, index: int) -> np.ndarray:
    """What the logit changes with each value: (B, S, S, 3)."""

    def make() -> Callable[[np.ndarray], ArrayLike]:
        import tensorflow as tf

        logits = logits_of(model)
        return tf.function(  # half as long as eagerly
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

    return np.asarray(made_once(model, ("gradients", index), make)(images))


def _gradients_through(
    model: keras.Model, images: np.ndarray, index: int, layer: str
) -> np.ndarray:
    """The part of the logit's gradient that comes through a layer: (B, S, S, 3).

    That is all of it where nothing bypasses the layer. In DenseNet's blocks, others do.
    """
    layer = layer_name(model, layer)

    def make() -> Callable[[KerasTensor], KerasTensor]:
        import tensorflow as tf

        maps, logits = model.get_layer(layer).output, logits_of(model).output
        both = part_of(model, f"logits and {layer}", lambda: [maps, logits])

        def gradients(batch: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(batch)
                values, scores = both(batch)
                score = scores[:, index]
            return tape.gradient(values, batch, output_gradients=tape.gradient(score, values))

        return tf.function(gradients, autograph=False, reduce_retracing=True)

    found = made_once(model, ("gradients through", layer, index), make)
    return np.asarray(found(keras.ops.convert_to_tensor(images)))


def _attention(model: keras.Model, images: np.ndarray, index: int, layer: str | None) -> np.ndarray:
    maps = attention_maps(model)
    if not maps:
        raise ValueError(
            "attention shows the maps of a head with the layer 'attention:HEADS'. Received: "
            f"{model.name!r} without any. Use another of {', '.join(METHODS)}."
        )
    extractor = part_of(model, "attention", lambda: keras.ops.concatenate(maps, axis=-1))
    return np.asarray(extractor.predict_on_batch(images), np.float32).mean(axis=-1)


def _learned(model: keras.Model, images: np.ndarray, index: int, layer: str | None) -> np.ndarray:
    logits = lesion_logits(model)
    if logits is None:
        raise ValueError(
            "learned shows the map of a head with the layer 'map:STRIDE:WEIGHT'. Received: "
            f"{model.name!r} without one. Use another of {', '.join(METHODS)}."
        )
    extractor = part_of(model, "learned", lambda: keras.ops.sigmoid(logits[..., 0]))
    return np.asarray(extractor.predict_on_batch(images), np.float32)


def _visualized(
    name: str,
    model: keras.Model,
    score: Callable[[KerasTensor], KerasTensor],
    images: np.ndarray,
    **settings: object,
) -> np.ndarray:
    """What tf-keras-vis' class "module.Class" makes of images, for a score of the outputs."""
    module, _, class_name = name.partition(".")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of its imports, and of lists where Keras has a tensor
        try:
            visualizer = getattr(importlib.import_module(f"tf_keras_vis.{module}"), class_name)
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
        takes_layer: whether it explains the feature maps of a layer that can be chosen, or what
            comes through it.
        takes_class: whether it explains a class.
        native: whether any backend of Keras will do; the others are tf-keras-vis'.
    """

    maps: Callable[[keras.Model, np.ndarray, int, str | None], np.ndarray]
    source: str
    takes_layer: bool = False
    takes_class: bool = True
    native: bool = False

    @property
    def works_here(self) -> bool:
        """Whether Keras' backend can make it."""
        return self.native or keras.config.backend() == "tensorflow"


METHODS = {
    "cam": Method(_cam, "Zhou et al., 2016; exact, without gradients", native=True),
    "grad_cam": Method(
        partial(_gradient_cam, "gradcam.Gradcam"), "Selvaraju et al., 2017", takes_layer=True
    ),
    "grad_cam_plus_plus": Method(
        partial(_gradient_cam, "gradcam_plus_plus.GradcamPlusPlus"),
        "Chattopadhay et al., 2018",
        takes_layer=True,
    ),
    "score_cam": Method(
        _score_cam, f"Wang et al., 2020; the {SCORE_CAM_CHANNELS} channels that vary most", True
    ),
    "saliency": Method(
        _saliency, "Simonyan et al., 2014; of a layer, the part that comes through it", True
    ),
    "smoothgrad": Method(_smoothgrad, f"Smilkov et al., 2017; {SMOOTH_SAMPLES} noisy copies"),
    "attention": Method(
        _attention, "the attention heads' own maps (003, Fig. 16)", takes_class=False, native=True
    ),
    "learned": Method(
        _learned, "the map of a head with the layer 'map'", takes_class=False, native=True
    ),
}


def find_method(name: str) -> Method:
    """`METHODS[name]`; ValueError where there is none, or Keras' backend cannot make it."""
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}. Received: {name!r}.")
    if not METHODS[name].works_here:
        able = " and ".join(name for name, one in METHODS.items() if one.works_here)
        raise ValueError(
            f"the method {name!r} is tf-keras-vis', which needs Keras on TensorFlow; {able} do "
            f"not. Received: the backend {keras.config.backend()!r}. Set KERAS_BACKEND=tensorflow: "
            "the models of every backend are loaded there."
        )
    return METHODS[name]
