"""Backbones and heads; the only place that knows a backbone's quirks."""

import math
import os
from functools import partial
from pathlib import Path

import keras
from keras import layers

from mura_tf.backbones import IMAGENET_STD_RGB, Backbone, find_backbone


def build_model(
    backbone: str,
    weights: str | os.PathLike | None = "imagenet",
    *,
    image_size: int | None = None,
    dropout: float = 0.5,
) -> keras.Model:
    """A backbone with the paper's head, as one flat functional model.

    Args:
        backbone: a key of `BACKBONES`.
        weights: "imagenet" (downloaded by Keras), None (random) or a path to weights of the
            backbone without its classifier (`.h5` or `.weights.h5`). The layers are the same in
            all three cases.
        image_size: side S of the input, pixels; by default the backbone's own.
        dropout: rate in the head.

    Returns:
        Model from images float32 (B, S, S, 3), preprocessed as it is to be trained, to the
        probability of abnormality, float32 (B, 1). Nothing is frozen.

    Raises:
        ValueError: an unknown backbone, or weights that do not fit it.
        FileNotFoundError: no file at the weights' path.
        ConnectionError: "imagenet" weights that cannot be downloaded.
        ImportError: `resnet18` without the extra `mura-tf[resnet18]`.

    Source: the paper, Table II; parameter counts, Table III.
    """
    facts = find_backbone(backbone)
    if weights not in ("imagenet", None):
        weights = _checked_path(weights)
    build = _BUILDERS[facts.constructor.partition(":")[0]]
    extractor = build(facts, weights, image_size or facts.image_size)
    if isinstance(weights, Path):
        _load(extractor, weights, backbone)

    features = layers.GlobalAveragePooling2D(name="pool")(extractor.output)
    features = layers.BatchNormalization(name="head_norm")(features)
    features = layers.Dropout(dropout, name="head_dropout")(features)
    probability = layers.Dense(
        1,
        activation="sigmoid",
        kernel_initializer="glorot_normal",
        dtype="float32",  # stays so under mixed precision
        name="probability",
    )(features)
    return keras.Model(extractor.input, probability, name=backbone)


def _keras_applications(facts: Backbone, weights, size: int) -> keras.Model:
    name = facts.constructor.partition(":")[2]
    constructor = partial(
        getattr(keras.applications, name),
        include_top=False,
        input_shape=(size, size, 3),
        **facts.arguments,
    )
    try:
        extractor = constructor(weights="imagenet" if weights == "imagenet" else None)
    except Exception as error:
        if "URL fetch failure" not in str(error):  # a bare Exception of Keras
            raise
        raise ConnectionError(
            f"the ImageNet weights cannot be downloaded: {error}. Go online once, or give the "
            "path of backbone weights (.h5)."
        ) from error
    if name.startswith("EfficientNetB") and weights != "imagenet":
        return _with_imagenet_rescaling(extractor)
    return extractor


def _with_imagenet_rescaling(extractor: keras.Model) -> keras.Model:
    """The graph that Keras builds for EfficientNetB0..B7 with weights="imagenet" only.

    There it divides once more, by the root of each channel's deviation, after the Normalization
    layer. Without that layer the ImageNet weights load without a word and predict something else.
    """
    rescaling = layers.Rescaling([1 / math.sqrt(std) for std in IMAGENET_STD_RGB])

    def call(layer, *args, **kwargs):
        output = layer(*args, **kwargs)
        return rescaling(output) if isinstance(layer, layers.Normalization) else output

    return keras.models.clone_model(extractor, call_function=call)


def _resnet18(facts: Backbone, weights, size: int) -> keras.Model:
    try:
        from keras_hub.models import ResNetBackbone
    except ImportError:
        raise ImportError(
            "the backbone resnet18 is keras-hub's, which is not installed. "
            "Install the extra: pip install 'mura-tf[resnet18]'."
        ) from None
    if weights == "imagenet":
        preset = facts.constructor.partition(":")[2]
        return ResNetBackbone.from_preset(preset, image_shape=(size, size, 3))
    return ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(size, size, 3),
    )


def _small_cnn(facts: Backbone, weights, size: int) -> keras.Model:
    """Four convolutions, for demonstrations and tests; it has no ImageNet weights."""
    if weights == "imagenet":
        raise ValueError(
            "small_cnn has no ImageNet weights. Expected weights=None or a path. "
            "Received: 'imagenet'."
        )
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


_BUILDERS = {"keras": _keras_applications, "keras_hub": _resnet18, "mura_tf": _small_cnn}


def _checked_path(weights: str | os.PathLike) -> Path:
    path = Path(weights)
    if path.suffix != ".h5":
        raise ValueError(
            "weights must be 'imagenet', None or the path of an .h5 file of backbone weights. "
            f"Received: {str(weights)!r}."
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"weights must be 'imagenet', None or the path of a file. There is none at {path}."
        )
    return path


def _load(extractor: keras.Model, path: Path, backbone: str) -> None:
    try:
        extractor.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"the weights do not fit: expected those of {backbone} without its classifier. "
            f"Received: {path}, of which Keras says: {str(error).splitlines()[0]}"
        ) from error
