"""The parts of a flat Keras model that a heatmap is made of, as models of their own."""

import contextlib
import difflib
import json
import re
import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import keras
import numpy as np
from keras import KerasTensor, layers

from mura_tf.models.lesion_map import WITH_MAP

Made = TypeVar("Made")
_MADE: weakref.WeakKeyDictionary[keras.Model, dict[Hashable, Any]] = weakref.WeakKeyDictionary()
"""model -> name -> what was made of it."""


def made_once(model: keras.Model, name: Hashable, make: Callable[[], Made]) -> Made:
    """What `make` gives, kept under that name as long as the model is: tracing takes seconds."""
    made = _MADE.setdefault(model, {})
    if name not in made:
        made[name] = make()
    return made[name]


def part_of(
    model: keras.Model,
    name: str,
    outputs: Callable[[], KerasTensor | list[KerasTensor] | dict[str, KerasTensor]],
    inputs: KerasTensor | None = None,
) -> keras.Model:
    """A model with the same layers, to the symbolic tensors that `outputs` gives.

    Args:
        model: whose part it is.
        name: of the part.
        outputs: called where the part is not made yet.
        inputs: the symbolic tensor it starts from; by default the model's input.
    """

    def make() -> keras.Model:
        part = keras.Model(model.inputs[0] if inputs is None else inputs, outputs())
        if keras.config.backend() == "tensorflow":
            part.jit_compile = False  # XLA compiles longer than a few batches take
        return part

    return made_once(model, name, make)


def in_float32(model: keras.Model) -> keras.Model:
    """The model itself or, of one that computes in float16, a twin that does in float32."""
    if all(layer.compute_dtype != "float16" for layer in model.layers):
        return model
    config = json.dumps(model.get_config()).replace("mixed_float16", "float32")
    twin = type(model).from_config(json.loads(config))
    twin.set_weights(model.get_weights())
    return twin


def affine_head(model: keras.Model) -> tuple[KerasTensor, np.ndarray, np.ndarray]:
    """What the head pools and does with it.

    Returns:
        (features, kernel, bias): the symbolic tensor (B, h, w, C) that is pooled, and the affine
        map (C, K), (K,) from its mean to the logits. What a map of the head adds is left out.
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
        elif layer.name == WITH_MAP:
            kernel = kernel[: layer.input[0].shape[-1]]
        elif not isinstance(layer, layers.Dropout):
            raise ValueError(
                "cam needs a head of global average pooling, then batch normalization, dropout or "
                "dense layers without activation, then the output: only then is the logit a mean "
                f"over positions. Received: {layer.name!r} ({type(layer).__name__}) behind the "
                "feature maps. Use grad_cam, which explains any head."
            )
        layer = _layer_before(layer)
    return layer.input, kernel, bias


def _output_layer(model: keras.Model) -> layers.Dense:
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


def _layer_before(layer: keras.Layer) -> keras.Layer:
    return _origin(layer.input[0] if isinstance(layer.input, list) else layer.input)


def _origin(tensor: KerasTensor) -> keras.Layer:
    """The layer whose output a symbolic tensor is."""
    return tensor._keras_history.operation


def _kernel_and_bias(dense: layers.Dense) -> tuple[np.ndarray, np.ndarray]:
    kernel, *bias = dense.get_weights()
    return kernel, bias[0] if bias else np.zeros(kernel.shape[1])


def _scale_and_shift(norm: layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Batch normalization in inference as y = scale * x + shift, float (C,) each."""
    mean, variance = _values(norm.moving_mean), _values(norm.moving_variance)
    scale = 1 / np.sqrt(variance + norm.epsilon)
    scale = scale * _values(norm.gamma) if norm.scale else scale
    shift = -mean * scale
    return scale, shift + _values(norm.beta) if norm.center else shift


def _values(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable).astype(float)


def output_logits(model: keras.Model) -> KerasTensor:
    """The symbolic output before its last activation, (B, 1 or K)."""
    dense = _output_layer(model)  # its own variables, so that further training counts
    values = keras.ops.matmul(keras.ops.cast(dense.input, "float32"), dense.kernel)
    return values + dense.bias if dense.use_bias else values


def logits_of(model: keras.Model) -> keras.Model:
    """The model without its last activation, which would flatten the gradients."""
    return part_of(model, "logits", lambda: output_logits(model))


def layer_name(model: keras.Model, name: str | None) -> str:
    """The layer of that name, checked; by default the one the head pools, or the last."""
    if name is None:
        with contextlib.suppress(ValueError):
            return _origin(affine_head(model)[0]).name
    spatial = [
        layer.name
        for layer in model.layers
        if not isinstance(layer, layers.InputLayer)
        and len(getattr(layer.output, "shape", ())) == 4
        and layer.output.shape[1] != 1
    ]
    pooled = [one for one in spatial if not re.match(r"head\d+_map", one)]  # the map is beside it
    if name is None and pooled:
        return pooled[-1]
    if name is None or name not in spatial:
        near = difflib.get_close_matches(str(name), spatial, n=5, cutoff=0.3)
        raise ValueError(
            "layer must be the name of one with feature maps (B, h, w, channels). Received: "
            f"{name!r}. Near it are: {', '.join(near) or 'none'}; the last are: "
            f"{', '.join(spatial[-5:]) or 'none'}."
        )
    return name


def attention_maps(model: keras.Model) -> list[KerasTensor]:
    """The symbolic maps (B, h, w, 1) of the head's layers "attention"."""
    return [one.output for one in model.layers if re.fullmatch(r"head\d+_attention_\d+", one.name)]


def lesion_logits(model: keras.Model) -> KerasTensor | None:
    """The symbolic logits (B, h, w, 1) of the head's layer "map", if it has one."""
    return _head_output(model, "map")


def view_weights(model: keras.Model) -> KerasTensor | None:
    """How much each view counts in its study, (B, 1), if the head has the layer "views"."""
    return _head_output(model, "views")


def _head_output(model: keras.Model, name: str) -> KerasTensor | None:
    """The symbolic output of the head's layer of that name, which a head has once at most."""
    found = [one.output for one in model.layers if re.fullmatch(rf"head\d+_{name}", one.name)]
    return found[0] if found else None


def read_outputs(model: keras.Model) -> tuple[dict[str, KerasTensor], np.ndarray | None]:
    """What is read of a picture, in one forward pass.

    Returns:
        Symbolic "probabilities" (B, 1 or K), "weights" (B, 1) where the head weighs views, and
        "features" where it has maps; their kernel, see `shown_map`, or None without.
    """
    outputs, kernel = {"probabilities": model.outputs[0]}, None
    if (weights := view_weights(model)) is not None:
        outputs["weights"] = weights
    with contextlib.suppress(ValueError):  # a head that has no maps
        outputs["features"], kernel = shown_map(model)
    return outputs, kernel


def shown_map(model: keras.Model) -> tuple[KerasTensor, np.ndarray]:
    """What a model shows of where it looked, as part of its forward pass.

    Returns:
        (features, kernel): a symbolic tensor (B, h, w, C), and (C, K) of which `features @ kernel`
        are the maps: in [0, 1] of the head's layer "map", if it has one (K = 1); otherwise CAM's.

    Raises:
        ValueError: a head that has neither; see `affine_head`.
    """
    logits = lesion_logits(model)
    if logits is not None:
        return keras.ops.sigmoid(logits), np.ones((1, 1))
    features, kernel, _ = affine_head(model)
    return features, kernel


def require_flat(model: object) -> None:
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
    if len(getattr(model, "inputs", None) or ()) != 1 or _said(model) != 1:
        raise ValueError(
            "a heatmap needs a functional model with one input and one output. Received: "
            f"{model.name!r}. {mend}"
        )


def _said(model: keras.Model) -> int:
    """How many outputs a model has beside how much each view counts."""
    return len(model.outputs) - (view_weights(model) is not None)
