"""What the data study draws, read back from the figures."""

import numpy as np
import pandas as pd
import pytest
from figures import legend, texts_of

from mura_tf.reports.data_plots import plot_distribution, plot_elbows, plot_intensities


def test_bars_are_shares_of_the_split():
    names = ["normal elbow", "abnormal elbow", "normal hand", "abnormal hand"]
    counts = pd.DataFrame({"train": [60, 20, 15, 5], "test": [3, 1, 0, 0]}, names)
    figure = plot_distribution(counts)
    widths = [[patch.get_width() for patch in axes.patches] for axes in figure.axes]
    assert widths[0] == pytest.approx([0.6, 0.2, 0.15, 0.05, 0.75, 0.25, 0, 0])
    assert widths[1] == pytest.approx([0.8, 0.2, 1, 0])
    assert widths[2] == pytest.approx([0.75, 0.25, 0.75, 0.25])
    labels = [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes]
    assert labels == [names, ["elbow", "hand"], ["normal", "abnormal"]]
    assert legend(figure) == ["train", "test"]


@pytest.mark.filterwarnings("error")
def test_grey_levels_are_binned_by_four():
    names = ["normal elbow", "abnormal elbow"]
    shares = np.random.default_rng(0).dirichlet(np.ones(256))
    histograms = pd.DataFrame([shares, np.full(256, np.nan)], names)
    pixels = pd.DataFrame({"mean": [81.4, np.nan], "std": [39.6, np.nan]}, names)
    figure = plot_intensities(pixels, histograms)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert texts_of(axes) == ["normal 81 (40)", "abnormal \N{EN DASH} (\N{EN DASH})"]
    drawn = axes.patches[0].get_data()
    np.testing.assert_allclose(drawn.values, shares.reshape(64, 4).sum(axis=1))
    assert drawn.edges.tolist() == list(range(0, 257, 4))


def test_elbows_have_a_dot_where_the_share_is_reached():
    curves = {
        ("PCA", 10): np.array([0.5, 0.96, 1]),
        ("incremental PCA", 10): np.array([0.5, 0.9]),
        ("incremental PCA", 1000): np.array([0.95]),
    }
    figure = plot_elbows(curves)
    few, many = figure.axes
    _, pca, dot, incremental, none = few.lines
    np.testing.assert_allclose(pca.get_xydata(), [(1, 0.5), (2, 0.96), (3, 1)])
    np.testing.assert_allclose(dot.get_xydata(), [(2, 0.96)])
    np.testing.assert_allclose(incremental.get_xydata(), [(1, 0.5), (2, 0.9)])
    assert not len(none.get_xdata())
    assert many.lines[4].get_xydata().tolist() == [[1, 0.95]]
    assert legend(figure) == ["PCA", "incremental PCA"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "10 per class",
        "1,000 per class",
    ]
