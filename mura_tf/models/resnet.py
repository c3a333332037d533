"""ResNet-18 and ResNet-50 as torchvision has them, of Keras' own layers.

Layers, their names and their order are those of keras-hub's `ResNetBackbone`, so that its weights
fit. Keras' own ResNet50 is another network ("v1"): its convolutions have biases, and a block that
halves the maps does so in its first 1 x 1 convolution, where torchvision's ("v1.5") does in the
3 x 3.

Source: He et al., "Deep Residual Learning for Image Recognition", 2015, Table 1.
"""

import keras
from keras import KerasTensor, layers

_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Filters and the stride of the first block."""


def resnet(size: int, blocks: tuple[int, ...], bottleneck: bool) -> keras.Model:
    """A residual network without its classifier.

    Args:
        size: side S of the input, pixels.
        blocks: how many each of the four stages has.
        bottleneck: whether a block is 1 x 1, 3 x 3, 1 x 1 with four times the filters at its end,
            or 3 x 3, 3 x 3.

    Returns:
        Model from images (B, S, S, 3) to feature maps (B, S / 32, S / 32, 512 or 2048).
    """
    images = keras.Input((size, size, 3))
    features = _convolution(images, "conv1", filters=64, side=7, stride=2)
    features = layers.Activation("relu", name="conv1_relu")(features)
    features = layers.ZeroPadding2D(1, name="pool1_pad")(features)  # nothing is below 0 here
    features = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(features)
    block = _bottleneck if bottleneck else _basic
    for stage, (filters, stride) in enumerate(_STAGES):
        for number in range(blocks[stage]):
            name = f"stack{stage}_block{number}"
            features = block(features, name, filters, 1 if number else stride)
    return keras.Model(images, features, name="resnet_extractor")


def _basic(features: KerasTensor, name: str, filters: int, stride: int) -> KerasTensor:
    around = _around(features, name, filters, stride)
    inside = _convolution(features, f"{name}_1", filters, side=3, stride=stride)
    inside = layers.Activation("relu", name=f"{name}_1_relu")(inside)
    return _sum(around, _convolution(inside, f"{name}_2", filters, side=3), name)


def _bottleneck(features: KerasTensor, name: str, filters: int, stride: int) -> KerasTensor:
    around = _around(features, name, 4 * filters, stride)
    inside = _convolution(features, f"{name}_1", filters, side=1)
    inside = layers.Activation("relu", name=f"{name}_1_relu")(inside)
    inside = _convolution(inside, f"{name}_2", filters, side=3, stride=stride)
    inside = layers.Activation("relu", name=f"{name}_2_relu")(inside)
    return _sum(around, _convolution(inside, f"{name}_3", 4 * filters, side=1), name)


def _around(features: KerasTensor, name: str, filters: int, stride: int) -> KerasTensor:
    """The features themselves, or, where a block changes their shape, a 1 x 1 convolution."""
    if stride == 1 and features.shape[-1] == filters:
        return features
    return _convolution(features, f"{name}_0", filters, side=1, stride=stride)


def _convolution(
    features: KerasTensor, name: str, filters: int, side: int, stride: int = 1
) -> KerasTensor:
    """Without bias, then batch normalization; padded on all sides alike, as PyTorch pads."""
    padding = "same"
    if stride > 1 and side > 1:
        padding = "valid"  # "same" would pad one side more
        features = layers.ZeroPadding2D((side - 1) // 2, name=f"{name}_pad")(features)
    features = layers.Conv2D(
        filters, side, stride, padding=padding, use_bias=False, name=f"{name}_conv"
    )(features)
    # PyTorch's momentum of 0.1 and epsilon
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(features)


def _sum(around: KerasTensor, inside: KerasTensor, name: str) -> KerasTensor:
    features = layers.Add(name=f"{name}_add")([around, inside])
    return layers.Activation("relu", name=f"{name}_out")(features)
