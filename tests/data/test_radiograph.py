import io
import os
import pickle
import struct

import cv2
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from png_files import png_of_size

from mura_tf.data.cache import BadViewsError
from mura_tf.data.radiograph import (
    BadRadiographError,
    decode_radiograph,
    fitted,
    padded_box,
    read_radiograph,
    read_size,
    resize_with_pad,
)

_RNG = np.random.default_rng(0)
GREY = _RNG.integers(0, 256, (37, 53), np.uint8)
RGB = _RNG.integers(0, 256, (37, 53, 3), np.uint8)
GREY16 = _RNG.integers(0, 65536, (37, 53), np.uint16)
SMOOTH = cv2.GaussianBlur(_RNG.integers(0, 256, (96, 64), np.uint8), (0, 0), 4)


def encoded(image, kind="PNG", **options):
    """The file's bytes, as Pillow writes it."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def luminance(rgb):
    """ITU-R 601, the weights of PNG's and JPEG's grey."""
    return np.rint(rgb[..., :3].astype(float) @ [0.299, 0.587, 0.114])


def by_pillow(content):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("L"))


def off_by(image, expected):
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    return np.abs(image.astype(float) - expected).max()


# Resizing


def test_resize_with_pad_is_tensorflows_within_one_grey_level():
    rng = np.random.default_rng(1)
    for _ in range(150):
        height, width = np.exp(rng.uniform(1, 6.3, 2)).astype(int)
        size = int(rng.choice([32, 64, 96, 224, 240, 260, 300, int(rng.integers(32, 330))]))
        if min(height, width) * size < max(height, width):
            continue  # TensorFlow fails here, see the next test but one
        image = rng.integers(0, 256, (height, width), np.uint8)
        expected = tf.image.resize_with_pad(image[..., None], size, size).numpy()[..., 0]
        square = resize_with_pad(image, size)
        assert off_by(square, expected) <= 1, (height, width, size)


def shares(pixels, cells):
    """What each pixel has of each cell of a coarser row: float (cells, pixels), rows of 1."""
    edges = np.arange(cells + 1)[:, None] * pixels / cells
    ends = np.minimum(edges[1:], np.arange(1, pixels + 1))
    return np.maximum(ends - np.maximum(edges[:-1], np.arange(pixels)), 0) * cells / pixels


@pytest.mark.parametrize("shape", [(454, 373), (300, 512), (700, 90), (384, 384)])
@pytest.mark.parametrize("size", [64, 256])
def test_resize_by_area_is_the_mean_over_what_a_pixel_covers(shape, size):
    image = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    top, left, height, width = padded_box(*shape, size)
    expected = np.zeros((size, size))
    means = shares(shape[0], height) @ image @ shares(shape[1], width).T
    expected[top : top + height, left : left + width] = means
    assert off_by(resize_with_pad(image, size, "area"), expected) <= 0.51


def test_resize_by_area_of_what_is_made_larger_is_bilinear():
    image = np.random.default_rng(4).integers(0, 256, (40, 30), np.uint8)
    assert np.array_equal(resize_with_pad(image, 64, "area"), resize_with_pad(image, 64))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 1), 64),
        ((2, 3), 300),
        ((512, 512), 256),
        ((4, 200), 64),
        ((1, 300), 300),
        ((300, 1), 300),
        ((1200, 5), 300),
        ((7, 2000), 320),
    ],
)
def test_resize_with_pad_of_extreme_shapes(shape, size):
    image = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    expected = tf.image.resize_with_pad(image[..., None], size, size).numpy()[..., 0]
    assert off_by(resize_with_pad(image, size), expected) <= 1


@pytest.mark.parametrize("shape", [(1, 1000), (1000, 1), (3, 5000)])
def test_resize_with_pad_keeps_a_line_where_tensorflow_fails(shape):
    image = np.full(shape, 200, np.uint8)
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.image.resize_with_pad(image[..., None], 64, 64)
    square = resize_with_pad(image, 64)
    assert square.sum() == 64 * 200
    assert np.array_equal(np.unique(square), [0, 200])


def test_resize_with_pad_keeps_what_already_fits():
    square = np.random.default_rng(5).integers(0, 256, (64, 64), np.uint8)
    assert np.array_equal(resize_with_pad(square, 64), square)
    wide = square[:40]
    assert np.array_equal(resize_with_pad(wide, 64)[12:52], wide)
    assert not resize_with_pad(wide, 64)[:12].any()


def test_padded_box_fills_one_side_is_centred_and_keeps_the_ratio():
    rng = np.random.default_rng(3)
    for height, width, size in rng.integers(32, 2000, (2000, 3)).tolist():
        top, left, inner_height, inner_width = padded_box(height, width, size)
        assert max(inner_height, inner_width) in (size, size - 1)  # float32 may fall just short
        assert top >= 0 and top + inner_height <= size
        assert left >= 0 and left + inner_width <= size
        assert abs(2 * top + inner_height - size) <= 2
        assert abs(2 * left + inner_width - size) <= 2
        scale = size / max(height, width)
        assert abs(inner_height - height * scale) < 1.01
        assert abs(inner_width - width * scale) < 1.01


def test_padded_box_turns_with_the_image():
    for height, width, size in np.random.default_rng(4).integers(1, 900, (300, 3)).tolist():
        top, left, inner_height, inner_width = padded_box(height, width, size)
        assert padded_box(width, height, size) == (left, top, inner_width, inner_height)
        assert min(inner_height, inner_width) >= 1


def test_padded_box_is_where_tensorflow_puts_the_image():
    for height, width, size in ((400, 512, 300), (77, 33, 100), (3, 299, 301), (1023, 1021, 224)):
        white = np.full((height, width, 1), 255, np.uint8)
        rows, columns = np.nonzero(tf.image.resize_with_pad(white, size, size).numpy()[..., 0])
        box = padded_box(height, width, size)
        assert box[:2] == (rows.min(), columns.min())
        assert box[2:] == (np.ptp(rows) + 1, np.ptp(columns) + 1)


# Formats


def test_grey_png(tmp_path):
    path = tmp_path / "image1.png"
    path.write_bytes(encoded(GREY))
    assert np.array_equal(read_radiograph(path), GREY)
    assert np.array_equal(read_radiograph(str(path)), tf.io.decode_png(path.read_bytes())[..., 0])


def test_rgb_png_becomes_luminance():
    assert off_by(decode_radiograph(encoded(RGB), "x"), luminance(RGB)) <= 1


def test_a_mura_png_of_three_equal_channels_is_exact():
    same = np.repeat(GREY[..., None], 3, axis=2)
    assert np.array_equal(decode_radiograph(encoded(same), "x"), GREY)


def test_rgba_png_drops_the_transparency():
    rgba = np.dstack([RGB, 255 - GREY])
    assert off_by(decode_radiograph(encoded(rgba), "x"), luminance(rgba)) <= 1


def test_grey_png_with_transparency_drops_it():
    both = np.dstack([GREY, 255 - GREY])
    assert np.array_equal(decode_radiograph(encoded(both), "x"), GREY)


@pytest.mark.parametrize("options", [{}, {"transparency": 3}])
def test_palette_png_is_looked_up(options):
    content = encoded(Image.fromarray(RGB).quantize(16), **options)
    assert Image.open(io.BytesIO(content)).mode == "P"
    expected = tf.io.decode_png(content, channels=3).numpy()
    assert off_by(decode_radiograph(content, "x"), luminance(expected)) <= 1


def test_black_and_white_png():
    content = encoded(Image.fromarray(GREY > 128))
    assert np.array_equal(decode_radiograph(content, "x"), np.where(GREY > 128, 255, 0))


def test_16_bit_png_keeps_the_high_byte():
    content = encoded(GREY16)
    image = decode_radiograph(content, "x")
    assert np.array_equal(image, GREY16 >> 8)
    assert np.array_equal(image, tf.io.decode_png(content, channels=1)[..., 0])
    exact = tf.io.decode_png(content, channels=1, dtype=tf.uint16).numpy()[..., 0]
    assert np.array_equal(exact, GREY16)  # so the file really had 16 bits


def test_16_bit_rgb_png():
    rgb16 = np.dstack([GREY16, GREY16[::-1], GREY16[:, ::-1]])
    content = cv2.imencode(".png", rgb16[..., ::-1])[1].tobytes()
    assert off_by(decode_radiograph(content, "x"), luminance(rgb16 >> 8)) <= 1


def test_grey_jpeg():
    content = encoded(SMOOTH, "JPEG", quality=95)
    image = decode_radiograph(content, "x")
    assert off_by(image, by_pillow(content)) <= 1
    assert off_by(image, tf.io.decode_jpeg(content, dct_method="INTEGER_ACCURATE")[..., 0]) <= 1
    assert off_by(image, SMOOTH) <= 8


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"subsampling": 2}])
def test_colour_jpeg(options):
    colour = np.dstack([SMOOTH, SMOOTH[::-1], 255 - SMOOTH])
    content = encoded(colour, "JPEG", quality=95, **options)
    assert off_by(decode_radiograph(content, "x"), by_pillow(content)) <= 1


def test_cmyk_jpeg():
    content = encoded(Image.fromarray(np.dstack([SMOOTH] * 4), "CMYK"), "JPEG")
    assert off_by(decode_radiograph(content, "x"), by_pillow(content)) <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation, tmp_path):
    image = Image.fromarray(SMOOTH)
    exif = image.getexif()
    exif[0x0112] = orientation
    content = encoded(image, kind, exif=exif)
    decoded = decode_radiograph(content, "x")
    assert decoded.shape == ((64, 96) if orientation >= 5 else (96, 64))
    (tmp_path / "image").write_bytes(content)
    assert read_size(tmp_path / "image") == decoded.shape
    assert off_by(decoded, by_pillow(content)) <= 1


def test_real_radiographs(fracatlas):
    paths = sorted((fracatlas / "images" / "Fractured").glob("*.jpg"))[:5]
    assert paths
    for path in paths:
        assert off_by(read_radiograph(path), by_pillow(path.read_bytes())) <= 1


# Bad input


def reason(content, tmp_path):
    path = tmp_path / "image1.png"
    path.write_bytes(content)
    with pytest.raises(BadRadiographError) as caught:
        read_radiograph(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_png(tmp_path, share):
    content = encoded(GREY)
    assert reason(content[: int(share * len(content))], tmp_path) == "truncated or corrupt PNG"


def test_every_cut_of_a_png_is_found():
    content = encoded(GREY[:12, :12])
    for end in range(1, len(content)):
        with pytest.raises(BadRadiographError, match=r"truncated or corrupt PNG|not a PNG"):
            decode_radiograph(content[:end], "x")


def test_corrupt_png(tmp_path):
    content = bytearray(encoded(GREY))
    content[len(content) // 2] ^= 0x55
    assert reason(bytes(content), tmp_path) == "truncated or corrupt PNG"


@pytest.mark.parametrize("progressive", [False, True])
def test_every_cut_of_a_jpeg_is_found(tmp_path, progressive):
    content = encoded(SMOOTH, "JPEG", progressive=progressive)
    assert reason(content[:-20], tmp_path) == "truncated JPEG (no end-of-image marker)"
    for end in range(2, len(content)):
        with pytest.raises(BadRadiographError, match="truncated"):
            decode_radiograph(content[:end], "x")


def jpeg_with_thumbnail():
    """A JPEG whose EXIF holds a small whole JPEG, with an end-of-image marker of its own."""
    thumbnail = encoded(SMOOTH[::8, ::8], "JPEG")
    # TIFF header, an IFD0 without entries, and an IFD1 that points at the thumbnail
    ifd1 = struct.pack(">H", 2) + b"".join(
        struct.pack(">HHII", tag, 4, 1, value)
        for tag, value in ((0x201, 44), (0x202, len(thumbnail)))
    )
    tiff = b"MM\x00\x2a" + struct.pack(">I", 8) + struct.pack(">HI", 0, 14) + ifd1 + bytes(4)
    tiff += thumbnail
    app1 = b"Exif\x00\x00" + tiff
    jpeg = encoded(SMOOTH, "JPEG")
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + jpeg[2:], len(app1) + 4


def test_a_jpeg_with_a_thumbnail_is_read():
    content, _ = jpeg_with_thumbnail()
    assert content.count(b"\xff\xd9") == 2
    assert off_by(decode_radiograph(content, "x"), by_pillow(content)) <= 1
    assert decode_radiograph(content, "x").shape == SMOOTH.shape


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_found():
    content, image_start = jpeg_with_thumbnail()
    for end in range(image_start, len(content)):
        with pytest.raises(BadRadiographError, match="truncated"):
            decode_radiograph(content[:end], "x")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"Mac OS X        ", "not a PNG, JPEG or DICOM image"),
        (b"<html>404</html>", "not a PNG, JPEG or DICOM image"),
        (b"\x00" * 100, "not a PNG, JPEG or DICOM image"),
        (png_of_size(0, 5), "an image of 5 x 0 pixels"),
        (png_of_size(5, 0), "an image of 0 x 5 pixels"),
        (png_of_size(0, 0), "an image of 0 x 0 pixels"),
    ],
)
def test_what_is_no_image(tmp_path, content, sentence):
    assert reason(content, tmp_path) == sentence


def test_a_missing_file(tmp_path):
    with pytest.raises(BadRadiographError, match=r"image1.png: there is no such file$"):
        read_radiograph(tmp_path / "image1.png")


def test_a_directory(tmp_path):
    with pytest.raises(BadRadiographError, match=r": a directory, not an image file$"):
        read_radiograph(tmp_path)


def test_a_file_inside_a_file(tmp_path):
    (tmp_path / "study1").write_bytes(b"")
    with pytest.raises(BadRadiographError, match=r"image1.png: Not a directory$"):
        read_radiograph(tmp_path / "study1" / "image1.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file(tmp_path):
    path = tmp_path / "image1.png"
    path.write_bytes(encoded(GREY))
    path.chmod(0)
    with pytest.raises(BadRadiographError, match=r"image1.png: not readable \(permission denied\)"):
        read_radiograph(path)


def test_an_unreadable_file_as_the_system_reports_it(tmp_path, monkeypatch):
    """The sentence of the test above, for where tests run as root."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(BadRadiographError, match=r": not readable \(permission denied\)$"):
        read_radiograph(tmp_path / "image1.png")


def test_a_bad_radiograph_is_a_value_error():
    assert issubclass(BadRadiographError, ValueError)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "there is no such file"), (b"no image", "not a PNG, JPEG or DICOM image")],
)
def test_a_size_that_cannot_be_read(content, reason, tmp_path):
    path = tmp_path / "image.png"
    if content:
        path.write_bytes(content)
    with pytest.raises(BadRadiographError, match=f"image.png: {reason}"):
        read_size(path)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((400, 512), (175, 224)), ((50, 20), (224, 90)), ((3000, 2), (224, 1))],
)
def test_fitted_keeps_the_shape(shape, expected):
    assert fitted(np.zeros(shape, np.uint8), 224).shape == expected


def test_its_error_passes_from_process_to_process(tmp_path):
    error = pickle.loads(pickle.dumps(BadRadiographError(tmp_path / "a.png", "the file is empty")))
    assert (error.path, error.reason) == (tmp_path / "a.png", "the file is empty")
    problems = pd.DataFrame({"path": ["a.png"], "reason": [str(error)]})
    again = pickle.loads(pickle.dumps(BadViewsError(problems)))
    assert again.problems.equals(problems) and "1 files cannot be used" in str(again)
