"""One image file -> one grey uint8 square."""

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image


class BadRadiographError(ValueError):
    """A file that is no readable radiograph; the message names the file and the reason."""


def read_radiograph(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a PNG or JPEG file as a grey image.

    Colour becomes luminance, transparency is dropped, palettes are looked up, 16-bit values keep
    their high byte, and the EXIF orientation is applied.

    Args:
        path: an image file.

    Returns:
        uint8 (height, width), 0 black to 255 white.

    Raises:
        BadRadiographError: the file is missing, empty, unreadable, truncated or no image.
    """
    return decode_radiograph(read_content(path), path)


def read_content(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file; BadRadiographError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadRadiographError(f"{path}: {os_reason(error)}") from None


def decode_radiograph(content: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    """`read_radiograph` for the bytes of a file; `path` is for the message only."""
    if not content:
        raise BadRadiographError(f"{path}: the file is empty")
    if is_dicom(content):
        from mura_tf.data.dicom import decode_dicom  # needs the extra

        return decode_dicom(content, path)
    if content.startswith(b"\xff\xd8") and _lacks_end_of_image(content):
        raise BadRadiographError(f"{path}: truncated JPEG (no end-of-image marker)")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise BadRadiographError(f"{path}: not decodable ({error.err})") from None
    if image is None:
        kind = _kind(content)
        reason = f"truncated or corrupt {kind}" if kind else "not a PNG or JPEG image"
        raise BadRadiographError(f"{path}: {reason}")
    return image


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of `read_radiograph`'s image, pixels, from the file's header alone.

    Raises:
        BadRadiographError: the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return image.size if turned else image.size[::-1]
    except OSError as error:  # Pillow's own are OSErrors
        raise BadRadiographError(f"{path}: {os_reason(error)}") from None


def resize_with_pad(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes to fit a square and pads with black, as `tf.image.resize_with_pad` does.

    Bilinear with half-pixel centres and no antialiasing; within one grey level of TensorFlow's
    float result.

    Args:
        image: uint8 (height, width).
        size: side of the square, pixels.

    Returns:
        uint8 (size, size).
    """
    top, left, height, width = padded_box(image.shape[0], image.shape[1], size)
    square = np.zeros((size, size), np.uint8)
    square[top : top + height, left : left + width] = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_LINEAR
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


def padded_boxes(paths: Iterable[str | os.PathLike[str]], size: int) -> np.ndarray:
    """`padded_box` of each file's image: int (n, 4); reads the files' headers alone.

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


def _lacks_end_of_image(jpeg: bytes) -> bool:
    """Whether no end-of-image marker follows the last start-of-scan.

    Inside a scan 0xFF is always stuffed, so FF D9 there is the marker. Decoders fill a missing
    rest with grey and say nothing, hence this test.
    """
    return jpeg.find(b"\xff\xd9", max(0, jpeg.rfind(b"\xff\xda"))) < 0


def is_dicom(content: bytes) -> bool:
    """Whether the bytes of a file begin as DICOM's do: 128 bytes, then "DICM"."""
    return content[128:132] == b"DICM"


def _kind(content: bytes) -> str:
    if content.startswith(b"\x89PNG"):
        return "PNG"
    return "JPEG" if content.startswith(b"\xff\xd8") else ""
