"""Radiographs side by side."""

import cv2
import numpy as np
import pytest

from mura_tf.reports.radiograph_plots import Picture, plot_radiographs
from mura_tf.reports.style import colour_of


def test_what_can_be_read_is_shown_with_its_caption(tmp_path):
    pictures = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((20 + number, 10), 40 * number, np.uint8))
        pictures.append(Picture(str(path), f"number {number}", "green" if number else "orange"))
    pictures.insert(1, Picture(str(tmp_path / "gone.png"), "gone"))
    figure = plot_radiographs(pictures, columns=2)
    axes = [one for one in figure.axes if one.images]
    assert len(figure.axes) == 4  # two rows of two
    captions = [caption for one in axes for caption in one.texts]
    assert [one.get_text() for one in captions] == ["number 0", "number 1", "number 2"]
    assert [one.get_color() for one in captions][1:] == [colour_of("green")] * 2
    figure.draw_without_rendering()
    tops = [caption.get_window_extent().y1 for caption in captions]
    assert tops[0] == pytest.approx(tops[1]) and tops[2] < tops[1]  # two in a row, then one
    assert all(top < one.bbox.y0 for top, one in zip(tops, axes, strict=True))
    for number, one in enumerate(axes):
        shown = one.images[0].get_array()
        assert shown.shape[0] / shown.shape[1] > 1.9 and set(np.unique(shown)) == {40 * number}
        assert one.images[0].get_clim() == (0, 255)


def test_nothing_that_can_be_read_is_no_figure(tmp_path):
    assert plot_radiographs([Picture(str(tmp_path / "gone.png"), "gone")], columns=2) is None
    assert plot_radiographs([], columns=2) is None
