"""What the tables' plots draw, read back from the figures."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from class_predictions import predictions_of
from matplotlib.collections import LineCollection
from sklearn.calibration import calibration_curve

from mura_tf.evaluation.classes import MACRO, MICRO, score_classes
from mura_tf.evaluation.predictions import STAGE_NAMES
from mura_tf.models.backbones import BACKBONES
from mura_tf.reports.class_plots import plot_confusion, plot_roc
from mura_tf.reports.curve_plots import plot_learning_rates, plot_run_curves, plot_system_curves
from mura_tf.reports.data_plots import plot_distribution, plot_elbows, plot_intensities
from mura_tf.reports.score_plots import plot_kappa, plot_parameters, plot_reliability
from mura_tf.reports.style import LABEL_COLOURS, STAGE_COLOURS, SYSTEM_COLOURS, colour_of
from mura_tf.training.recipe import STAGES, Recipe


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
    figure = plot_system_curves(curves, ["unified", "specialised"])
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


# Classes


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


def test_a_cell_of_the_confusion_matrix_says_and_shows_its_share():
    names = ["normal elbow", "abnormal elbow", "normal $x_1$"]
    counts = [[1350, 0, 150], [5, 5, 0], [0, 0, 0]]
    figure = plot_confusion(pd.DataFrame(counts, names, names))
    (axes,) = figure.axes
    assert texts_of(axes) == ["1,350", "90%", "150", "10%", "5", "50%", "5", "50%"]
    cells = [(patch.get_xy(), patch.get_alpha()) for patch in axes.patches]
    assert cells == [((-0.5, -0.5), 0.9), ((1.5, -0.5), 0.1), ((-0.5, 0.5), 0.5), ((0.5, 0.5), 0.5)]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    colours = [text.get_color() for text in axes.texts[::2]]
    assert colours == [colour_of(name) for name in ("paper", "ink", "ink", "ink")]


def test_every_class_has_its_roc_curve_in_its_types_panel():
    scores = score_classes(predictions_of(), "type_and_abnormality")
    figure = plot_roc(scores)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["elbow", "hand", "wrist", "averages"]
    expected = [(f"normal {name}", f"abnormal {name}") for name in titles[:3]] + [(MICRO, MACRO)]
    for axes, names in zip(figure.axes, expected, strict=True):
        macro, *lines = axes.lines
        assert (macro.get_xydata() == scores.curves[MACRO]).all()
        for line, name in zip(reversed(lines), names, strict=True):
            assert (line.get_xydata() == scores.curves[name]).all()
    normal, abnormal = (scores.table.auroc[f"{word} hand"] for word in ("normal", "abnormal"))
    assert texts_of(figure.axes[1]) == [f"abnormal {abnormal:.3f}", f"normal {normal:.3f}"]
    assert [line.get_color() for line in figure.axes[1].lines[1:]] == [
        colour_of(LABEL_COLOURS[label]) for label in (1, 0)
    ]


@pytest.mark.filterwarnings("error")
def test_a_class_without_a_curve_has_a_dash():
    predictions = predictions_of(types=("elbow", "hand"))
    rows = predictions[(predictions.study_type != "hand") | (predictions.label == 0)]
    figure = plot_roc(score_classes(rows, "type_and_abnormality"))
    figure.draw_without_rendering()
    assert texts_of(figure.axes[1])[0] == "abnormal \N{EN DASH}"


def test_study_types_as_classes_have_a_panel_each():
    scores = score_classes(predictions_of(task="study_type"), "study_type")
    figure = plot_roc(scores)
    assert texts_of(figure.axes[0]) == [f"{scores.table.auroc['elbow']:.3f}"]


def test_learning_rates_are_the_histories():
    runs = [fake_run("xception", "mura", member, epochs=7 + member) for member in range(2)]
    figure = plot_learning_rates([run.history for run in runs])
    (axes,) = figure.axes
    for line, run in zip(axes.lines, runs, strict=True):
        np.testing.assert_allclose(line.get_xydata(), run.history[["epoch", "learning_rate"]])
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "log" and low < 0.1 and high > 0.9


# Data


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
    figure = plot_elbows(curves, 0.95)
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
