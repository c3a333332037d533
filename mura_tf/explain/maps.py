"""Raw maps of a model, enlarged to heatmaps; no Keras."""

import cv2
import numpy as np


def enlarged(maps: np.ndarray, frames: np.ndarray, side: int) -> np.ndarray:
    """Raw maps as heatmaps: without their negative part, at the input's size, at most 1.

    Args:
        maps: float (B, h, w), in any scale.
        frames: int (B, 4), top, left, height and width of each radiograph in its square, see
            `padded_box`; outside of it a heatmap is 0.
        side: of the square, pixels.

    Returns:
        float32 (B, side, side), in [0, 1]; all 0 where no map is positive.
    """
    heat = np.zeros((len(maps), side, side), np.float32)
    for one, raw, (top, left, height, width) in zip(heat, maps, frames, strict=True):
        raw = np.maximum(raw, 0).astype(np.float32)
        inside = np.s_[top : top + height, left : left + width]
        one[inside] = cv2.resize(raw, (side, side), interpolation=cv2.INTER_LINEAR)[inside]
        one /= one.max() or 1
    return heat
