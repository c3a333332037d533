"""What the tables' plots draw, read back from the figures."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from sklearn.calibration import calibration_curve

from mura_tf.backbones import BACKBONES
from mura_tf.plots import (
    STAGE_COLOURS,
    STAGE_NAMES,
    SYSTEM_COLOURS,
    colour_of,
    plot_kappa,
    plot_parameters,
    plot_reliability,
    plot_run_curves,
    plot_system_curves,
)
from mura_tf.recipe import STAGES, Recipe


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def overall_of(systems):
    rows = [
        (backbone, stage, 0, 0.70 + index / 100, 0.65, 0.75 + index / 100, 0.69)
        for index, (backbone, stage) in enumerate(systems)
    ]
    columns = ["backbone", "stage", "repeat", "kappa", "kappa_low", "kappa_high"]
    return pd.DataFrame(rows, columns=[*columns, "published_kappa"])


# Parameters


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


# Reliability


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


@pytest.mark.parametrize("bins", [10, 4])
def test_reliability_is_scikit_learns_calibration_curve_of_all_repeats(bins):
    studies = reliability_studies()
    figure = plot_reliability(studies, bins)
    diagonal, *curves = figure.axes[0].lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    for curve, (_, rows) in zip(curves, studies.groupby("backbone"), strict=True):
        share, mean = calibration_curve(
            rows.label, rows.probability, n_bins=bins, strategy="quantile"
        )
        assert len(mean) == bins
        np.testing.assert_allclose(curve.get_xydata(), np.transpose([mean, share]))
    assert legend(figure) == [
        f"{name}, {STAGE_NAMES['type']}" for name in studies.backbone.unique()
    ]


def test_reliability_of_few_distinct_probabilities():
    studies = pd.DataFrame({"probability": [0.1, 0.1, 0.9, 0.9], "label": [0, 1, 1, 1]})
    studies = studies.assign(backbone="xception", stage="type", repeat=0)
    curve = plot_reliability(studies).axes[0].lines[1]
    np.testing.assert_allclose(curve.get_xydata(), [(0.1, 0.5), (0.9, 1)])


# Learning curves


def fake_run(backbone, stage, member=0, epochs=9):
    """What `plot_run_curves` needs of a run."""
    rng = np.random.default_rng([member, epochs, *stage.encode()])
    history = pd.DataFrame({"epoch": np.arange(1, epochs + 1)})
    for column in ("learning_rate", "loss", "kappa", "val_loss", "val_kappa"):
        history[column] = rng.uniform(0.1, 0.9, epochs)
    recipe = Recipe(backbone, stage=stage, member=member)
    return SimpleNamespace(recipe=recipe, history=history, info={"best_epoch": epochs - 6})


def test_every_run_has_its_line_and_its_dot():
    runs = [fake_run("xception", "mura")]
    runs += [fake_run("xception", "type", member, epochs=7 + member) for member in range(4)]
    runs += [fake_run("mobilenet_v2", "imagenet", member) for member in range(3)]
    figure = plot_run_curves(runs)
    panels = np.reshape(figure.axes, (2, 2))
    for row, backbone in zip(panels, ("xception", "mobilenet_v2"), strict=True):
        assert row[0].get_title(loc="left") == backbone
        stages = dict.fromkeys(run.recipe.stage for run in runs if run.recipe.backbone == backbone)
        for axes, column in zip(row, ("loss", "val_kappa"), strict=True):
            lines = [one for one in axes.collections if isinstance(one, LineCollection)]
            for drawn, dots, stage in zip(lines, axes.lines, stages, strict=True):
                mine = [
                    run
                    for run in runs
                    if (run.recipe.backbone, run.recipe.stage) == (backbone, stage)
                ]
                for segment, run in zip(drawn.get_segments(), mine, strict=True):
                    np.testing.assert_allclose(segment, run.history[["epoch", column]])
                best = [run.history.iloc[run.info["best_epoch"] - 1] for run in mine]
                expected = [(row.epoch, row[column]) for row in best]
                np.testing.assert_allclose(dots.get_xydata(), expected)
                assert dots.get_color() == colour_of(STAGE_COLOURS[stage])
    assert legend(figure) == [STAGE_NAMES[stage] for stage in ("mura", "type", "imagenet")]
    for axes in figure.axes:  # all curves are inside
        low, high = axes.get_xlim()
        assert low <= 1 and high >= 10
    assert panels[0, 0].get_ylim()[0] == 0 and panels[0, 0].get_ylim()[1] > 0.85
    assert panels[0, 1].get_ylim()[0] < 0.15 and panels[0, 1].get_ylim()[1] > 0.9


def test_every_stage_has_a_name_and_a_colour():
    assert set(STAGE_NAMES) == set(STAGE_COLOURS) == set(STAGES)


def test_many_runs_are_fainter():
    few = plot_run_curves([fake_run("xception", "type", member) for member in range(3)])
    many = plot_run_curves([fake_run("xception", "type", member) for member in range(60)])
    assert few.axes[0].collections[0].get_alpha() == 1
    assert 0.1 < many.axes[0].collections[0].get_alpha() < 0.2


# Kappa


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


# Curves of a document's systems


def history_of(seed, epochs=6):
    values = np.random.default_rng(seed).uniform(0, 1, (epochs, 4))
    history = pd.DataFrame(values, columns=["loss", "accuracy", "val_loss", "val_accuracy"])
    return history.assign(epoch=range(1, epochs + 1))


def test_systems_are_laid_over_each_other_where_they_trained_on_the_same():
    curves = {
        "all study types": {"unified": [(history_of(0), 2)]},
        "wrist": {"specialised": [(history_of(1), 4), (history_of(2), 1)]},
    }
    figure = plot_system_curves(curves)
    assert [axes.get_title("left") for axes in figure.axes] == ["all study types", "", "wrist", ""]
    assert [axes.get_title("right") for axes in figure.axes] == ["loss", "accuracy"] * 2
    for axes, name, (history, best), colour in (
        (figure.axes[1], "accuracy", curves["all study types"]["unified"][0], "blue"),
        (figure.axes[2], "loss", curves["wrist"]["specialised"][0], "orange"),
    ):
        training, validation, dot = axes.lines[:3]
        np.testing.assert_allclose(training.get_ydata(), history[name])
        np.testing.assert_allclose(validation.get_ydata(), history[f"val_{name}"])
        assert (training.get_linestyle(), validation.get_linestyle()) == (":", "-")
        np.testing.assert_allclose(dot.get_xydata(), [(best, history[f"val_{name}"][best - 1])])
        assert {line.get_color() for line in axes.lines[:3]} == {colour_of(colour)}
    assert len(figure.axes[2].lines) == 6
    assert legend(figure) == ["unified", "specialised", "validation", "training"]
