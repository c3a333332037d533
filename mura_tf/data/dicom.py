"""One DICOM file -> one grey radiograph and what its header says of it, or why it is refused.

Needs the extra `mura-tf[dicom]`: pydicom, with pylibjpeg's decoders for compressed pixels.
"""

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from mura_tf.data.jpeg import frame_shape
from mura_tf.data.radiograph import is_dicom, naming
from mura_tf.data.stored_image import (
    MAX_PIXELS,
    StoredImage,
    UnreadableImageError,
    bits_note,
    require_readable_size,
    used_bits,
)
from mura_tf.files import is_refusal

if TYPE_CHECKING:
    from pydicom import Dataset

MODALITIES = {"CR": "computed radiography", "DX": "digital radiography", "RG": "film, scanned"}
"""What is read; everything else is no plain radiograph."""
BODY_PARTS = {
    "elbow": ("ELBOW", "OLECRANON"),
    "finger": ("FINGER", "THUMB", "FINGERS", "DIGIT", "PHALANX"),
    "forearm": ("FOREARM", "RADIUS", "ULNA", "RADIUSULNA", "LOWERARM"),
    "hand": ("HAND", "METACARPUS", "METACARPAL"),
    "hip": ("HIP",),
    "humerus": ("HUMERUS", "UPPERARM", "ARM"),
    "leg": ("LEG", "LOWERLEG", "UPPERLEG", "TIBIA", "FIBULA", "TIBIAFIBULA", "TIBFIB", "FEMUR"),
    "shoulder": ("SHOULDER", "CLAVICLE", "SCAPULA", "ACJOINT", "GLENOHUMERALJOINT"),
    "wrist": ("WRIST", "CARPUS", "WRISTJOINT", "SCAPHOID"),
}
"""Study type -> values of BodyPartExamined, without spaces (DICOM PS3.16, Annex L, and habits)."""
GENERAL_PARTS = (
    *("BONE", "BONES", "EXTREMITIES", "EXTREMITY", "LIMB", "LOWEREXTREMITY"),
    *("LOWERLIMB", "OTHER", "SKELETAL", "SKELETON", "UNKNOWN", "UNSPECIFIED", "UPPEREXTREMITY"),
    "UPPERLIMB",
)
"""Values of BodyPartExamined, written in the same way, that name no study type and exclude none."""
SIDES = ("L", "R", "B")
_MOST_BYTES = 2 * MAX_PIXELS + 2**24
"""Of a file: the pixels of the largest radiograph, and a header."""
_HEADER = "DICOM with a header that cannot be read"
_TYPE_OF = {part: study_type for study_type, parts in BODY_PARTS.items() for part in parts}


class Header(NamedTuple):
    """What a DICOM header says of a radiograph; "" where it says nothing.

    Attributes:
        study: StudyInstanceUID.
        instance: SOPInstanceUID.
        part: BodyPartExamined.
        study_type: of BodyPartExamined: a key of `BODY_PARTS`, "" for one of `GENERAL_PARTS`, or
            the part itself in lower case.
        laterality: "L", "R" or "B" (both), the first letter of ImageLaterality or Laterality.
        burned_in: whether BurnedInAnnotation says that text was drawn into the pixels.
    """

    study: str
    instance: str
    part: str
    study_type: str
    laterality: str
    burned_in: bool


def read_dicom(content: bytes) -> StoredImage:
    """Reads the header, and the pixels, as their maker wants them shown, when they are asked for.

    Modality LUT or rescale, then the first VOI LUT or window (without either, the whole range of
    the bits that are used), then what PresentationLUTShape or, without it, MONOCHROME1 says is
    inverse is turned round; what pads the image is black.

    Args:
        content: of the file.

    Returns:
        Its image, uint8 (height, width), 0 black to 255 white.

    Raises:
        UnreadableImageError: no DICOM file, another modality, several frames, colour, no pixels or
            too few of them.
        ImportError: without the extra.
    """
    dataset = _parsed(io.BytesIO(content))
    with _refused_as(_HEADER):
        _require_radiograph(dataset)
        _require_pixels(dataset)
        height, width = int(dataset.Rows), int(dataset.Columns)
    return StoredImage(height, width, orientation=1, decode=lambda: _shown(dataset))


def dicom_header(file: BinaryIO, path: str | os.PathLike[str]) -> Header:
    """What the header of a DICOM file says, of which no pixels are read.

    Args:
        file: open at its beginning.
        path: for the message.

    Raises:
        BadRadiographError, ImportError: see `read_dicom`; without pixels it has a header, too.
    """
    with naming(path):
        dataset = _parsed(file, pixels=False)
        with _refused_as(_HEADER):
            _require_radiograph(dataset)
            return header_of(dataset)


def header_of(dataset: "Dataset") -> Header:
    """`dicom_header` of a parsed file."""
    part = _text(dataset, "BodyPartExamined")
    side = (_text(dataset, "ImageLaterality") or _text(dataset, "Laterality"))[:1].upper()
    squeezed = "".join(letter for letter in part.upper() if letter.isalnum())
    return Header(
        study=_text(dataset, "StudyInstanceUID"),
        instance=_text(dataset, "SOPInstanceUID"),
        part=part,
        study_type="" if squeezed in GENERAL_PARTS else _TYPE_OF.get(squeezed, part.lower()),
        laterality=side if side in SIDES else "",  # U, unpaired, is no side
        burned_in=_text(dataset, "BurnedInAnnotation").upper() == "YES",
    )


def parsed(content: bytes, path: str | os.PathLike[str]) -> "Dataset":
    """The bytes of a DICOM file as pydicom has them."""
    with naming(path):
        return _parsed(io.BytesIO(content))


def _shown(dataset: "Dataset") -> tuple[np.ndarray, str]:
    """The grey levels, and what is to be said of them."""
    from pydicom.pixels.processing import apply_modality_lut

    with _refused_as("DICOM with pixels that cannot be read"), np.errstate(all="ignore"):
        _require_decoder(dataset)
        _require_packed_size(dataset)
        stored = dataset.pixel_array
        padding = _padding(stored, dataset)
        values, note = np.asarray(apply_modality_lut(stored, dataset), float), ""
        centre, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
        if dataset.get("VOILUTSequence"):
            little = dataset.file_meta.TransferSyntaxUID.is_little_endian
            shown = _by_table(values, dataset.VOILUTSequence[0], "<u2" if little else ">u2")
        elif centre is not None and width is not None and not width <= 0:  # NaN is refused
            function = _text(dataset, "VOILUTFunction").upper() or "LINEAR"
            shown = _windowed(values, centre, width, function)
        else:
            bits = most = int(dataset.BitsStored)
            image = stored[~padding]
            has_sign = bool(dataset.PixelRepresentation)
            signed = has_sign and (most < 16 or image.min() < 0)
            if not signed:
                bits = min(used_bits(image, most), most - has_sign)
            note = bits_note(bits, most)
            low, high = _possible_range(dataset, bits, signed)
            shown = (values - low) / (high - low)
        if np.isnan(shown).any():
            raise ValueError("its window or its rescale makes no grey levels of them")
        if _is_inverse(dataset):
            shown = 1 - shown
        shown[padding] = 0
        return np.round(255 * np.clip(shown, 0, 1)).astype(np.uint8), note


def _padding(stored: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """bool, the pixels that only fill the rectangle (PS3.3, C.7.5.1.1.2); none if all do."""
    value, limit = (_first(dataset, f"PixelPadding{end}") for end in ("Value", "RangeLimit"))
    if value is None:
        return np.zeros(stored.shape, bool)
    low, high = sorted([value, value if limit is None else limit])
    fills = (stored >= low) & (stored <= high)
    return fills & ~fills.all()


def _is_inverse(dataset: "Dataset") -> bool:
    shape = _text(dataset, "PresentationLUTShape").upper()
    if shape in ("IDENTITY", "INVERSE"):
        return shape == "INVERSE"
    return bool(dataset.PhotometricInterpretation == "MONOCHROME1")


def _by_table(values: np.ndarray, voi: "Dataset", words: str) -> np.ndarray:
    """A VOI LUT (PS3.3, C.11.2.1.1), in [0, 1].

    Args:
        words: NumPy's name of the file's 16-bit words.
    """
    count, first, bits = (int(entry) for entry in voi.LUTDescriptor)
    data, count = voi.LUTData, count or 2**16
    if first >= 2**15 and values.min() < 0:  # which a file without types says of a negative one
        first -= 2**16
    if isinstance(data, bytes):
        is_bytes = len(data) in (count, count + count % 2)
        table = np.frombuffer(data, np.uint8 if is_bytes else words)
    else:
        table = np.array(data, np.uint16)
    if len(table) < count:
        raise ValueError(f"its VOI LUT has {len(table)} of the {count} entries that it says")
    places = np.clip(np.round(values - first), 0, count - 1).astype(int)
    return table[places] / (2**bits - 1)


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """A window (PS3.3, C.11.2.1.2 and C.11.2.1.3), in [0, 1].

    By hand, because pydicom's `apply_windowing` takes the output's ends from the rescaled ends of
    the stored range, and so turns black and white round where RescaleSlope is negative.
    """
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    if width <= 1:  # a step: PS3.3 forbids less than 1
        return (values > centre - 0.5).astype(float)
    return (values - (centre - 0.5)) / (width - 1) + 0.5


def _possible_range(dataset: "Dataset", bits: int, signed: bool) -> tuple[float, float]:
    """The least and the most that so many stored bits can become."""
    from pydicom.pixels.processing import apply_modality_lut

    ends = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1]
    values = np.asarray(apply_modality_lut(np.array(ends), dataset), float)
    return float(values.min()), float(values.max())


def _parsed(file: BinaryIO, *, pixels: bool = True) -> "Dataset":
    if not is_dicom(file.read(132)):
        raise UnreadableImageError("not a DICOM file (no DICM behind its first 128 bytes)")
    try:
        from pydicom import dcmread
    except ImportError:
        raise ImportError(
            "a DICOM file, which needs pydicom. Install the extra: pip install 'mura-tf[dicom]'."
        ) from None
    with _refused_as("truncated or corrupt DICOM"):
        _require_bounded(file)
        file.seek(0)
        return dcmread(file, stop_before_pixels=not pixels)


def _require_bounded(file: BinaryIO) -> None:
    """UnreadableImageError for a deflated file with more than an image: pydicom inflates it whole,
    also for its header."""
    from pydicom.filereader import read_dataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflate, size, left = zlib.decompressobj(-zlib.MAX_WBITS), 0, file.read()
    while left and size <= _MOST_BYTES:
        size += len(inflate.decompress(left, 2**20))
        left = inflate.unconsumed_tail
    if size > _MOST_BYTES:
        raise UnreadableImageError(
            f"DICOM that is deflated and holds more than {_MOST_BYTES:,} bytes; save it inflated"
        )


@contextmanager
def _refused_as(what: str) -> Iterator[None]:
    """pydicom and its decoders raise whatever they meet, where an element is first asked for.

    A decoder in Rust that panics raises what is no Exception.
    """
    try:
        yield
    except (UnreadableImageError, ImportError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if is_refusal(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f"{what} ({reason})") from None


def _require_radiograph(dataset: "Dataset") -> None:
    modality = _text(dataset, "Modality")
    if modality not in MODALITIES:
        found = f"of the modality {modality}" if modality else "without a modality"
        raise UnreadableImageError(
            f"DICOM {found}; expected a radiograph, one of {', '.join(MODALITIES)}"
        )
    frames = _text(dataset, "NumberOfFrames") or "1"
    if frames != "1":
        raise UnreadableImageError(f"DICOM with {frames} frames; expected one")
    colour = _text(dataset, "PhotometricInterpretation")
    if _text(dataset, "SamplesPerPixel") != "1" or not colour.startswith("MONOCHROME"):
        raise UnreadableImageError(
            f"DICOM in colour ({colour or 'unknown'}); expected MONOCHROME1 or MONOCHROME2"
        )
    bits = _text(dataset, "BitsAllocated")
    if bits not in ("8", "16"):
        raise UnreadableImageError(f"DICOM with {bits} bits a pixel; expected 8 or 16")
    if "Rows" not in dataset or "Columns" not in dataset:
        raise UnreadableImageError("DICOM without Rows and Columns")
    require_readable_size(int(dataset.Rows), int(dataset.Columns))


def _require_pixels(dataset: "Dataset") -> None:
    if "PixelData" not in dataset:
        raise UnreadableImageError("DICOM without pixels")
    highest, stored = _text(dataset, "HighBit"), _text(dataset, "BitsStored")
    packed = dataset.file_meta.TransferSyntaxUID.is_compressed  # whose decoder knows by itself
    if highest and stored and not packed and int(highest) != int(stored) - 1:
        raise UnreadableImageError(
            f"DICOM whose highest bit is {highest} of {stored} stored; expected {int(stored) - 1}: "
            "its pixels do not begin at the lowest bit"
        )


def _require_decoder(dataset: "Dataset") -> None:
    """ImportError where what the extra brings is needed to unpack these pixels, and is not there.

    Pillow is, which pydicom takes for enough where it is not.
    """
    from pydicom import uid
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:  # pydicom does not know it, and says so when it reads
        return
    lacking = not decoder.is_available
    if syntax in uid.JPEG2000TransferSyntaxes:
        lacking = lacking or find_spec("openjpeg") is None
    elif syntax == uid.JPEGExtended12Bit and dataset.BitsStored > 8:
        lacking = lacking or set(decoder.available_plugins) <= {"pillow"}
    if lacking:
        raise ImportError(
            "packed DICOM pixels, which need decoders. Install the extra: pip install "
            "'mura-tf[dicom]'."
        )


def _require_packed_size(dataset: "Dataset") -> None:
    """UnreadableImageError for packed pixels that are more or fewer than the header says.

    The decoders make room for them before pydicom counts.
    """
    from pydicom import uid
    from pydicom.encaps import generate_frames

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in uid.JPEG2000TransferSyntaxes:
        shape_of = _shape_of_2000
    elif syntax in (*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes):
        shape_of = frame_shape
    else:
        return
    tables = tuple(dataset.get(f"ExtendedOffsetTable{kind}") for kind in ("", "Lengths"))
    offsets = tables if all(tables) else None
    frames = generate_frames(dataset.PixelData, number_of_frames=1, extended_offsets=offsets)
    expected = dataset.Rows, dataset.Columns, 1
    for place, frame in enumerate(frames):
        shape = shape_of(frame)
        if place or shape != expected:
            raise UnreadableImageError(
                f"damaged: {' x '.join(map(str, shape))} packed pixels in frame {place + 1}, where "
                f"its header says {' x '.join(map(str, expected))} in one"
            )


def _shape_of_2000(content: bytes) -> tuple[int, int, int]:
    """`frame_shape` of a JPEG 2000 codestream."""
    from openjpeg.utils import get_parameters

    said = get_parameters(content)
    return int(said["rows"]), int(said["columns"]), int(said["samples_per_pixel"])


def _text(dataset: "Dataset", keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _first(dataset: "Dataset", keyword: str) -> float | None:
    """The first of several values."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    return float(value[0] if hasattr(value, "__len__") else value)
