"""Backbones and heads; the only place that knows a backbone's quirks."""

import difflib
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
from keras import KerasTensor, Regularizer, layers

from mura_tf.models.backbones import IMAGENET_STD_RGB, Backbone, find_backbone, require_weights
from mura_tf.models.backend import require_backend
from mura_tf.models.lesion_map import WITH_MAP, lesion_map
from mura_tf.models.resnet import resnet
from mura_tf.models.specs import PAPER_HEAD, parse_head, parse_trainable, require_batch_norm

OUTPUT_NAMES = ("probability", "probabilities")
HEAD_NAMES = ("head", *OUTPUT_NAMES)
"""What the names of layers with weights begin with that are not the backbone's."""


def build_model(
    backbone: str,
    weights: str | os.PathLike[str] | None = "imagenet",
    *,
    image_size: int | None = None,
    head: tuple[str, ...] = PAPER_HEAD,
    classes: int | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    trainable: str = "all",
    batch_norm: str = "own",
) -> keras.Model:
    """A backbone with a head, the paper's by default, as one flat functional model.

    Args:
        backbone: a key of `BACKBONES`.
        weights: "imagenet" (downloaded by Keras), None (random) or a path to weights of the
            backbone without its classifier (`.h5` or `.weights.h5`). The layers are the same in
            all three cases.
        image_size: side S of the input, pixels; by default the backbone's own.
        head: specs of its layers, see `specs.HEAD_LAYERS`; by default the paper's.
        classes: None for the probability of abnormality; K for a distribution over K classes.
        l1, l2: regularization of the head's dense kernels.
        trainable: which of the backbone's layers are trained, see `specs.TRAINABLE`; the head
            always is.
        batch_norm: of `specs.BATCH_NORMS`.

    Returns:
        Model from images float32 (B, S, S, 3), preprocessed as it is to be trained, to the
        probability of abnormality, float32 (B, 1), or the distribution, float32 (B, K). With
        "views" in the head, a second output is how much each view counts, positive float32 (B, 1).

    Raises:
        ValueError: an unknown backbone, head or layer to train from, weights that do not fit, or
            settings of Keras' that `require_backend` refuses.
        FileNotFoundError: no file at the weights' path.
        ConnectionError: "imagenet" weights that cannot be downloaded.
        ImportError: "imagenet" weights of a ResNet of keras-hub, without the extra
            `mura-tf[resnet]`.

    Source: the paper, Table II; parameter counts, Table III.

    Examples:
        >>> model = mt.build_model("mobilenet_v2_035", weights=None, image_size=96)
        >>> model.input_shape, model.output_shape, model.count_params()
        ((None, 96, 96, 3), (None, 1), 416609)
    """
    require_backend()
    facts = find_backbone(backbone)
    require_weights(backbone, weights)
    require_batch_norm(batch_norm)
    if classes is not None and classes < 2:
        raise ValueError(
            "classes must be None, for one probability of abnormality, or a number from 2 up. "
            f"Received: {classes!r}."
        )
    build = _BUILDERS[facts.constructor.partition(":")[0]]
    extractor = build(facts, weights == "imagenet", image_size or facts.image_size)
    if weights not in ("imagenet", None):
        _load(extractor, Path(weights), backbone)

    freeze(extractor, trainable)

    features, said, counted = extractor.output, [], []
    regularizer = keras.regularizers.L1L2(l1, l2) if l1 or l2 else None
    for index, (layer, values) in enumerate(parse_head(head)):
        name = f"head{index}_{layer}"
        if layer == "map":
            said.append(lesion_map(extractor, name, int(values[0])))
        elif layer == "views":
            counted.append(_view_weights(features, name, regularizer, int(values[0])))
        elif layer in _PLAIN:
            features = _PLAIN[layer](*values, name=name)(features)
        else:
            features = _HEAD_BUILDERS[layer](features, name, regularizer, *values)
    if said:
        features = layers.Concatenate(name=WITH_MAP)([features, *said])
    output = layers.Dense(
        classes or 1,
        activation="softmax" if classes else "sigmoid",
        kernel_initializer="glorot_normal",
        kernel_regularizer=regularizer,
        dtype="float32",  # stays so under mixed precision
        name="probabilities" if classes else "probability",
    )(features)
    model = keras.Model(extractor.input, [output, *counted] if counted else output, name=backbone)
    if batch_norm == "torch":
        _norm_as_torch(model, from_scratch=facts.constructor.startswith("mura_tf:"))
    return model


def freeze(extractor: keras.Model, trainable: str) -> None:
    """Freezes the layers that `trainable` leaves out; batch normalization then keeps its averages.

    Args:
        extractor: a backbone without a head.
        trainable: of `specs.TRAINABLE`.

    Raises:
        ValueError: no such layer, or fewer convolutions or blocks.
    """
    kind, value = parse_trainable(trainable)
    names = [layer.name for layer in extractor.layers]
    convolutions = [
        layer.name
        for layer in extractor.layers
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.SeparableConv2D)
    ]
    block_of = [_block(name) for name in names]
    blocks = list(dict.fromkeys(filter(None, block_of)))
    if kind == "blocks" and isinstance(value, int):
        if value > len(blocks):
            raise ValueError(
                f"trainable='blocks:N' needs that many blocks. Received: {trainable!r} for a "
                f"backbone with {len(blocks)}."
            )
        first = block_of.index(blocks[-value])
    elif isinstance(value, int):
        if value > len(convolutions):
            raise ValueError(
                f"trainable='last:N' needs that many convolutions. Received: {trainable!r} for a "
                f"backbone with {len(convolutions)}."
            )
        first = names.index(convolutions[-value])
    elif isinstance(value, str):
        names = _numbered_anew(extractor)
        if value not in names:
            near = ", ".join(difflib.get_close_matches(value, names, n=5, cutoff=0.3))
            raise ValueError(
                f"trainable='from:LAYER' needs a layer of the backbone. Received: {value!r}. "
                f"Near it are: {near or ', '.join(convolutions[-5:])}."
            )
        first = names.index(value)
    else:
        first = 0 if kind == "all" else len(names)
    for layer in extractor.layers[:first]:
        layer.trainable = False


def _numbered_anew(extractor: keras.Model) -> list[str]:
    """The layers' names as those of the first model of a process: of layers that a backbone leaves
    unnamed, such as Xception's shortcuts, Keras counts on from model to model."""
    counts: Counter[str] = Counter()
    names = []
    for layer in extractor.layers:
        words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", type(layer).__name__)
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()  # Conv2D -> conv2d, as Keras
        name = layer.name
        if re.fullmatch(rf"{kind}(_\d+)?", name):
            name = f"{kind}_{counts[kind]}" if counts[kind] else kind
            counts[kind] += 1
        names.append(name)
    return names


def _block(name: str) -> str | None:
    """The block that a layer's name puts it into, such as "block6a" or "block_13"."""
    found = re.match(r"(block_?\d+[a-z]?)_", name)
    return found[1] if found else None


def _norm_as_torch(model: keras.Model, from_scratch: bool) -> None:
    """PyTorch's momentum everywhere, and its epsilon where there are no pretrained weights."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # of what was; PyTorch's 0.1 is of what is new
            if from_scratch or layer.name.startswith(HEAD_NAMES):
                layer.epsilon = 1e-5


def _pool(features: KerasTensor, name: str, regularizer: Regularizer | None) -> KerasTensor:
    return layers.GlobalAveragePooling2D(name="pool")(features)


def _dense(
    features: KerasTensor,
    name: str,
    regularizer: Regularizer | None,
    units: int,
    activation: str | None = None,
) -> KerasTensor:
    return layers.Dense(units, activation, kernel_regularizer=regularizer, name=name)(features)


def _residual(
    features: KerasTensor, name: str, regularizer: Regularizer | None, units: int, rate: float
) -> KerasTensor:
    def dense(
        part: str, features: KerasTensor, activation: str | None = None, use_bias: bool = True
    ) -> KerasTensor:
        features = layers.Dense(
            units, activation, use_bias, kernel_regularizer=regularizer, name=f"{name}_{part}"
        )(features)
        return layers.BatchNormalization(name=f"{name}_{part}_norm")(features)

    inside = layers.Dropout(rate, name=f"{name}_dropout")(dense("1", features, activation="relu"))
    inside = dense("2", inside)
    around = dense("skip", features, use_bias=False)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([inside, around]))


def _squeeze_excite(
    maps: KerasTensor, name: str, regularizer: Regularizer | None, reduction: int
) -> KerasTensor:
    channels = maps.shape[-1]
    if reduction > channels:
        raise ValueError(
            f"squeeze_excite reduces {channels} channels by {channels} at most. Received: "
            f"'squeeze_excite:{reduction}'."
        )
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(maps)
    for part, units, activation in (
        ("reduce", channels // reduction, "relu"),
        ("excite", channels, "sigmoid"),
    ):
        weights = _dense(weights, f"{name}_{part}", regularizer, units, activation)
    return layers.Multiply(name=name)([maps, weights])


def _attention(
    maps: KerasTensor, name: str, regularizer: Regularizer | None, heads: int
) -> KerasTensor:
    weighed = []
    for head in range(heads):
        attention = layers.Conv2D(1, 1, activation="sigmoid", name=f"{name}_{head}")(maps)
        weighed.append(layers.Multiply(name=f"{name}_{head}_weighed")([maps, attention]))
    return layers.Concatenate(name=name)(weighed)


def _view_weights(
    features: KerasTensor, name: str, regularizer: Regularizer | None, units: int
) -> KerasTensor:
    """exp of the gated attention's score, so that a study's shares are its softmax.

    Source: Ilse et al., "Attention-based deep multiple instance learning", 2018, equation 9.
    """
    content = _dense(features, f"{name}_content", regularizer, units, "tanh")
    gate = _dense(features, f"{name}_gate", regularizer, units, "sigmoid")
    return layers.Dense(
        1,
        "exponential",
        use_bias=False,  # which would be the same factor of all
        kernel_regularizer=regularizer,
        dtype="float32",  # stays so under mixed precision
        name=name,
    )(layers.Multiply(name=f"{name}_gated")([content, gate]))


_PLAIN = {
    "flatten": layers.Flatten,
    "batch_norm": layers.BatchNormalization,
    "dropout": layers.Dropout,
}
_HEAD_BUILDERS: dict[str, Callable[..., KerasTensor]] = {
    "pool": _pool,
    "dense": _dense,
    "residual": _residual,
    "squeeze_excite": _squeeze_excite,
    "attention": _attention,
}


def _keras_applications(facts: Backbone, imagenet: bool, size: int) -> keras.Model:
    name = facts.constructor.partition(":")[2]
    shape = (size, size, 3)
    inputs = {"input_shape": shape}
    if name == "Xception":  # which refuses less than 71 pixels if it is told the size alone
        inputs = {"input_tensor": keras.Input(shape)}
    constructor = partial(
        getattr(keras.applications, name), include_top=False, **inputs, **facts.arguments
    )
    try:
        extractor = constructor(weights="imagenet" if imagenet else None)
    except Exception as error:
        if "URL fetch failure" not in str(error):  # a bare Exception of Keras
            raise
        raise _not_downloaded(error) from error
    if name.startswith("EfficientNetB") and not imagenet:
        return _with_imagenet_rescaling(extractor)
    return extractor


def _not_downloaded(error: Exception) -> ConnectionError:
    return ConnectionError(
        f"the ImageNet weights cannot be downloaded: {error}. Go online once, or give the path of "
        "backbone weights (.h5)."
    )


def _with_imagenet_rescaling(extractor: keras.Model) -> keras.Model:
    """The graph that Keras builds for EfficientNetB0..B7 with weights="imagenet" only.

    There it divides once more, by the root of each channel's deviation, after the Normalization
    layer. Without that layer the ImageNet weights load without a word and predict something else.
    """
    rescaling = layers.Rescaling([1 / math.sqrt(std) for std in IMAGENET_STD_RGB])

    def call(layer: keras.Layer, *args: KerasTensor, **kwargs: object) -> KerasTensor:
        output = layer(*args, **kwargs)
        return rescaling(output) if isinstance(layer, layers.Normalization) else output

    return keras.models.clone_model(extractor, call_function=call)


def _resnet(facts: Backbone, imagenet: bool, size: int) -> keras.Model:
    extractor = resnet(size, **facts.arguments)
    if not imagenet:
        return extractor
    try:
        from keras_hub.models import ResNetBackbone
    except ImportError:
        raise ImportError(
            "the ImageNet weights of this ResNet are keras-hub's, which is not installed. Install "
            "the extra, pip install 'mura-tf[resnet]', or give the path of backbone weights (.h5)."
        ) from None
    try:
        published = ResNetBackbone.from_preset(facts.constructor.partition(":")[2])
    except OSError as error:  # whatever keeps kagglehub from its server, or a file from the cache
        raise _not_downloaded(error) from error
    extractor.set_weights(published.get_weights())
    return extractor


def _from_scratch(facts: Backbone, imagenet: bool, size: int) -> keras.Model:
    name = facts.constructor.partition(":")[2]
    if name == "small_cnn":
        return _small_cnn(size)
    return _plain_cnn(size, name, **facts.arguments)


def _small_cnn(size: int) -> keras.Model:
    """Four convolutions, for demonstrations and tests."""
    images = features = keras.Input((size, size, 3), name="images")
    stages = ((16, 5, 2), (32, 3, 1), (64, 3, 1), (64, 3, 1))  # filters, kernel, stride
    for stage, (filters, kernel, stride) in enumerate(stages, start=1):
        if stage in (2, 4):
            features = layers.MaxPooling2D(name=f"stage{stage}_pool")(features)
        features = layers.Conv2D(
            filters, kernel, stride, padding="same", use_bias=False, name=f"stage{stage}_conv"
        )(features)
        features = layers.BatchNormalization(momentum=0.9, name=f"stage{stage}_norm")(features)
        features = layers.ReLU(name=f"stage{stage}_relu")(features)
    return keras.Model(images, features, name="small_cnn_extractor")


def _plain_cnn(
    size: int, name: str, filters: tuple[int, ...], pools: tuple[int, ...], batch_norm: bool
) -> keras.Model:
    """3 x 3 convolutions with ReLU; `pools` are the convolutions that max pooling follows."""
    images = features = keras.Input((size, size, 3), name="images")
    for number, count in enumerate(filters, start=1):
        features = layers.Conv2D(
            count, 3, padding="same", use_bias=not batch_norm, name=f"conv{number}"
        )(features)
        if batch_norm:
            features = layers.BatchNormalization(name=f"conv{number}_norm")(features)
        features = layers.ReLU(name=f"conv{number}_relu")(features)
        if number in pools:
            features = layers.MaxPooling2D(name=f"pool{number}")(features)
    return keras.Model(images, features, name=f"{name}_extractor")


_BUILDERS = {"keras": _keras_applications, "keras_hub": _resnet, "mura_tf": _from_scratch}


def _load(extractor: keras.Model, path: Path, backbone: str) -> None:
    try:
        extractor.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"the weights do not fit: expected those of {backbone} without its classifier. "
            f"Received: {path}, of which Keras says: {str(error).splitlines()[0]}"
        ) from error
