"""Coloured marks are told from the tint of a film and from JPEG's own colour noise."""

import cv2
import numpy as np
import pytest

from mura_tf.data.colour import coloured_share


@pytest.fixture(params=[60, 240])
def film(request):
    """Grey, from black to dark or to bright, with grain: uint8 (300, 240, 3)."""
    ramp = np.linspace(10, request.param, 240)[None].repeat(300, axis=0)
    grain = np.random.default_rng(0).normal(0, 8, ramp.shape)
    grey = (ramp + grain).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def files(picture):
    """The picture as files of each kind."""
    for suffix in (".png", ".jpg"):
        yield cv2.imencode(suffix, picture)[1].tobytes()


MARKS = {"red": (0, 0, 255), "yellow": (0, 255, 255), "green": (0, 200, 0), "blue": (255, 60, 0)}


@pytest.mark.parametrize("mark", MARKS)
def test_a_coloured_mark_is_seen_and_measured(film, mark):
    film[100:120, 30:60] = MARKS[mark]
    for content in files(film):
        assert coloured_share(content) == pytest.approx(20 * 30 / (300 * 240), rel=0.3)


@pytest.mark.parametrize("tint", [(1, 1, 1), (0.7, 0.9, 1.0), (1.0, 0.85, 0.7), (0.45, 0.8, 1.0)])
def test_a_tint_is_no_mark(film, tint):
    tinted = (film * tint).astype(np.uint8)
    for content in files(tinted):
        assert coloured_share(content) == 0
    tinted[100:120, 30:60] = MARKS["red"]
    for content in files(tinted):
        assert coloured_share(content) > 0.005


def test_what_has_one_channel_or_is_no_picture_has_no_colour(film):
    for content in files(film[..., 0]):
        assert coloured_share(content) == 0
    for content in (b"", b"\x89PNG", b"\xff\xd8\xff", b"DICM" * 50):
        assert coloured_share(content) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 2)])
def test_a_picture_of_a_pixel_or_two_has_none(shape):
    for content in files(np.full((*shape, 3), MARKS["red"], np.uint8)):
        assert coloured_share(content) in (0, 1)


def test_real_radiographs_have_none(fracatlas):
    paths = sorted((fracatlas / "images").rglob("*.jpg"))[::60]
    assert len(paths) > 50
    assert [path.name for path in paths if coloured_share(path.read_bytes())] == []
