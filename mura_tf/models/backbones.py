"""The backbones by name: facts only, no TensorFlow."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
"""Keras' "caffe" constants, grey levels."""
IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)
"""Keras' "torch" constants, of values in [0, 1]."""


@dataclass(frozen=True)
class Backbone:
    """What is known about a pretrained extractor before it is built.

    Attributes:
        constructor: where it comes from, "library:name" with the library one of `keras`
            (`keras.applications`), `keras_hub` (the extra `mura-tf[resnet18]`) and `mura_tf`.
        image_size: side of the square input, pixels; Table III for the paper's seven.
        preprocessing: its native preprocessing, by Keras' names: "caffe" (BGR minus the ImageNet
            mean), "tf" ([-1, 1]), "torch" (ImageNet mean and deviation of [0, 1]), "raw" ([0, 255],
            it rescales inside).
        parameters: of the whole model with the paper's head; Table III for the paper's seven.
        top1: published ImageNet top-1 accuracy, a fraction; Table III for the paper's seven, the
            Keras Applications page for the others it lists, None where neither does.
        arguments: what the constructor is called with besides weights and input size.
    """

    constructor: str
    image_size: int
    preprocessing: str
    parameters: int
    top1: float | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _plain_cnn(
    name: str, filters: tuple[int, ...], pools: tuple[int, ...], parameters: tuple[int, int]
) -> dict[str, Backbone]:
    return {
        name + suffix: Backbone(
            f"mura_tf:{name}{suffix}",
            224,
            "torch",
            count,
            arguments={"filters": filters, "pools": pools, "batch_norm": bool(suffix)},
        )
        for suffix, count in zip(("", "_bn"), parameters, strict=True)
    }


_FROM_SCRATCH = {
    **_plain_cnn("cnn_2", (32, 64), (1, 2), (19_713, 20_001)),
    **_plain_cnn("cnn_4", (32, 64, 128, 256), (1, 2, 3, 4), (389_697, 391_137)),
    **_plain_cnn(
        "cnn_13",
        (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
        (2, 4, 7, 10, 13),
        (14_717_249, 14_729_921),
    ),
}

BACKBONES: dict[str, Backbone] = {
    # the paper's seven, Table III
    "mobilenet_v2": Backbone("keras:MobileNetV2", 300, "tf", 2_264_385, 0.747),
    "densenet169": Backbone("keras:DenseNet169", 300, "torch", 12_651_201, 0.762),
    "efficientnet_b0": Backbone("keras:EfficientNetB0", 224, "raw", 4_055_972, 0.763),
    "efficientnet_b1": Backbone("keras:EfficientNetB1", 240, "raw", 6_581_640, 0.788),
    "xception": Backbone("keras:Xception", 300, "tf", 20_871_721, 0.790),
    "efficientnet_b2": Backbone("keras:EfficientNetB2", 260, "raw", 7_775_610, 0.798),
    "efficientnet_b3": Backbone("keras:EfficientNetB3", 300, "raw", 10_791_216, 0.811),
    # the other documents', and those for small machines
    "densenet121": Backbone("keras:DenseNet121", 224, "torch", 7_042_625, 0.750),
    "resnet18": Backbone("keras_hub:resnet_18_imagenet", 224, "torch", 11_188_673),
    "resnet50": Backbone("keras:ResNet50", 224, "caffe", 23_597_953, 0.749),
    "efficientnet_v2_b0": Backbone("keras:EfficientNetV2B0", 224, "raw", 5_925_713, 0.787),
    "mobilenet_v2_035": Backbone(
        "keras:MobileNetV2", 224, "tf", 416_609, arguments={"alpha": 0.35}
    ),
    "small_cnn": Backbone("mura_tf:small_cnn", 96, "tf", 62_129),
    # from scratch, of 001; with batch normalization and without
    **_FROM_SCRATCH,
}
"""Every backbone that `build_model` knows; the one registry.

Examples:
    >>> mt.BACKBONES["efficientnet_b3"].image_size, mt.BACKBONES["efficientnet_b3"].parameters
    (300, 10791216)
"""


def find_backbone(name: str) -> Backbone:
    """`BACKBONES[name]`, or a ValueError that lists the names."""
    if name not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}. Received: {name!r}.")
    return BACKBONES[name]


def require_weights(backbone: str, weights: str | os.PathLike[str] | None) -> None:
    """ValueError or FileNotFoundError where a backbone has no such weights; tells the mend."""
    if weights == "imagenet":
        if find_backbone(backbone).constructor.startswith("mura_tf:"):
            raise ValueError(
                f"{backbone} has no ImageNet weights. Expected None (--weights none) or the path "
                "of an .h5 file. Received: 'imagenet'."
            )
        return
    if weights is None:
        return
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
