"""A heatmap on its radiograph, in colours that mean the same in every picture."""

import cv2
import numpy as np

from mura_tf.data.radiograph import fitted, unpadded

_HEAT = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_PLASMA).reshape(256, 3)[
    :, ::-1
]
"""RGB; Matplotlib's plasma, without the second that importing it takes."""
_OPACITY = 0.7 * np.linspace(0, 1, 256)[:, None] ** 0.7
"""A cold place shows the radiograph as it is."""
SHOWN = np.round(_OPACITY * _HEAT + (1 - _OPACITY) * 70).astype(np.uint8)
"""The colours on a middling dark radiograph, for the colour bars."""


def overlaid(
    radiograph: np.ndarray, heat: np.ndarray, size: tuple[int, int] | None = None
) -> np.ndarray:
    """A radiograph with its heatmap on it.

    Args:
        radiograph: uint8 (height, width).
        heat: float (S, S), in [0, 1], of the padded square of this radiograph.
        size: its height and width there, pixels, where it has been made smaller since.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    inner = unpadded(heat, *(size or radiograph.shape))
    enlarged = cv2.resize(inner, radiograph.shape[::-1], interpolation=cv2.INTER_LINEAR)
    level = np.round(255 * enlarged).astype(int)
    blended = (1 - _OPACITY[level]) * radiograph[..., None] + _OPACITY[level] * _HEAT[level]
    return np.round(blended).astype(np.uint8)


def plain_and_overlaid(
    radiograph: np.ndarray, heat: np.ndarray | None, side: int
) -> list[np.ndarray]:
    """The radiograph at a longer side of `side` pixels, and, if there is a heatmap, the same with
    it; uint8 (height, width, 3) each."""
    shown = fitted(radiograph, side)
    plain = np.repeat(shown[..., None], 3, axis=2)
    return [plain] if heat is None else [plain, overlaid(shown, heat, radiograph.shape)]
