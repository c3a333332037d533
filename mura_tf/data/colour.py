"""Colour in what ought to be grey: arrows, letters and frames that somebody has drawn on a film."""

import cv2
import numpy as np

from mura_tf.data.jpeg import is_jpeg
from mura_tf.data.png import is_png

OWN_COLOUR = 60
"""Grey levels that two of a pixel's channels differ by, beyond what the film's tint explains."""


def coloured_share(content: bytes) -> float:
    """How much of a PNG or JPEG has a colour of its own, in [0, 1].

    A scanner's tint is no colour: its channels are in one proportion, which is the median of the
    brighter half of the pixels. The picture is looked at in half its size, in which JPEG mostly
    keeps colour anyway.

    Args:
        content: the bytes of a file; 0 for other formats, and for what cannot be decoded.
    """
    if not (is_png(content) or is_jpeg(content)):
        return 0.0
    flags = cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = (
            None if _is_grey(content) else cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        )
    except cv2.error:  # of a pixel or two, of which a half is none
        return 0.0
    if picture is None:
        return 0.0
    blue, green, red = (picture[..., channel].astype(np.int16) for channel in range(3))
    bright = green >= max(1, np.median(green))
    own = np.zeros(green.shape, bool)
    for channel in (blue, red):
        tint = np.median(channel[bright] / green[bright]) if bright.any() else 1
        own |= abs(channel - tint * green) > OWN_COLOUR
    return float(own.mean())


def _is_grey(content: bytes) -> bool:
    """Whether the header says that there is one channel."""
    if is_png(content):
        return len(content) > 25 and not content[25] & 2
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg_header(content)[2] == "Gray"
    except ValueError:
        return True
