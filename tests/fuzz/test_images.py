"""Image files: as Pillow or pydicom reads them, or refused."""

import copy
import functools
import io
import struct
import zlib

import numpy as np
from dicom_files import radiograph
from fuzzing import damaged, fuzzed, read_or_refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mura_tf.data.colour import coloured_share
from mura_tf.data.dicom import dicom_header
from mura_tf.data.radiograph import decode_noted, is_dicom, read_size
from mura_tf.data.stored_image import turned

SIDES = st.integers(1, 40)
SEEDS = st.integers(0, 2**32 - 1)
ORIENTATION = 0x0112
CHUNKS = [b"eXIf", b"sBIT", b"gAMA", b"iCCP", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"fdAT", b"zTXt"]


@st.composite
def pictures(draw, modes):
    """A Pillow image of noise, or of one grey level."""
    mode, size = draw(st.sampled_from(modes)), (draw(SIDES), draw(SIDES))
    rng = np.random.default_rng(draw(SEEDS))
    if mode == "I;16":
        highest = 2 ** draw(st.sampled_from([1, 8, 10, 12, 14, 16]))
        return Image.fromarray(rng.integers(0, highest, size[::-1], np.uint16))
    depth = len(Image.new(mode, (1, 1)).getbands())
    levels = rng.integers(0, draw(st.sampled_from([1, 20, 256])), (*size[::-1], depth), np.uint8)
    if mode in ("1", "P"):
        return Image.fromarray(levels[..., 0]).convert(mode)
    return Image.fromarray(levels.squeeze(2) if depth == 1 else levels, mode)


def saved(picture, kind, orientation=None, **options):
    if orientation is not None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()


@st.composite
def pngs(draw):
    picture = draw(pictures(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]))
    return saved(picture, "PNG", draw(st.none() | st.integers(0, 9)))


@st.composite
def rechunked(draw, content):
    """A PNG with other chunks, whose checksums are right."""
    chunks, position = [], 8
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        chunks.append((content[position + 4 : position + 8], content[position + 8 :][:length]))
        position += 12 + length
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(chunks) - 1))
        kind, data = chunks[place]
        match draw(st.sampled_from(["header", "damaged", "lost", "twice", "between", "pixels"])):
            case "header":
                chunks[0] = (b"IHDR", draw(damaged(chunks[0][1], most=1)))
            case "damaged":
                chunks[place] = kind, draw(damaged(data, most=2))
            case "lost" if len(chunks) > 1:
                del chunks[place]
            case "twice":
                chunks.insert(draw(st.integers(0, len(chunks))), chunks[place])
            case "between":
                chunks.insert(place, (draw(st.sampled_from(CHUNKS)), draw(st.binary(max_size=40))))
            case "pixels":  # what the stream of pixels holds, packed rightly
                chunks[place] = b"IDAT", zlib.compress(draw(st.binary(max_size=400)))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return content[:8] + b"".join(packed)


@st.composite
def jpegs(draw):
    options = {
        "quality": draw(st.integers(1, 100)),
        "progressive": draw(st.booleans()),
        "restart_marker_blocks": draw(st.integers(0, 3)),
    }
    picture = draw(pictures(["L", "RGB", "CMYK"]))
    if picture.mode == "RGB":
        options["subsampling"] = draw(st.integers(0, 2))
    return saved(picture, "JPEG", draw(st.none() | st.integers(0, 9)), **options)


def decoded(content, folder):
    """`decode_noted`, and that the size is read as the pixels are."""
    image, note = decode_noted(content, "arm")
    assert image.dtype == np.uint8 and image.ndim == 2 and image.size
    path = folder / "arm"
    path.write_bytes(content)
    assert read_size(path) == image.shape
    assert 0 <= coloured_share(content) <= 1
    return image, note


def pillows(content, upright):
    """The grey levels that Pillow reads; None where it refuses."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            kind = picture.format
            if kind == "JPEG" and picture.mode == "RGB":
                picture.draft("L", picture.size)
            picture.load()
            if upright:
                picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I"):
                return np.asarray(picture).astype(np.uint16) >> 8
            return np.asarray(picture.convert("RGB").convert("L"))
    except Exception:  # whatever Pillow has for a file that it does not read
        return None


def agree(found, expected, tolerance):
    return found.shape == expected.shape and (
        np.abs(found.astype(int) - expected.astype(int)).max() <= tolerance
    )


def require_pillows(found, content, whole):
    """As Pillow reads it; what is damaged may be turned, for that is told in its bytes."""
    image, note = found
    expected = pillows(content, upright=whole)
    if expected is None or note:
        assert not whole or note
        return
    ways = [1] if whole else range(1, 9)
    assert any(agree(image, turned(expected, way), 2) for way in ways)


def require_read(kind, content, whole, folder):
    """As Pillow reads it; or refused, if it is not whole."""
    found = read_or_refused(kind, lambda: decoded(content, folder))
    if whole:
        assert found is not None
    if found is not None:
        require_pillows(found, content, whole)


@fuzzed(10)
@given(data=st.data())
def test_png(data, tmp_path_factory):
    whole = content = data.draw(pngs())
    how = data.draw(st.sampled_from(["whole", "bytes", "chunks", "chunks", "followed"]))
    if how == "bytes":
        content = data.draw(damaged(whole))
    elif how == "chunks":
        content = data.draw(rechunked(whole))
    elif how == "followed":
        content = whole + data.draw(st.binary(max_size=40))
    require_read("PNG", content, how in ("whole", "followed"), tmp_path_factory.getbasetemp())


@fuzzed(10)
@given(data=st.data())
def test_jpeg(data, tmp_path_factory):
    whole = content = data.draw(jpegs())
    how = data.draw(st.sampled_from(["whole", "bytes", "bytes", "followed"]))
    if how == "bytes":
        content = data.draw(damaged(whole))
    elif how == "followed":
        content = whole + data.draw(st.binary(max_size=40))
    require_read("JPEG", content, how in ("whole", "followed"), tmp_path_factory.getbasetemp())


# ------------------------------------------------------------------------------------------------
# DICOM

KEYWORDS = [
    "Rows", "Columns", "BitsStored", "BitsAllocated", "HighBit", "PixelRepresentation",
    "PhotometricInterpretation", "SamplesPerPixel", "NumberOfFrames", "Modality", "PixelData",
    "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "VOILUTFunction",
    "VOILUTSequence", "ModalityLUTSequence", "BodyPartExamined", "PatientID", "StudyInstanceUID",
    "SpecificCharacterSet", "PlanarConfiguration", "PixelPaddingValue",
]  # fmt: skip
REPRESENTATIONS = ["US", "SS", "IS", "DS", "LO", "CS", "UI", "OW", "OB", "UN", "SQ", "FD", "ZZ"]
VALUES = st.sampled_from([b"", b"0 ", b"-1", b"1\\2", b"\xff\xff", b"\x01\0", b"1e99", b"\0\0"])


@functools.cache
def base():
    """A radiograph that is the same in every process."""
    from pydicom import dcmread

    dataset = dcmread(io.BytesIO(radiograph(np.zeros((1, 1), np.uint16))))
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(dataset, name, "1.2.3")
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    return dataset


def written(dataset):
    target = io.BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    return target.getvalue()


@st.composite
def dicoms(draw):
    """A radiograph, and its grey levels as they are to be shown, give or take one."""
    from pydicom import uid

    bits = draw(st.sampled_from([8, 10, 12, 16]))
    shape = draw(SIDES), draw(SIDES)
    values = np.random.default_rng(draw(SEEDS)).integers(0, 2**bits, shape)
    stored = values.astype(np.uint8 if bits == 8 else np.uint16)
    inverted = draw(st.booleans())
    dataset = copy.deepcopy(base())
    dataset.Rows, dataset.Columns = shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * stored.itemsize, bits, bits - 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    dataset.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    used = next((few for few in (8, 10, 12, 14) if 0 < values.max() < 2**few), 16)
    shown = values / (2 ** (used if bits == 16 else bits) - 1)
    if draw(st.booleans()):
        low, width = draw(st.integers(0, 2**bits - 1)), draw(st.integers(1, 2**bits))
        dataset.WindowCenter, dataset.WindowWidth = low + width / 2, width
        dataset.VOILUTFunction = "LINEAR_EXACT"
        shown = ((values - low) / width).clip(0, 1)
    match draw(st.sampled_from(["plain", "plain", "deflated", "lossless"])):
        case "deflated":
            dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        case "lossless":
            large = min(shape) >= 32  # which JPEG 2000 asks for
            dataset.compress(
                uid.JPEG2000Lossless if large else uid.RLELossless, generate_instance_uid=False
            )
    return written(dataset), 255 * (1 - shown if inverted else shown)


LONG = (b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT")
"""Representations whose length has four bytes, behind two of nothing."""


def elements(content):
    """Tag -> representation and value, of a header in explicit little endian."""
    found, position = {}, 0
    while position < len(content):
        tag, vr = content[position : position + 4], content[position + 4 : position + 6]
        start, form = (position + 12, "<I") if vr in LONG else (position + 8, "<H")
        (length,) = struct.unpack_from(form, content, start - struct.calcsize(form))
        found[tag] = vr, content[start:][: min(length, len(content))]
        position = start + length
    return found


def encoded(found):
    for tag, (vr, value) in sorted(found.items(), key=lambda one: struct.unpack("<HH", one[0])):
        length = struct.pack("<xxI" if vr in LONG else "<H", len(value))
        yield tag + vr + length + value


@st.composite
def retold(draw, content):
    """A radiograph whose header says something else, in well-formed elements."""
    from pydicom.datadict import tag_for_keyword

    start = content.index(struct.pack("<HH", 8, 0x16))  # behind the group of the file
    found = elements(content[start:])
    for _ in range(draw(st.integers(1, 3))):
        tag = tag_for_keyword(draw(st.sampled_from(KEYWORDS)))
        packed = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        if draw(st.booleans()):
            found.pop(packed, None)
        else:
            value = draw(VALUES | st.binary(max_size=8))
            vr = draw(st.sampled_from(REPRESENTATIONS)).encode()
            found[packed] = vr, value + b"\0" * (len(value) % 2)
    return content[:start] + b"".join(encoded(found))


@fuzzed(6)
@given(data=st.data())
def test_dicom(data, tmp_path_factory):
    content, expected = data.draw(dicoms())
    how = data.draw(st.sampled_from(["whole", "bytes", "header", "header"]))
    if how == "bytes":
        content = data.draw(damaged(content))
    elif how == "header" and b"1.2.840.10008.1.2.1\0" in content:  # neither packed nor deflated
        content = data.draw(retold(content))
    folder = tmp_path_factory.getbasetemp()

    def read():
        if is_dicom(content):
            dicom_header(io.BytesIO(content), "arm")
        return decoded(content, folder)

    found = read_or_refused("DICOM", read)
    if how == "whole":
        assert np.abs(found[0] - expected).max() <= 0.51
