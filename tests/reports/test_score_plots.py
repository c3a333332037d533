"""Kappas, parameters and reliability as they are drawn, read back from the figures."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from figures import legend
from matplotlib.colors import to_rgba
from sklearn.calibration import calibration_curve

from mura_tf.evaluation.scores import STAGE_NAMES
from mura_tf.models.backbones import BACKBONES
from mura_tf.reports.score_plots import plot_kappa, plot_parameters, plot_reliability
from mura_tf.reports.style import SYSTEM_COLOURS, colour_of


def overall_of(systems):
    rows = [
        (backbone, stage, 0, 0.70 + index / 100, 0.65, 0.75 + index / 100, 0.69)
        for index, (backbone, stage) in enumerate(systems)
    ]
    columns = ["backbone", "stage", "repeat", "kappa", "kappa_low", "kappa_high"]
    return pd.DataFrame(rows, columns=[*columns, "published_kappa"])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_kappas_of_many_systems_do_not_cover_each_other(count):
    names = list(BACKBONES)[:count]
    rows = overall_of([(name, "type") for name in names])
    rows = pd.concat([rows.assign(study_type=name) for name in ("elbow", "wrist", "overall")])
    figure = plot_kappa(rows)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(dots) == count
    points = np.concatenate([axes.transData.transform(line.get_xydata()) for line in dots])
    heights = np.sort(points[:, 1]) * 72 / figure.dpi
    assert np.diff(heights).min() > 0.85 * dots[0].get_markersize()
    assert [line.get_color() for line in dots] == list(map(colour_of, SYSTEM_COLOURS[:count]))


def test_parameters_are_drawn_against_kappa_with_its_interval():
    rows = overall_of([(name, "type") for name in ("efficientnet_b0", "xception")])
    rows.loc[1, "published_kappa"] = np.nan
    figure = plot_parameters(rows)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    whiskers = [np.concatenate(lines.get_segments()) for lines in axes.collections]
    filled, hollow = axes.lines[::2], axes.lines[1::2]
    for row, whisker, dot, published in zip(
        rows.itertuples(), whiskers, filled, hollow, strict=True
    ):
        millions = BACKBONES[row.backbone].parameters / 1e6
        np.testing.assert_allclose(whisker, [(millions, row.kappa_low), (millions, row.kappa_high)])
        np.testing.assert_allclose(dot.get_xydata(), [(millions, row.kappa)])
        np.testing.assert_allclose(published.get_xydata(), [(millions, row.published_kappa)])
        assert published.get_markerfacecolor() == "none"
        assert published.get_markeredgecolor() == dot.get_markeredgecolor()
    assert legend(figure) == [f"{name}, {STAGE_NAMES['type']}" for name in rows.backbone]


def test_systems_of_one_backbone_stand_side_by_side():
    figure = plot_parameters(overall_of([("xception", "imagenet"), ("xception", "type")]))
    one, two = (line.get_xdata()[0] for line in figure.axes[0].lines[::2])
    assert one == pytest.approx(BACKBONES["xception"].parameters / 1e6)
    assert 1.02 < two / one < 1.1


def test_a_given_name_stands_in_the_legend():
    rows = overall_of([("efficientnet_b0", "type"), ("xception", "type")])
    assert legend(plot_parameters(rows.assign(system=["B0", "Xception"]))) == ["B0", "Xception"]


def test_dollars_in_a_name_are_no_mathematics():
    rows = overall_of([("efficientnet_b0", "type"), ("xception", "type")])
    names = ["weights w$\\x$.h5", "on a$1/b$2"]
    figure = plot_parameters(rows.assign(system=names))
    figure.savefig(io.BytesIO())
    assert legend(figure) == names


def reliability_studies(n=200, repeats=2):
    rng = np.random.default_rng(0)
    tables = []
    for backbone, exponent in (("efficientnet_b0", 1), ("xception", 2)):
        probability = rng.random(n * repeats)
        table = pd.DataFrame({"probability": probability})
        table["label"] = (rng.random(len(table)) < probability**exponent).astype(int)
        tables.append(
            table.assign(backbone=backbone, stage="type", repeat=np.arange(len(table)) % repeats)
        )
    return pd.concat(tables, ignore_index=True)


def test_reliability_is_scikit_learns_calibration_curve_of_all_repeats():
    studies = reliability_studies()
    figure = plot_reliability(studies)
    diagonal, *curves = figure.axes[0].lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    for curve, (_, rows) in zip(curves, studies.groupby("backbone"), strict=True):
        share, mean = calibration_curve(
            rows.label, rows.probability, n_bins=10, strategy="quantile"
        )
        assert len(mean) == 10
        np.testing.assert_allclose(curve.get_xydata(), np.transpose([mean, share]))
    assert legend(figure) == [
        f"{name}, {STAGE_NAMES['type']}" for name in studies.backbone.unique()
    ]


def test_reliability_of_few_distinct_probabilities():
    studies = pd.DataFrame({"probability": [0.1, 0.1, 0.9, 0.9], "label": [0, 1, 1, 1]})
    studies = studies.assign(backbone="xception", stage="type", repeat=0)
    curve = plot_reliability(studies).axes[0].lines[1]
    np.testing.assert_allclose(curve.get_xydata(), [(0.1, 0.5), (0.9, 1)])


def test_a_notebooks_style_changes_no_background():
    with plt.style.context("dark_background"):
        figure = plot_kappa(overall_of([("small_cnn", "type")]).assign(study_type="overall"))
    colours = {figure.get_facecolor(), *(axes.get_facecolor() for axes in figure.axes)}
    assert colours == {to_rgba(colour_of("paper"))}


@pytest.mark.parametrize("name", ["efficientnet_b3", "a system of the user's own with a name " * 3])
def test_no_name_is_cut_off(name):
    rows = overall_of([(backbone, "type") for backbone in list(BACKBONES)[:7]])
    rows["system"] = [f"{name}, fine-tuned per study type {index}" for index in range(7)]
    rows = rows.assign(study_type="overall", n=9)
    for figure in (plot_parameters(rows), plot_kappa(rows)):
        figure.draw_without_rendering()
        (box,) = [one.get_window_extent() for one in figure.legends]
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        told = " ".join(" ".join(legend(figure)).split())
        assert all(system.strip() in told for system in rows.system)


def test_more_systems_than_colours_are_refused():
    rows = overall_of([(backbone, "type") for backbone in list(BACKBONES)[:8]])
    with pytest.raises(ValueError, match=r"a plot tells 7 systems apart. Received: 8"):
        plot_parameters(rows)
