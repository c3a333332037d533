"""PNG: chunks, the bits that are used, grey levels by OpenCV's libpng."""

import struct
import zlib

import cv2
import numpy as np

from mura_tf.data.exif import orientation_of
from mura_tf.data.stored_image import (
    StoredImage,
    UnreadableImageError,
    bits_note,
    require_readable_size,
    used_bits,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CORRUPT = "truncated or corrupt PNG"


def is_png(content: bytes) -> bool:
    return content.startswith(SIGNATURE[:4])


def read_png(content: bytes) -> StoredImage:
    """Reads the chunks around the pixels.

    Raises:
        UnreadableImageError: a chunk that matters is damaged or lacking, or the image is too large.
    """
    chunks = _chunks(content)
    try:
        width, height, depth, colour = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    except (KeyError, struct.error):
        raise UnreadableImageError(_CORRUPT) from None
    if b"IEND" not in chunks:
        raise UnreadableImageError(_CORRUPT)
    require_readable_size(height, width)
    channels = 3 if colour & 2 else 1  # without alpha
    significant = max(chunks.get(b"sBIT", b"")[:channels], default=0)
    return StoredImage(
        height=height,
        width=width,
        orientation=orientation_of(chunks.get(b"eXIf", b"")),
        decode=lambda: _grey(content, depth, significant),
    )


def _chunks(content: bytes) -> dict[bytes, bytes]:
    """The first chunk of each kind up to IEND, but the pixels'; a damaged one is left out.

    libpng refuses pixels that are damaged, and passes over other chunks.
    """
    chunks, position = {}, len(SIGNATURE)
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if kind != b"IDAT" and kind not in chunks:
            data = content[position + 8 : end - 4]
            if content[end - 4 : end] == struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))):
                chunks[kind] = data
        if kind == b"IEND":
            break
        position = end
    return chunks


def _grey(content: bytes, depth: int, significant: int) -> tuple[np.ndarray, str]:
    """Grey levels, uint8, and how values of fewer bits than `depth` were scaled."""
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise UnreadableImageError(f"not decodable ({error.err})") from None
    if decoded is None:
        raise UnreadableImageError(_CORRUPT)
    image: np.ndarray = decoded
    bits = _used_bits(image, depth, significant) if depth >= 8 else 8  # OpenCV made it 8
    note = bits_note(bits, depth)
    if bits > 8:
        image = image >> bits - 8
    elif bits < 8:
        image = image << 8 - bits
    return image.astype(np.uint8, copy=False), note


def _used_bits(image: np.ndarray, depth: int, significant: int) -> int:
    """Of `depth`, how many bits of the values are in use.

    By the standard, values fill the depth however many of their bits sBIT calls significant. Many
    writers leave them at the lower end all the same, with sBIT or without.
    """
    if 0 < significant < depth:
        return significant if image.max() < 2**significant else depth
    return used_bits(image, depth)
