"""One image file -> one grey uint8 image, and its square."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from mura_tf.data.jpeg import is_jpeg, read_jpeg
from mura_tf.data.png import is_png, read_png
from mura_tf.data.stored_image import StoredImage, UnreadableImageError

FORMATS = "PNG, JPEG or DICOM"
"""What can be read, in sentences."""
PLAIN_SUFFIXES = (".png", ".jpg", ".jpeg")
DICOM_SUFFIXES = (".dcm", ".dicom")
"""By which a folder's images are told from other files; the content decides how they are read."""
RESIZES = ("bilinear", "area")
"""How a radiograph comes to its square: see `resize_with_pad`."""
READER_VERSION = 4
"""Another number wherever a file becomes other grey levels than before; caches are made anew."""


class BadRadiographError(ValueError):
    """A file that is no readable radiograph; the message names the file and the reason.

    Attributes:
        path: of the file.
        reason: the message without it.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str):
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[str | os.PathLike[str], str]]:
        return type(self), (self.path, self.reason)  # so that other processes can raise it


def read_radiograph(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a PNG, JPEG or DICOM file, whatever its name, as a grey image.

    Colour becomes luminance, transparency is dropped, palettes are looked up, and the EXIF
    orientation is applied (XMP's is not). 16-bit values keep their high byte; where fewer bits are
    in use, they are scaled by these, see `decode_noted`. DICOM is shown as its maker wants it, see
    `data.dicom`.

    Args:
        path: an image file.

    Returns:
        uint8 (height, width), 0 black to 255 white.

    Raises:
        BadRadiographError: the file is missing, empty, unreadable, truncated, damaged, too large or
            no image.
        ImportError: a DICOM file without the extra `mura-tf[dicom]`.
    """
    return decode_radiograph(read_content(path), path)


def read_content(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file; BadRadiographError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadRadiographError(path, os_reason(error)) from None


def digest_of(content: bytes) -> str:
    """32 hexadecimal digits (BLAKE2b) that tell a file's content from another's."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def decode_radiograph(content: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    """`read_radiograph` for the bytes of a file; `path` is for the message only."""
    return decode_noted(content, path)[0]


def decode_noted(content: bytes, path: str | os.PathLike[str]) -> tuple[np.ndarray, str]:
    """`decode_radiograph`, and what was done to the values and ought to be known.

    Returns:
        The image, and a note such as "12 of 16 bits are used, and scaled to all grey levels", or
        "" where there is nothing to say.
    """
    with naming(path):
        return _stored(content).grey()


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of `read_radiograph`'s image, pixels; nothing is decoded.

    Raises:
        BadRadiographError: the file is missing, no image, truncated or too large.
    """
    content = read_content(path)
    with naming(path):
        return _stored(content).size


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """What cannot be read within gets the name of its file."""
    try:
        yield
    except UnreadableImageError as error:
        raise BadRadiographError(path, str(error)) from None
    except ImportError as error:
        raise ImportError(f"{path}: {error}") from None


def is_dicom(content: bytes) -> bool:
    """Whether the bytes of a file begin as DICOM's do: 128 bytes, then "DICM"."""
    return content[128:132] == b"DICM"


def resize_with_pad(image: np.ndarray, size: int, resize: str = "bilinear") -> np.ndarray:
    """Resizes to fit a square and pads with black, as `tf.image.resize_with_pad` does.

    Bilinear with half-pixel centres and no antialiasing; within one grey level of TensorFlow's
    float result. By "area", a pixel of a radiograph that is made smaller is the mean over all that
    it covers, so that nothing thin falls between; one that is made larger is bilinear as well.

    Args:
        image: uint8 (height, width).
        size: side of the square, pixels.
        resize: of `RESIZES`.

    Returns:
        uint8 (size, size).
    """
    top, left, height, width = padded_box(image.shape[0], image.shape[1], size)
    square = np.zeros((size, size), np.uint8)
    shrinks = resize == "area" and max(image.shape) > size
    square[top : top + height, left : left + width] = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return square


def fitted(image: np.ndarray, side: int) -> np.ndarray:
    """Resizes for showing, so that the longer side is `side` pixels; uint8 (height, width)."""
    scale = side / max(image.shape)
    width, height = (max(1, round(length * scale)) for length in reversed(image.shape))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=interpolation)


def padded_box(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Where an image of `height` x `width` lies in its padded square.

    The arithmetic is TensorFlow's, in float32, so that the rounding agrees. A side never becomes
    0, where TensorFlow would fail.

    Returns:
        (top, left, height, width), pixels of the square.

    >>> padded_box(400, 512, 300)
    (32, 0, 234, 300)
    """
    ratio = max(np.float32(width) / np.float32(size), np.float32(height) / np.float32(size))
    inner_height, inner_width = np.float32(height) / ratio, np.float32(width) / ratio
    top = max(0, int((np.float32(size) - inner_height) / np.float32(2)))
    left = max(0, int((np.float32(size) - inner_width) / np.float32(2)))
    return top, left, max(1, int(inner_height)), max(1, int(inner_width))


def unpadded(square: np.ndarray, height: int, width: int) -> np.ndarray:
    """The part of a padded square, (S, S), that an image of `height` x `width` fills."""
    top, left, inner_height, inner_width = padded_box(height, width, len(square))
    return square[top : top + inner_height, left : left + inner_width]


def padded_boxes(paths: Iterable[str | os.PathLike[str]], size: int) -> np.ndarray:
    """`padded_box` of each file's image: int (n, 4); nothing is decoded.

    Raises:
        BadRadiographError: a file is missing or no image.
    """
    return np.array([padded_box(*read_size(path), size) for path in paths], int).reshape(-1, 4)


def os_reason(error: OSError) -> str:
    """Why the system would not give a file, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "a directory, not an image file"
    if isinstance(error, PermissionError):
        return "not readable (permission denied)"
    return error.strerror or str(error)


def _stored(content: bytes) -> StoredImage:
    if not content:
        raise UnreadableImageError("the file is empty")
    if is_png(content):
        return read_png(content)
    if is_jpeg(content):
        return read_jpeg(content)
    if is_dicom(content):
        from mura_tf.data.dicom import read_dicom  # needs the extra

        return read_dicom(content)
    raise UnreadableImageError(f"not a {FORMATS} image")
