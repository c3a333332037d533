"""How many bits of a picture's values are in use, and what a picture looks like."""

import io
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from png_files import chunk

from mura_tf.data.cache import prepare_readable
from mura_tf.data.check import check_dataset
from mura_tf.data.looks import look_at
from mura_tf.data.radiograph import decode_noted
from mura_tf.data.views import load_mura

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def seeded(monkeypatch):
    """Each test draws the same, whatever ran before."""
    monkeypatch.setattr(sys.modules[__name__], "RNG", np.random.default_rng(0))


def png(values, significant=None):
    """A PNG, with sBIT where `significant` says so."""
    content = cv2.imencode(".png", values)[1].tobytes()
    if significant is None:
        return content
    channels = 1 if values.ndim == 2 else values.shape[2]
    sbit = chunk(b"sBIT", bytes([significant] * channels))
    return content[:33] + sbit + content[33:]  # behind IHDR


def values_of(bits, dtype=np.uint16, low=0):
    """Random values of so many bits, the highest among them."""
    values = RNG.integers(low, 2**bits, (40, 30), dtype)
    values[0, 0] = 2**bits - 1
    return values


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("with_sbit", [False, True])
def test_16_bits_of_which_fewer_are_used_are_scaled_by_these(bits, with_sbit):
    values = values_of(bits)
    image, note = decode_noted(png(values, bits if with_sbit else None), "x")
    assert np.array_equal(image, values >> bits - 8)
    assert image.max() == 255
    assert note == f"{bits} of 16 bits are used, and scaled to all grey levels"


def test_bits_between_are_those_of_the_next_detector():
    values = values_of(11)
    assert np.array_equal(decode_noted(png(values), "x")[0], values >> 4)


def test_a_dark_image_is_scaled_by_what_sbit_says_and_stays_dark():
    values = values_of(9)
    image, note = decode_noted(png(values, 12), "x")
    assert np.array_equal(image, values >> 4)
    assert note.startswith("12 of 16 bits")


@pytest.mark.parametrize("bits", [15, 16])
def test_a_full_range_of_16_bits_keeps_its_high_byte(bits):
    content = png(values_of(bits))
    image, note = decode_noted(content, "x")
    assert np.array_equal(image, tf.io.decode_png(content, 1, tf.uint16).numpy()[..., 0] >> 8)
    assert note == ""


def test_sbit_of_values_that_fill_the_depth_as_the_standard_says():
    values = values_of(12) << 4
    image, note = decode_noted(png(values, 12), "x")
    assert np.array_equal(image, values >> 8)
    assert note == ""


def test_8_bits_are_scaled_by_sbit_alone():
    values = values_of(6, np.uint8)
    assert np.array_equal(decode_noted(png(values), "x")[0], values)
    image, note = decode_noted(png(values, 6), "x")
    assert np.array_equal(image, values << 2)
    assert note.startswith("6 of 8 bits")


def test_colour_and_transparency_of_16_bits():
    grey = values_of(12)
    colour = np.dstack([grey, grey, grey])
    for values in (colour, np.dstack([colour, np.full_like(grey, 65535)])):
        image, note = decode_noted(png(values, 12), "x")
        assert np.abs(image.astype(int) - (grey >> 4)).max() <= 1
        assert note.startswith("12 of 16 bits")


def test_black_of_16_bits_is_black():
    image, note = decode_noted(png(np.zeros((5, 6), np.uint16)), "x")
    assert not image.any() and note == ""


def elbow_radiograph(inverted=False):
    """A bright limb on black, or its negative."""
    image = np.full((60, 50), 12, np.uint8)
    image[10:50, 15:35] = RNG.integers(60, 250, (40, 20), np.uint8)
    return 255 - image if inverted else image


@pytest.fixture
def pictures(mura):
    """`mura` with pictures as radiographs are, and its views."""
    views = load_mura(mura)
    for path in views.path:
        cv2.imwrite(path, elbow_radiograph())
    return mura, views


def found(mura):
    table = check_dataset(mura)
    return {(path, problem) for path, problem in zip(table.path, table.problem, strict=True)}


def test_pictures_as_they_should_be_are_no_finding(pictures):
    assert found(pictures[0]) == set()


def test_check_names_pictures_that_show_little(pictures):
    mura, views = pictures
    few = RNG.integers(100, 110, (60, 50), np.uint8)
    lettered = np.zeros((60, 50), np.uint8)
    lettered[:3, :5] = 255
    cv2.imwrite(views.path[0], np.full((60, 50), 7, np.uint8))
    cv2.imwrite(views.path[1], few)
    cv2.imwrite(views.path[2], lettered)
    (mura / views.path[3]).write_bytes(png(elbow_radiograph().astype(np.uint16) << 4))
    cv2.imwrite(views.path[4], elbow_radiograph(inverted=True))
    kinds = ["one grey level", "tiny range", "tiny range", "few bits", "inverted"]
    assert found(mura) == set(zip(views.path, kinds, strict=False))
    load_mura(mura)  # none of it keeps a data set from use
    assert check_dataset(mura).reason.str.contains("expected").all()


def test_few_bits_of_many_files_are_one_finding(pictures):
    mura, views = pictures
    for path in views.path:
        (mura / path).write_bytes(png(elbow_radiograph().astype(np.uint16) << 4))
    table = check_dataset(mura)
    (reason,) = table.reason[table.problem == "few bits"]
    assert f"{len(views)} files, the first {views.path[0]}" in reason


def test_a_data_set_of_bright_borders_has_no_inverted_pictures(pictures):
    mura, views = pictures
    for path in views.path:
        cv2.imwrite(path, elbow_radiograph(inverted=True))
    assert found(mura) == set()


def test_preparing_says_what_was_scaled_and_what_is_blank(pictures):
    mura, views = pictures
    (mura / views.path[3]).write_bytes(png(elbow_radiograph().astype(np.uint16) << 4))
    cv2.imwrite(views.path[5], np.full((60, 50), 7, np.uint8))
    for _ in range(2):  # also from the cache
        with pytest.warns(UserWarning) as caught:
            prepare_readable(views, 32)
        assert sorted(str(one.message) for one in caught) == [
            "12 of 16 bits are used, and scaled to all grey levels: 1 of 11 views, the first "
            f"{views.path[3]}.",
            f"all of it lies within 1 grey levels: 1 of 11 views, the first {views.path[5]}.",
        ]


def test_a_look_against_percentiles():
    for shape in ((1, 1), (1, 40), (3, 2), (61, 47), (300, 20)):
        image = RNG.integers(0, 256, shape, np.uint8)
        look = look_at(image)
        assert (look.low, look.high) == (image.min(), image.max())
        inverted = [np.percentile(image, q, method="inverted_cdf") for q in (1, 50, 99)]
        assert (look.range, look.middle) == (inverted[2] - inverted[0], inverted[1])


def test_the_border_of_a_look():
    image = np.full((100, 80), 10, np.uint8)
    image[4:-4, 4:-4] = 200
    assert (look_at(image).border, look_at(image).middle) == (10, 200)
    assert not look_at(image).bright and look_at(255 - image).border == 245


def test_real_radiographs_are_not_inverted_and_their_negatives_are(fracatlas):
    paths = sorted((fracatlas / "images" / "Fractured").glob("*.jpg"))[:200]
    images = [np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("L")) for path in paths]
    assert not any(look_at(image).bright for image in images)
    assert np.mean([look_at(255 - image).bright for image in images]) > 0.85
