"""Damaged files are refused by name; whole ones are read whatever follows or surrounds them."""

import io
import re
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from png_files import chunk, png_of_size

from mura_tf.data.radiograph import (
    BadRadiographError,
    decode_radiograph,
    read_radiograph,
    read_size,
)
from mura_tf.data.stored_image import MAX_PIXELS

RNG = np.random.default_rng(0)
SMOOTH = cv2.GaussianBlur(RNG.integers(0, 256, (512, 400), np.uint8), (0, 0), 3)
SMOOTH = cv2.normalize(SMOOTH, None, 0, 255, cv2.NORM_MINMAX)
KINDS = {"baseline": {}, "optimised": {"optimize": True}, "progressive": {"progressive": True}}


def jpeg(image=SMOOTH, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


def scan_of(content):
    """Where the entropy-coded part lies, roughly."""
    return content.index(b"\xff\xda") + 12, len(content) - 2


def zeroed_third(content):
    start, end = scan_of(content)
    third = (end - start) // 3
    return content[: start + third] + bytes(third) + content[start + 2 * third :]


def random_block(content, seed):
    rng = np.random.default_rng(seed)
    start, end = scan_of(content)
    place = int(rng.integers(start, end - 2000))
    return content[:place] + rng.bytes(2000) + content[place + 2000 :]


def zeroed_block(content, seed):
    start, end = scan_of(content)
    place = int(np.random.default_rng(seed).integers(start, end - 2000))
    return content[:place] + bytes(2000) + content[place + 2000 :]


def cut_and_closed(content, seed):
    start, end = scan_of(content)
    return content[: int(np.random.default_rng(seed).integers(start, end))] + b"\xff\xd9"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "damage",
    [lambda content, seed: zeroed_third(content), random_block, zeroed_block, cut_and_closed],
    ids=["zeroed third", "random block", "zeroed block", "cut and closed"],
)
def test_a_damaged_jpeg_is_refused(kind, damage, capfd):
    content = jpeg(**KINDS[kind])
    for seed in range(10):
        with pytest.raises(BadRadiographError, match=r"^arm.jpg: (damaged|truncated) JPEG \("):
            decode_radiograph(damage(content, seed), "arm.jpg")
    assert capfd.readouterr().err == ""


def test_a_progressive_jpeg_that_lacks_its_last_scans_is_refused():
    content = jpeg(progressive=True)
    starts = [found.start() for found in re.finditer(rb"\xff\xda", content)]
    tables = [content.rindex(b"\xff\xc4", 0, start) for start in starts]
    assert len(starts) > 3
    for place in tables[1:]:
        with pytest.raises(BadRadiographError, match="it ends before all of its scans"):
            decode_radiograph(content[:place] + b"\xff\xd9", "x")


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_bytes_before_the_end_marker_are_no_damage(kind):
    content = jpeg(**KINDS[kind])
    image = decode_radiograph(content, "x")
    for surplus in (b"\0", b"abc", bytes(8)):
        assert np.array_equal(decode_radiograph(content[:-2] + surplus + content[-2:], "x"), image)
    with pytest.raises(BadRadiographError, match=r"\d\d extraneous bytes"):
        decode_radiograph(content[:-2] + b"a" * 100 + content[-2:], "x")


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_a_jpeg_does_not_matter(kind):
    content = jpeg(**KINDS[kind])
    image = decode_radiograph(content, "x")
    for seed in range(40):
        trailer = np.random.default_rng(seed).bytes(100_000)
        assert np.array_equal(decode_radiograph(content + trailer, "x"), image)
    for trailer in (b"\xff\xda", b"\xff\xd8\xff\xda\0\0", content[:-2]):
        assert np.array_equal(decode_radiograph(content + trailer, "x"), image)


def test_comments_and_restarts_do_not_matter():
    for options in ({"comment": b"\xff\xd9\xff\xda"}, {"restart_marker_blocks": 5}):
        content = jpeg(**options)
        assert np.array_equal(decode_radiograph(content, "x"), by_pillow(content))


def frame_replaced(marker, bits):
    content = bytearray(jpeg())
    place = content.index(b"\xff\xc0")
    content[place + 1], content[place + 4] = marker, bits
    return bytes(content)


@pytest.mark.parametrize(
    ("marker", "bits", "kind"),
    [
        (0xC0, 12, "12-bit"),
        (0xC1, 12, "12-bit"),
        (0xC3, 8, "lossless"),
        (0xC3, 16, "lossless"),
        (0xC5, 8, "hierarchical"),
        (0xF7, 8, "JPEG-LS"),
    ],
)
def test_a_jpeg_of_another_kind_is_called_what_it_is(marker, bits, kind):
    with pytest.raises(BadRadiographError, match=rf"^x: a JPEG that is {kind}; .* Save it as PNG$"):
        decode_radiograph(frame_replaced(marker, bits), "x")


@pytest.mark.parametrize(
    ("content", "first", "times"),
    [
        (jpeg(SMOOTH[:64, :64]), 2, 2000),
        (cv2.imencode(".png", SMOOTH[:64, :64])[1].tobytes(), 4, 500),
    ],
    ids=["jpeg", "png"],
)
def test_no_garbage_ends_in_anything_but_a_sentence(content, first, times):
    """From byte `first` on, so that it is still taken for a file of its kind."""
    rng = np.random.default_rng(1)
    for _ in range(times):
        garbled = bytearray(content)
        for place in rng.integers(first, len(content), rng.integers(1, 8)):
            garbled[place] = rng.integers(256)
        try:
            assert decode_radiograph(bytes(garbled), "x").ndim == 2
        except BadRadiographError as error:
            assert str(error).startswith("x: ")


def test_a_jpeg_of_very_many_scans_is_not_decoded():
    content = jpeg(SMOOTH[:64, :64], progressive=True)
    last = content.rindex(b"\xff\xda")
    scan = content[last:-2]
    with pytest.raises(BadRadiographError, match="more than 200 scans"):
        decode_radiograph(content[:-2] + 200 * scan + b"\xff\xd9", "x")


# One reader for size and pixels


def by_pillow(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"))


def with_exif(image, entry, kind):
    """A file whose EXIF holds one entry, 12 bytes."""
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, exif=b"Exif\0\0" + tiff)
    return buffer.getvalue()


def xmp_turned(image, kind):
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-'
        b'rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        b'tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    buffer = io.BytesIO()
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        Image.fromarray(image).save(buffer, kind, pnginfo=text)
    else:
        Image.fromarray(image).save(buffer, kind, xmp=xmp)
    content = buffer.getvalue()
    assert Image.open(buffer).getexif()[0x112] == 6  # as Pillow reads it
    return content


def png_with(optional):
    content = cv2.imencode(".png", SMOOTH)[1].tobytes()
    return content[:33] + optional + content[33:]


UNTURNED = {
    "text": with_exif(SMOOTH, struct.pack("<HHI4s", 0x112, 2, 2, b"6\0"), "JPEG"),
    "text in PNG": with_exif(SMOOTH, struct.pack("<HHI4s", 0x112, 2, 2, b"6\0"), "PNG"),
    "orientation 9": with_exif(SMOOTH, struct.pack("<HHIHH", 0x112, 3, 1, 9, 0), "JPEG"),
    "orientation 0": with_exif(SMOOTH, struct.pack("<HHIHH", 0x112, 3, 1, 0, 0), "PNG"),
    "XMP": xmp_turned(SMOOTH, "JPEG"),
    "XMP in PNG": xmp_turned(SMOOTH, "PNG"),
    "broken eXIf": png_with(chunk(b"eXIf", b"MM\0*ab", b"sum?")),
    "cut eXIf": png_with(chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x02\x01\x12")),
    "no TIFF": png_with(chunk(b"eXIf", b"an orientation of 6")),
}


@pytest.mark.parametrize("case", UNTURNED)
def test_what_is_no_exif_orientation_turns_neither_size_nor_pixels(case, tmp_path):
    (tmp_path / "image").write_bytes(UNTURNED[case])
    image = read_radiograph(tmp_path / "image")
    assert image.shape == read_size(tmp_path / "image") == SMOOTH.shape
    assert np.abs(image.astype(int) - SMOOTH).max() <= 16


@pytest.mark.parametrize("size", [(13_500, 13_500), (70_000, 70_000), (2**31 - 1, 1), (1, 66_000)])
def test_one_limit_of_pixels_in_one_sentence(size, tmp_path):
    width, height = size
    (tmp_path / "image.png").write_bytes(png_of_size(width, height))
    sentence = (
        f"{tmp_path / 'image.png'}: too large: {height:,} x {width:,} pixels, at most "
        f"{MAX_PIXELS:,} and a side of 65,535 can be read; shrink it"
    )
    for read in (read_radiograph, read_size):
        with pytest.raises(BadRadiographError) as caught:
            read(tmp_path / "image.png")
        assert str(caught.value) == sentence


def test_a_jpeg_at_the_limit_is_measured_by_its_frame(tmp_path):
    content = bytearray(jpeg(SMOOTH[:16, :16]))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 65_535, 65_535)
    with pytest.raises(BadRadiographError, match=r"too large: 65,535 x 65,535 pixels"):
        decode_radiograph(bytes(content), "x")


def test_a_size_is_refused_where_the_pixels_are(tmp_path):
    (tmp_path / "image").write_bytes(jpeg()[:-300])
    for read in (read_radiograph, read_size):
        with pytest.raises(BadRadiographError, match="truncated JPEG"):
            read(tmp_path / "image")
