"""JPEG: its markers, and grey levels by libjpeg-turbo, whose every warning counts."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import simplejpeg

from mura_tf.data.exif import orientation_of
from mura_tf.data.stored_image import StoredImage, UnreadableImageError, require_readable_size

_END, _SCAN = 0xD9, 0xDA
_FRAMES = {0xC0: "", 0xC1: "", 0xC2: "", 0xC9: "", 0xCA: ""}
_FRAMES |= {0xC3: "lossless", 0xC7: "lossless", 0xCB: "lossless", 0xCF: "lossless"}
_FRAMES |= {0xC5: "hierarchical", 0xC6: "hierarchical", 0xCD: "hierarchical", 0xCE: "hierarchical"}
_FRAMES |= {0xF7: "JPEG-LS"}
"""Start-of-frame markers, and what cannot be decoded of what they start."""
_PROGRESSIVE = (0xC2, 0xCA)
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
"""Of a segment, or the end. In a scan a stuffed zero or a restart marker follows 0xFF."""
_SURPLUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_MOST_SCANS = 200
"""A progressive image has about ten; each costs as much time as the whole image."""
_FEW = 8
"""Bytes between image and end marker; some writers leave them, and damage leaves many."""


def is_jpeg(content: bytes) -> bool:
    return content.startswith(b"\xff\xd8")


def read_jpeg(content: bytes) -> StoredImage:
    """Walks the markers to the end of the image; what follows that is no part of it.

    Raises:
        UnreadableImageError: the image ends too early, lacks a part, is of a kind that cannot be
            decoded, or is too large.
    """
    markers = _walked(content)
    return StoredImage(
        height=markers.height,
        width=markers.width,
        orientation=orientation_of(markers.exif),
        decode=lambda: (_grey(content[: markers.end], len(markers.precision)), ""),
    )


def frame_shape(content: bytes) -> tuple[int, int, int]:
    """Height, width and components of a JPEG or JPEG-LS of any kind, by its frame alone.

    Raises:
        UnreadableImageError: it has no frame.
    """
    for code, segment, _ in _segments(content):
        if code in _FRAMES:
            return _frame_of(segment)[1:]
    raise UnreadableImageError("damaged JPEG (without a frame)")


@dataclass
class _Markers:
    """What the markers of a JPEG say.

    Attributes:
        height, width: pixels; 0 before the frame.
        exif: the first EXIF block, from its TIFF header on.
        precision: component -> how many low bits each of its 64 coefficients still lacks; None,
            all of them.
        scans: how many there are.
        end: where the end-of-image marker ends.
    """

    height: int = 0
    width: int = 0
    exif: bytes = b""
    precision: dict[int, list[int | None]] = field(default_factory=dict)
    scans: int = 0
    end: int = 0


def _walked(content: bytes) -> _Markers:
    markers, progressive = _Markers(), False
    for code, segment, end in _segments(content):
        if code == _END:
            markers.end = end
        elif code == 0xE1 and segment.startswith(b"Exif\0\0"):
            markers.exif = markers.exif or segment[6:]
        elif code in _FRAMES:
            progressive = code in _PROGRESSIVE
            _read_frame(markers, code, segment)
        elif code == _SCAN:
            _read_scan(markers, segment, progressive)
    if not markers.end:
        raise UnreadableImageError("truncated JPEG (no end-of-image marker)")
    if not markers.precision or any(set(bits) != {0} for bits in markers.precision.values()):
        raise UnreadableImageError("damaged JPEG (it ends before all of its scans)")
    return markers


def _segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, what its segment holds, and where that ends, up to the image's end or its damage."""
    position = 2
    while found := _MARKER.search(content, position):
        code, position = found[1][0], found.end()
        if code == _END:
            yield code, b"", position
            return
        length = int.from_bytes(content[position : position + 2], "big")
        segment = content[position + 2 : position + length]
        if len(segment) != length - 2:
            return
        position += length
        yield code, segment, position


def _frame_of(segment: bytes) -> tuple[int, int, int, int]:
    """Bits, height, width and how many components."""
    try:
        bits, height, width, count = struct.unpack_from(">BHHB", segment)
    except struct.error:
        raise UnreadableImageError("damaged JPEG (its frame is cut short)") from None
    return bits, height, width, count


def _read_frame(markers: _Markers, code: int, segment: bytes) -> None:
    bits, markers.height, markers.width, count = _frame_of(segment)
    components = segment[6 : 6 + 3 * count : 3]
    kind = _FRAMES[code] or (f"{bits}-bit" if bits != 8 else "")
    if kind:
        raise UnreadableImageError(
            f"a JPEG that is {kind}; baseline and progressive ones of 8 bits can be read. Save it "
            "as PNG"
        )
    require_readable_size(markers.height, markers.width)
    markers.precision = {component: [None] * 64 for component in components}


def _read_scan(markers: _Markers, segment: bytes, progressive: bool) -> None:
    """Notes what a scan brings: which coefficients of which components, down to which bit."""
    markers.scans += 1
    if markers.scans > _MOST_SCANS:
        raise UnreadableImageError(f"damaged JPEG (more than {_MOST_SCANS} scans)")
    count = segment[0] if segment else 0
    components, last = segment[1 : 1 + 2 * count : 2], segment[1 + 2 * count :]
    if len(last) < 3 or not set(components) <= set(markers.precision):
        raise UnreadableImageError("damaged JPEG (a scan of what it has not)")
    first, final, low = (last[0], last[1], last[2] & 15) if progressive else (0, 63, 0)
    for component in components:
        for coefficient in range(first, min(final, 63) + 1):
            markers.precision[component][coefficient] = low


def _grey(content: bytes, components: int) -> np.ndarray:
    """uint8 (height, width)."""
    space = "CMYK" if components == 4 else "GRAY"
    try:
        image = simplejpeg.decode_jpeg(content, space)
    except ValueError as error:
        surplus = _SURPLUS.search(str(error))
        if not surplus or int(surplus[1]) > _FEW:
            raise UnreadableImageError(f"damaged JPEG ({error})") from None
        image = simplejpeg.decode_jpeg(content, space, strict=False)
    if components == 4:  # libjpeg makes no grey of these
        flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
        turned_grey = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        assert turned_grey is not None  # libjpeg has just decoded it
        return turned_grey
    return image[..., 0]
