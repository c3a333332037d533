"""Figures of scores and of learning curves."""

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from sklearn.calibration import calibration_curve

from mura_tf.backbones import BACKBONES
from mura_tf.evaluate import OVERALL, SYSTEM_KEY

COLOURS = {  # name: (on white, on black); the hues are Okabe and Ito's, safe for colour-blind eyes
    "paper": ("#ffffff", "#14181c"),
    "ink": ("#1d2730", "#e4e9ee"),
    "muted": ("#65717d", "#97a3af"),
    "line": ("#dde3e8", "#323a42"),
    "wash": ("#f5f7f9", "#1c2227"),
    "blue": ("#0072b2", "#5cb8ec"),
    "orange": ("#c65300", "#f08c4a"),
    "green": ("#00875f", "#35c496"),
    "purple": ("#a8548a", "#d98fbd"),
    "gold": ("#9a7500", "#d8b13c"),
    "sky": ("#3a9bd0", "#8fd0f2"),
    "slate": ("#4a5560", "#b4bec8"),
}
LEGEND = {"frameon": False, "labelcolor": COLOURS["ink"][0], "fontsize": 10}
SYSTEM_COLOURS = ("blue", "orange", "green", "purple", "gold", "sky", "slate")
STAGE_NAMES = {
    "imagenet": "trained directly",
    "mura": "whole-data model",
    "type": "fine-tuned per study type",
}
STAGE_COLOURS = {"imagenet": "orange", "mura": "ink", "type": "blue"}


def plot_kappa(scores: pd.DataFrame) -> Figure:
    """Kappa per study type as dots, with 95 % intervals as whiskers where `scores` has them.

    Args:
        scores: table of `score_systems`; up to seven systems, told apart by colour.

    Returns:
        A figure to save: `plot_kappa(scores).savefig("kappa.png", dpi=200)`.

    Raises:
        ValueError: more than seven systems.
    """
    systems = [rows for _, rows in scores.groupby(SYSTEM_KEY, sort=False)]
    if len(systems) > len(SYSTEM_COLOURS):
        raise ValueError(
            f"plot_kappa tells {len(SYSTEM_COLOURS)} systems apart. Received: {len(systems)}. "
            "Select some of them."
        )
    types = [name for name in sorted(scores.study_type.unique()) if name != OVERALL]
    place = {name: row for row, name in enumerate([*types, OVERALL])}
    row_height = max(0.47, 0.1 * len(systems))
    figure = Figure(figsize=(4.4, 0.55 + 0.2 * len(systems) + row_height * len(place)))
    figure.set_layout_engine("constrained")
    axes = _calm_axes(figure.add_subplot())
    gap = 0.7 / len(systems)
    for index, rows in enumerate(systems):
        y = rows.study_type.map(place) + (index - (len(systems) - 1) / 2) * gap
        colour = colour_of(SYSTEM_COLOURS[index])
        low, high = rows.get("kappa_low", rows.kappa), rows.get("kappa_high", rows.kappa)
        axes.hlines(y, low, high, color=colour, linewidth=1.8, alpha=0.55)
        axes.plot(rows.kappa, y, "o", color=colour, markersize=5, label=system_name(rows.iloc[0]))
    least = np.nanmin([scores.get("kappa_low", scores.kappa).min(), 0])
    axes.set_xlim(max(-1, np.floor(least * 10 - 0.5) / 10), 1.02)
    axes.set_ylim(len(place) - 0.5, -0.5)
    axes.axhline(len(types) - 0.5, color=colour_of("muted"), linewidth=0.8)
    axes.axvline(0, color=colour_of("muted"), linewidth=0.8)
    axes.grid(axis="x", color=colour_of("line"), linewidth=0.8)
    axes.set_yticks(range(len(place)), list(place), parse_math=False)
    axes.tick_params(axis="y", labelsize=12, labelcolor=colour_of("ink"))
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_xlabel("study-level kappa (0 is chance)", color=colour_of("muted"), fontsize=11)
    if len(systems) > 1:
        figure.legend(loc="outside upper left", **LEGEND | {"fontsize": 11})
    return figure


def plot_learning_curves(histories: list[pd.DataFrame], best_epochs: list[int]) -> Figure:
    """Loss and image-level validation kappa over the epochs, one thin line per run.

    Args:
        histories: the `history.csv` of each run: epoch (from 1), loss, val_loss, val_kappa.
        best_epochs: the epoch each run chose, counted from 1; marked with a dot.

    Returns:
        A figure to save.
    """
    figure = Figure(figsize=(3.3, 2.9))
    figure.subplots_adjust(left=0.1, right=0.99, top=0.92, bottom=0.15, hspace=0.42)
    loss, kappa = (_calm_axes(axes) for axes in figure.subplots(2, sharex=True))
    for history, best_epoch in zip(histories, best_epochs, strict=True):
        chosen = history[history.epoch == best_epoch]
        curves = ((loss, "loss", "muted"), (loss, "val_loss", "blue"), (kappa, "val_kappa", "blue"))
        for axes, column, colour in curves:
            axes.plot(history.epoch, history[column], color=colour_of(colour), linewidth=1.1)
            if colour == "blue":
                axes.plot(
                    chosen.epoch, chosen[column], "o", color=colour_of(colour), markersize=4.5
                )
    loss.set_title("training loss", loc="left", fontsize=9, color=colour_of("muted"))
    loss.set_title("validation loss", loc="right", fontsize=9, color=colour_of("blue"))
    kappa.set_title("validation kappa", loc="right", fontsize=9, color=colour_of("blue"))
    for axes in (loss, kappa):
        axes.grid(axis="y", color=colour_of("line"), linewidth=0.8)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    loss.set_ylim(bottom=0)
    kappa.set_ylim(min(-0.05, kappa.get_ylim()[0]), 1.05)
    kappa.set_yticks([0, 0.5, 1])
    kappa.set_xlim(0.5, max(len(history) for history in histories) + 0.5)
    kappa.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    kappa.set_xlabel("epoch", color=colour_of("muted"), fontsize=9)
    return figure


def plot_run_curves(runs: list) -> Figure:
    """Training loss and image-level validation kappa of many runs, a row of panels per backbone.

    Args:
        runs: finished `Run`s; their stages are told apart by colour.

    Returns:
        A figure to save; a dot marks the epoch each run chose.
    """
    columns = ["epoch", "loss", "val_kappa"]
    by_backbone: dict[str, dict[str, list]] = {}  # -> stage -> (curves, best epoch) of each run
    for run in runs:
        history = run.history
        curves = np.transpose([history[column] for column in columns])
        stages = by_backbone.setdefault(run.recipe.backbone, {})
        stages.setdefault(run.recipe.stage, []).append((curves, run.info["best_epoch"]))
    height = 1.7 * len(by_backbone) + 0.9
    figure = Figure(figsize=(5.2, height))
    figure.subplots_adjust(0.07, 0.45 / height, 0.99, 1 - 0.7 / height, wspace=0.2, hspace=0.3)
    grid = figure.subplots(len(by_backbone), 2, sharex=True, sharey="col", squeeze=False)
    for row, (backbone, stages) in zip(grid, by_backbone.items(), strict=True):
        for column, axes in enumerate(row, start=1):
            _calm_axes(axes).grid(axis="y", color=colour_of("line"), linewidth=0.8)
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
    loss.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    for axes in grid[:-1].flat:
        axes.xaxis.set_visible(False)  # or Matplotlib lays its ticks out all the same
    for axes in grid[-1]:
        axes.set_xlabel("epoch", color=colour_of("muted"), fontsize=10)
    stages = dict.fromkeys(stage for found in by_backbone.values() for stage in found)
    lines = [Line2D([], [], color=colour_of(STAGE_COLOURS[stage])) for stage in stages]
    names = [STAGE_NAMES[stage] for stage in stages]
    figure.legend(lines, names, loc="upper left", ncols=3, **LEGEND)
    return figure


def _plot_histories(axes: Axes, column: int, runs: list[tuple], colour: str) -> None:
    """A line per run and a dot at its best epoch; the more runs, the fainter the lines."""
    lines = [curves[:, [0, column]] for curves, _ in runs]
    style = {"color": colour_of(colour), "alpha": min(1, max(0.12, 4 / len(lines)))}
    axes.add_collection(LineCollection(lines, linewidths=1, **style))
    dots = [line[best - 1] for line, (_, best) in zip(lines, runs, strict=True)]
    axes.plot(*np.transpose(dots), "o", color=colour_of(colour), markersize=3, markeredgewidth=0)


def plot_system_curves(curves: dict[str, dict[str, list[tuple[pd.DataFrame, int]]]]) -> Figure:
    """Loss and accuracy of a document's systems over the epochs, laid over each other.

    Args:
        curves: what was trained on -> title of the system -> (`history.csv`, chosen epoch) of each
            of its models; up to seven systems.

    Returns:
        A figure to save: a row per training set; full lines are validation, dotted ones training,
        and a dot marks the chosen epoch.
    """
    systems = list(dict.fromkeys(title for group in curves.values() for title in group))
    colours = dict(zip(systems, SYSTEM_COLOURS, strict=False))
    height = 1.9 * len(curves) + 0.4 + 0.22 * (len(systems) + 2)
    figure = Figure(figsize=(6.4, height))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(curves), 2, sharex="row", squeeze=False)
    for row, (trained_on, group) in zip(grid, curves.items(), strict=True):
        for axes, name in zip(row, ("loss", "accuracy"), strict=True):
            _calm_axes(axes).grid(axis="y", color=colour_of("line"), linewidth=0.8)
            axes.set_title(name, loc="right", fontsize=10, color=colour_of("muted"))
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            for title, histories in group.items():
                for history, best in histories:
                    style = {"color": colour_of(colours[title]), "linewidth": 1.2}
                    axes.plot(history.epoch, history[name], ":", **style)
                    axes.plot(history.epoch, history[f"val_{name}"], **style)
                    chosen = history[history.epoch == best]
                    axes.plot(chosen.epoch, chosen[f"val_{name}"], "o", markersize=4, **style)
        row[0].set_title(trained_on, loc="left", fontsize=10, color=colour_of("ink"))
        row[0].set_ylim(bottom=0)
        row[1].set_ylim(top=1.02)
    for axes in grid[-1]:
        axes.set_xlabel("epoch", color=colour_of("muted"), fontsize=10)
    lines = [Line2D([], [], color=colour_of(colour)) for colour in colours.values()]
    lines += [Line2D([], [], color=colour_of("muted"), linestyle=style) for style in ("-", ":")]
    names = [*colours, "validation", "training"]
    figure.legend(lines, names, loc="outside upper left", ncols=2, **LEGEND)
    return figure


def plot_parameters(overall: pd.DataFrame) -> Figure:
    """Overall kappa with its interval against the number of parameters.

    Args:
        overall: a row per system: `backbone, stage, repeat, kappa, kappa_low, kappa_high,
            published_kappa`; a published value is a hollow dot.

    Returns:
        A figure to save.
    """
    figure = Figure(figsize=(5.2, 3.6))
    figure.set_layout_engine("constrained")
    axes = _calm_axes(figure.add_subplot())
    before: Counter[str] = Counter()
    for colour, (_, row) in zip(SYSTEM_COLOURS, overall.iterrows(), strict=False):
        colour = colour_of(colour)
        # systems of one backbone stand side by side
        millions = BACKBONES[row.backbone].parameters / 1e6 * 1.04 ** before[row.backbone]
        before[row.backbone] += 1
        axes.vlines(millions, row.kappa_low, row.kappa_high, color=colour, alpha=0.55)
        axes.plot(millions, row.kappa, "o", color=colour, label=system_name(row))
        axes.plot(millions, row.published_kappa, "o", color=colour, markerfacecolor="none")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.1)
    axes.grid(color=colour_of("line"), linewidth=0.8)
    axes.set_xlabel("parameters, millions", color=colour_of("muted"), fontsize=10)
    axes.set_ylabel("overall kappa", color=colour_of("muted"), fontsize=10)
    figure.legend(loc="outside upper left", ncols=2, **LEGEND)
    return figure


def plot_reliability(studies: pd.DataFrame, bins: int = 10) -> Figure:
    """The share of abnormal studies against their mean probability, in bins of equal count.

    Args:
        studies: table of `study_probabilities`; repeats of a system are pooled.
        bins: how many; a system with fewer distinct probabilities has fewer.

    Returns:
        A figure to save; on the diagonal a probability means what it says.
    """
    figure = Figure(figsize=(5.2, 5.2))
    figure.set_layout_engine("constrained")
    axes = _calm_axes(figure.add_subplot())
    axes.plot([0, 1], [0, 1], color=colour_of("muted"), linewidth=0.8)
    systems = studies.assign(repeat=0).groupby(SYSTEM_KEY, sort=False)
    for colour, (_, rows) in zip(SYSTEM_COLOURS, systems, strict=False):
        share, mean = calibration_curve(
            rows.label, rows.probability, n_bins=bins, strategy="quantile"
        )
        style = {"color": colour_of(colour), "linewidth": 1.2, "markersize": 4}
        axes.plot(mean, share, "o-", label=system_name(rows.iloc[0]), **style)
    axes.set_aspect("equal")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(color=colour_of("line"), linewidth=0.8)
    axes.set_xlabel("mean probability", color=colour_of("muted"), fontsize=10)
    axes.set_ylabel("share abnormal", color=colour_of("muted"), fontsize=10)
    figure.legend(loc="outside upper left", ncols=2, **LEGEND)
    return figure


def system_name(row) -> str:
    """What a system is called in titles and legends.

    Args:
        row: `backbone, stage, repeat`; or `system`, the name itself.
    """
    if "system" in row:
        return row.system
    name = f"{row.backbone}, {STAGE_NAMES.get(row.stage, row.stage)}"
    return f"{name}, repeat {row['repeat']}" if row["repeat"] else name


def colour_of(name: str) -> str:
    """The colour of that name on white."""
    return COLOURS[name][0]


def _calm_axes(axes: Axes) -> Axes:
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=colour_of("muted"), labelsize=10)
    axes.set_axisbelow(True)
    return axes
