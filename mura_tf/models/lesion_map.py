"""A head's map of where lesions are, on finer feature maps than those that are pooled."""

import math
from collections.abc import Container

import keras
from keras import KerasTensor, layers, ops

CHANNELS = 128
"""Of the feature maps on the way down."""
WITH_MAP = "head_with_map"
"""The name of the layer that puts a map's log-sum-exp beside what is pooled."""
PRIOR = 0.01
"""The probability that each cell begins with (Lin et al., "Focal loss", 2017)."""


def lesion_map(extractor: keras.Model, name: str, stride: int) -> KerasTensor:
    """The logits of a map that a backbone is given, and what it says of the whole view.

    From the last feature maps a 1 x 1 convolution goes down, is doubled in size and added to one of
    the last maps of that size, as often as it takes; then a 3 x 3 convolution and one to the map
    (Lin et al., "Feature pyramid networks", 2017).

    Args:
        extractor: a backbone without a head; the side of its input a multiple of `stride`.
        name: of the layer with the logits, float32 (B, S / stride, S / stride, 1).
        stride: pixels from one cell to the next.

    Returns:
        The log-sum-exp of the logits over the cells, float32 (B, 1): close to the highest.

    Raises:
        ValueError: the backbone has no maps of that stride.
    """
    side, maps = extractor.input_shape[1], extractor.output
    finer = _last_of_each_side(extractor)
    ways = {
        side // one: one for one in _doubled(maps.shape[1], finer) if side % one == 0 and one < side
    }
    if stride not in ways:
        raise ValueError(
            "a map's STRIDE must be that of feature maps of the backbone which its last ones come "
            f"to by doubling: of {', '.join(map(str, ways)) or 'none'} at {side} px. Received: "
            f"{stride}. An image_size that is a multiple of 32 px has most."
        )
    top = layers.Conv2D(CHANNELS, 1, name=f"{name}_top")(maps)
    while top.shape[1] < ways[stride]:
        above = layers.UpSampling2D(name=f"{name}_from{side // top.shape[1]}")(top)
        beside = layers.Conv2D(CHANNELS, 1, name=f"{name}_beside{side // above.shape[1]}")
        top = layers.Add(name=f"{name}_at{side // above.shape[1]}")(
            [above, beside(finer[above.shape[1]])]
        )
    top = layers.Conv2D(CHANNELS, 3, padding="same", activation="relu", name=f"{name}_mix")(top)
    logits = layers.Conv2D(
        1,
        1,
        bias_initializer=keras.initializers.Constant(-math.log(1 / PRIOR - 1)),
        dtype="float32",  # stays so under mixed precision
        name=name,
    )(top)
    return ops.logsumexp(logits, axis=(1, 2))


def _last_of_each_side(extractor: keras.Model) -> dict[int, KerasTensor]:
    """Side of square feature maps -> the last of that side."""
    outputs = [layer.output for layer in extractor.layers if isinstance(layer.output, KerasTensor)]
    return {maps.shape[1]: maps for maps in outputs if _is_square(maps)}


def _is_square(maps: KerasTensor) -> bool:
    return len(maps.shape) == 4 and maps.shape[1] == maps.shape[2]


def _doubled(side: int, sides: Container[int]) -> list[int]:
    """`side`, its double, ... as far as there are such sides."""
    found = [side]
    while 2 * found[-1] in sides:
        found.append(2 * found[-1])
    return found
