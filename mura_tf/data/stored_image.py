"""What every format's reader gives: an image as its file stores it, or why there is none."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

MAX_PIXELS = 100_000_000
"""Of one image: six times a large detector's, and 100 MB of grey levels."""
MAX_SIDE = 65_535
"""Pixels; JPEG's own limit."""
_DETECTOR_BITS = (8, 10, 12, 14)
"""What fewer than 16 bits are in use as."""


class UnreadableImageError(ValueError):
    """A file's content is no image that can be read; the message is the reason alone."""


@dataclass(frozen=True)
class StoredImage:
    """An image as its file stores it.

    Attributes:
        height, width: pixels, before it is turned.
        orientation: EXIF's, 1 as it is to 8, see `turned`.
        decode: () -> (uint8 (height, width), note). The note says in a few words what was done to
            the values and ought to be known, such as "12 of 16 bits are used"; mostly "". Raises
            UnreadableImageError.
    """

    height: int
    width: int
    orientation: int
    decode: Callable[[], tuple[np.ndarray, str]]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), pixels, of the image as it is to be looked at."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)

    def grey(self) -> tuple[np.ndarray, str]:
        """The image as it is to be looked at, uint8 of `size`, and `decode`'s note.

        Raises:
            UnreadableImageError: `decode` does, or the pixels are not as many as the header says.
        """
        image, note = self.decode()
        if image.shape != (self.height, self.width):
            found = " x ".join(map(str, image.shape))
            raise UnreadableImageError(
                f"damaged: {found} pixels, where its header says {self.height} x {self.width}"
            )
        return turned(image, self.orientation), note


def used_bits(values: np.ndarray, depth: int) -> int:
    """How many bits of unsigned values are in use, of the `depth` that hold them.

    15 bits are taken for a dark image of 16, and so is any number of bits of another depth.
    """
    highest = values.max(initial=0)
    if depth != 16 or not highest:
        return depth
    return next((bits for bits in _DETECTOR_BITS if highest < 2**bits), depth)


def bits_note(bits: int, depth: int) -> str:
    """What `StoredImage.decode` says of it; "" where all are used."""
    return f"{bits} of {depth} bits are used, and scaled to all grey levels" if bits < depth else ""


def require_readable_size(height: int, width: int) -> None:
    """UnreadableImageError for an image without pixels, or with too many to decode."""
    if not (height and width):
        raise UnreadableImageError(f"an image of {height} x {width} pixels")
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise UnreadableImageError(
            f"too large: {height:,} x {width:,} pixels, at most {MAX_PIXELS:,} and a side of "
            f"{MAX_SIDE:,} can be read; shrink it"
        )


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """`image` turned and mirrored as EXIF's orientation says.

    The number says where the stored first row and column belong: 1 top and left, 2 top and right,
    3 bottom and right, 4 bottom and left, 5 left and top, 6 right and top, 7 right and bottom, 8
    left and bottom.
    """
    if orientation >= 5:
        image = cv2.transpose(image)
    if orientation in (2, 3, 6, 7):
        image = cv2.flip(image, 1)
    if orientation in (3, 4, 7, 8):
        image = cv2.flip(image, 0)
    return image
