"""Figures of what a training did, epoch by epoch."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from mura_tf.evaluation.scores import STAGE_NAMES
from mura_tf.reports.style import (
    STAGE_COLOURS,
    SYSTEM_COLOURS,
    calm_axes,
    colour_of,
    draw_legend,
)
from mura_tf.training.run import Run

_Curves = tuple[np.ndarray, int]
"""float (epochs, 3), epoch, loss and kappa; and the epoch that was chosen, from 1."""
_DASH = "_"
"""The marker of a curve of one epoch, which makes no line."""


def plot_learning_curves(histories: list[pd.DataFrame], best_epochs: list[int]) -> Figure:
    """Loss and image-level validation kappa over the epochs, one thin line per run.

    Args:
        histories: the `history.csv` of each run: epoch (from 1), loss, val_loss, val_kappa; where
            it has them, data_loss and val_data_loss are drawn for the losses.
        best_epochs: the epoch each run chose, counted from 1; marked with a dot.

    Returns:
        A figure to save.

    Examples:
        >>> runs = [mt.Run(path) for path in Path("demo/small_cnn/type/wrist").iterdir()]
        >>> best = [run.info["best_epoch"] for run in runs]
        >>> mt.plot_learning_curves([run.history for run in runs], best).savefig("demo/curves.svg")
    """
    figure = Figure(figsize=(3.3, 2.9))
    figure.subplots_adjust(left=0.14, right=0.99, top=0.92, bottom=0.15, hspace=0.42)
    loss, kappa = (calm_axes(axes, grid="y") for axes in figure.subplots(2, sharex=True))
    for history, best_epoch in zip(histories, best_epochs, strict=True):
        chosen = history[history.epoch == best_epoch]
        trained = _loss(history)
        curves = (
            (loss, trained, "muted"),
            (loss, f"val_{trained}", "blue"),
            (kappa, "val_kappa", "blue"),
        )
        for axes, column, colour in curves:
            style = "-" if len(history) > 1 else _DASH
            axes.plot(history.epoch, history[column], style, color=colour_of(colour), linewidth=1.1)
            if colour == "blue":
                axes.plot(
                    chosen.epoch, chosen[column], "o", color=colour_of(colour), markersize=4.5
                )
    loss.set_title("training loss", loc="left", fontsize=9, color=colour_of("muted"))
    loss.set_title("validation loss", loc="right", fontsize=9, color=colour_of("blue"))
    kappa.set_title("validation kappa", loc="right", fontsize=9, color=colour_of("blue"))
    for axes in (loss, kappa):
        axes.yaxis.set_major_locator(MaxNLocator(4))
    loss.set_ylim(bottom=0)
    kappa.set_ylim(min(-0.05, kappa.get_ylim()[0]), 1.05)
    kappa.set_yticks([0, 0.5, 1])
    kappa.set_xlim(0.5, max(len(history) for history in histories) + 0.5)
    kappa.xaxis.set_major_locator(_epochs(6))
    kappa.set_xlabel("epoch", fontsize=9)
    return figure


def plot_run_curves(runs: list[Run]) -> Figure:
    """Training loss and image-level validation kappa of many runs, a row of panels per backbone.

    Args:
        runs: finished `Run`s; their stages are told apart by colour.

    Returns:
        A figure to save; a dot marks the epoch each run chose.
    """
    by_backbone: dict[str, dict[str, list[_Curves]]] = {}  # -> stage -> those of each run
    for run in runs:
        history = run.history
        columns = ["epoch", _loss(history), "val_kappa"]
        curves = np.transpose([history[column] for column in columns])
        stages = by_backbone.setdefault(run.recipe.backbone, {})
        stages.setdefault(run.recipe.stage, []).append((curves, run.info["best_epoch"]))
    height = 1.7 * len(by_backbone) + 1.1
    figure = Figure(figsize=(5.2, height))
    figure.subplots_adjust(0.07, 0.45 / height, 0.99, 1 - 0.9 / height, wspace=0.2, hspace=0.3)
    grid = figure.subplots(len(by_backbone), 2, sharex=True, sharey="col", squeeze=False)
    for row, (backbone, stages) in zip(grid, by_backbone.items(), strict=True):
        for column, axes in enumerate(row, start=1):
            calm_axes(axes, grid="y")
            for stage, members in stages.items():
                _plot_histories(axes, column, members, STAGE_COLOURS[stage])
        row[0].set_title(backbone, loc="left", fontsize=10, color=colour_of("ink"))
    loss, kappa = grid[0]
    loss.set_title("training loss", loc="right", fontsize=10, color=colour_of("muted"))
    kappa.set_title("validation kappa", loc="right", fontsize=10, color=colour_of("muted"))
    loss.set_ylim(bottom=0)
    kappa.set_ylim(top=1.02)
    loss.yaxis.set_major_locator(MaxNLocator(3))
    kappa.yaxis.set_major_locator(MaxNLocator(3, steps=[5, 10]))
    loss.xaxis.set_major_locator(_epochs(8))
    for axes in grid[:-1].flat:
        axes.xaxis.set_visible(False)  # or Matplotlib lays its ticks out all the same
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    shown = dict.fromkeys(stage for found in by_backbone.values() for stage in found)
    lines = [Line2D([], [], color=colour_of(STAGE_COLOURS[stage])) for stage in shown]
    names = [STAGE_NAMES[stage] for stage in shown]
    draw_legend(figure, lines, names, loc="upper left", columns=3)
    return figure


def _epochs(most: int) -> MaxNLocator:
    """Ticks at whole epochs, also where there is one."""
    return MaxNLocator(most, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])


def _loss(history: pd.DataFrame) -> str:
    """The column of the loss of the data, which is a part of some losses."""
    return "data_loss" if "data_loss" in history else "loss"


def _plot_histories(axes: Axes, column: int, runs: list[_Curves], colour: str) -> None:
    """A line per run and a dot at its best epoch; the more runs, the fainter the lines."""
    lines = [curves[:, [0, column]] for curves, _ in runs]
    alpha = min(1, max(0.12, 4 / len(lines)))
    axes.add_collection(LineCollection(lines, linewidths=1, color=colour_of(colour), alpha=alpha))
    dots = [line[best - 1] for line, (_, best) in zip(lines, runs, strict=True)]
    axes.plot(*np.transpose(dots), "o", color=colour_of(colour), markersize=3, markeredgewidth=0)


def plot_system_curves(
    curves: dict[str, dict[str, list[tuple[pd.DataFrame, int]]]], systems: list[str]
) -> Figure:
    """Loss and accuracy of a document's systems over the epochs, laid over each other.

    Args:
        curves: what was trained on -> title of the system -> (`history.csv`, chosen epoch) of each
            of its models.
        systems: up to seven titles, in the order of their colours.

    Returns:
        A figure to save: a row per training set; full lines are validation, dotted ones training,
        and a dot marks the chosen epoch.
    """
    colours = dict(zip(systems, SYSTEM_COLOURS, strict=False))
    height = 1.9 * len(curves) + 0.4 + 0.22 * (len(systems) + 2)
    figure = Figure(figsize=(6.4, height), layout="constrained")
    grid = figure.subplots(len(curves), 2, sharex="row", squeeze=False)
    for row, (trained_on, group) in zip(grid, curves.items(), strict=True):
        for axes, name in zip(row, ("loss", "accuracy"), strict=True):
            calm_axes(axes, grid="y")
            axes.set_title(name, loc="right", fontsize=10, color=colour_of("muted"))
            axes.xaxis.set_major_locator(_epochs(6))
            for title, histories in group.items():
                for history, best in histories:
                    style = {"color": colour_of(colours[title]), "linewidth": 1.2}
                    line = ":" if len(history) > 1 else _DASH
                    axes.plot(history.epoch, history[name], line, **style)
                    axes.plot(history.epoch, history[f"val_{name}"], **style)
                    chosen = history[history.epoch == best]
                    axes.plot(chosen.epoch, chosen[f"val_{name}"], "o", markersize=4, **style)
        named = {"loc": "left", "fontsize": 10, "color": colour_of("ink"), "parse_math": False}
        row[0].set_title(trained_on, **named)
        row[0].set_ylim(bottom=0)
        row[1].set_ylim(top=1.02)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    lines = [Line2D([], [], color=colour_of(colour)) for colour in colours.values()]
    lines += [Line2D([], [], color=colour_of("muted"), linestyle=style) for style in ("-", ":")]
    names = [*colours, "validation", "training"]
    draw_legend(figure, lines, names)
    return figure


def plot_learning_rates(histories: list[pd.DataFrame]) -> Figure:
    """The learning rate in each epoch, a line per run.

    Args:
        histories: the `history.csv` of each run: epoch (from 1), learning_rate.

    Returns:
        A figure to save.
    """
    figure = Figure(figsize=(5.2, 2.4), layout="constrained")
    axes = calm_axes(figure.add_subplot(), grid="y")
    for history in histories:
        axes.step(
            history.epoch,
            history.learning_rate,
            where="mid",
            marker="" if len(history) > 1 else _DASH,
            color=colour_of("blue"),
            linewidth=1.4,
            alpha=0.7,
        )
    rates = np.concatenate([history.learning_rate for history in histories])
    axes.set_yscale("log")
    drawn = rates[rates > 0]  # a cosine ends at 0
    if len(drawn):
        axes.set_ylim(drawn.min() / 3, drawn.max() * 3)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.5, max(len(history) for history in histories) + 0.5)
    axes.xaxis.set_major_locator(_epochs(8))
    axes.set_xlabel("epoch")
    axes.set_ylabel("learning rate")
    return figure
