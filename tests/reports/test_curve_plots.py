"""Learning curves as they are drawn, read back from the figures."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
from figures import legend
from matplotlib.collections import LineCollection

from mura_tf.evaluation.scores import STAGE_NAMES
from mura_tf.reports.curve_plots import (
    plot_learning_curves,
    plot_learning_rates,
    plot_run_curves,
    plot_system_curves,
)
from mura_tf.reports.style import STAGE_COLOURS, colour_of
from mura_tf.training.recipe import STAGES, Recipe


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


def test_the_loss_of_the_data_is_drawn_where_there_is_one():
    run = fake_run("xception", "type")
    told = run.history.assign(
        data_loss=run.history.loss / 2, val_data_loss=run.history.val_loss / 2
    )
    drawn = plot_learning_curves([run.history, told], [2, 2]).axes[0].lines
    for history, lines, name in ((run.history, drawn[:3], ""), (told, drawn[3:], "data_")):
        trained, validated, _ = lines
        np.testing.assert_allclose(trained.get_ydata(), history[f"{name}loss"])
        np.testing.assert_allclose(validated.get_ydata(), history[f"val_{name}loss"])
    run.history = told
    (line,) = plot_run_curves([run]).axes[0].collections[0].get_segments()
    np.testing.assert_allclose(line, told[["epoch", "data_loss"]])


def test_every_stage_has_a_name_and_a_colour():
    assert set(STAGE_NAMES) == set(STAGE_COLOURS) == set(STAGES)


def test_many_runs_are_fainter():
    few = plot_run_curves([fake_run("xception", "type", member) for member in range(3)])
    many = plot_run_curves([fake_run("xception", "type", member) for member in range(60)])
    assert few.axes[0].collections[0].get_alpha() == 1
    assert 0.1 < many.axes[0].collections[0].get_alpha() < 0.2


def test_learning_rates_are_the_histories():
    runs = [fake_run("xception", "mura", member, epochs=7 + member) for member in range(2)]
    figure = plot_learning_rates([run.history for run in runs])
    (axes,) = figure.axes
    for line, run in zip(axes.lines, runs, strict=True):
        np.testing.assert_allclose(line.get_xydata(), run.history[["epoch", "learning_rate"]])
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "log" and low < 0.1 and high > 0.9


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


def test_a_rate_that_ends_at_0_is_drawn_on_its_own_scale():
    run = fake_run("xception", "mura", 0)
    history = run.history.assign(learning_rate=[0.0004] * (len(run.history) - 1) + [0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (axes,) = plot_learning_rates([history]).axes
    assert 1e-5 < axes.get_ylim()[0] < 0.0004


def test_a_run_of_one_epoch_is_seen():
    run = fake_run("xception", "type", epochs=7)
    run.history, run.info = run.history.head(1), {"best_epoch": 1}
    figures = [
        plot_learning_curves([run.history], [1]),
        plot_learning_rates([run.history]),
        plot_run_curves([run]),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        ticks = {tick for axes in figure.axes for tick in axes.get_xticks() if 0.5 < tick < 1.5}
        assert ticks == {1}
    for axes in (figures[0].axes[0], figures[1].axes[0]):
        assert axes.lines[0].get_marker() == "_"
