"""Figures of scores, of learning curves and of a data set."""

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter
from sklearn.calibration import calibration_curve

from mura_tf.backbones import BACKBONES
from mura_tf.classes import MACRO, MICRO, ClassScores
from mura_tf.evaluate import SYSTEM_KEY
from mura_tf.layouts import OVERALL
from mura_tf.tasks import type_and_label

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
LEGEND_LETTERS = 75
"""That fit beside each other in the two columns of `plot_system_curves`' legend."""
SYSTEM_COLOURS = ("blue", "orange", "green", "purple", "gold", "sky", "slate")
STAGE_NAMES = {
    "imagenet": "trained directly",
    "mura": "whole-data model",
    "type": "fine-tuned per study type",
}
LABEL_COLOURS = {None: "blue", 0: "blue", 1: "orange"}
"""Of classes, by the label that they stand for."""
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
    figure = Figure(
        figsize=(4.4, 0.55 + 0.2 * len(systems) + row_height * len(place)), layout="constrained"
    )
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
    half = (len(names) + 1) // 2
    beside = max(map(len, names[:half])) + max(map(len, names[half:]))  # letters in two columns
    columns = 2 if beside <= LEGEND_LETTERS else 1
    figure.legend(lines, names, loc="outside upper left", ncols=columns, **LEGEND)
    return figure


def plot_parameters(overall: pd.DataFrame) -> Figure:
    """Overall kappa with its interval against the number of parameters.

    Args:
        overall: a row per system: `backbone, stage, repeat, kappa, kappa_low, kappa_high,
            published_kappa`; a published value is a hollow dot.

    Returns:
        A figure to save.
    """
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
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
    figure = Figure(figsize=(5.2, 5.2), layout="constrained")
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


def plot_confusion(confusion: pd.DataFrame) -> Figure:
    """How many views of each class were taken for which, and which share of the class that is.

    Args:
        confusion: int (K, K), of `ClassScores`; a cell is the darker, the larger its row's share.

    Returns:
        A figure to save; K up to 14 can be read on a page.
    """
    names, counts = list(confusion), confusion.to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(1.9 + 0.5 * len(names), 1.9 + 0.5 * len(names)), layout="constrained")
    axes = _calm_axes(figure.add_subplot())
    for (row, column), count in np.ndenumerate(counts):
        if not count:
            continue
        share = shares[row, column]
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, color=colour_of("blue"), alpha=share, linewidth=0))
        style = {"ha": "center", "color": colour_of("paper" if share > 0.8 else "ink")}
        axes.text(column, row, f"{count:,}", va="bottom", fontsize=9, **style)
        axes.text(column, row + 0.06, f"{share:.0%}", va="top", fontsize=7, **style)
    for edge in np.arange(len(names) + 1) - 0.5:
        axes.axhline(edge, color=colour_of("line"), linewidth=0.6)
        axes.axvline(edge, color=colour_of("line"), linewidth=0.6)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(labelcolor=colour_of("ink"))
    axes.set_xlabel("decision", color=colour_of("muted"), fontsize=10)
    axes.set_ylabel("class", color=colour_of("muted"), fontsize=10)
    return figure


def plot_roc(scores: ClassScores) -> Figure:
    """One-against-rest ROC curves with their AUROC: a panel per study type, one of the averages.

    Args:
        scores: of `score_classes`; a class without a curve has no line.

    Returns:
        A figure to save; in grey, the macro average.
    """
    by_type: dict[str, list[tuple]] = {}  # -> (curve, colour, text) of each line
    for name in scores.classes:
        study_type, label = type_and_label(name)
        word = name.removesuffix(study_type)
        by_type.setdefault(study_type, []).append((name, LABEL_COLOURS[label], word))
    averages = [(MICRO, "ink", "micro "), (MACRO, "green", "macro ")]
    figure, panels = _panels([*by_type, "averages"])
    for lines, axes in zip([*by_type.values(), averages], panels, strict=True):
        axes.plot(*scores.curves[MACRO].T, color=colour_of("muted"), linewidth=0.8)
        for height, (name, colour, word) in enumerate(reversed(lines)):
            axes.plot(*scores.curves[name].T, color=colour_of(colour), linewidth=1.4)
            text = f"{word}{scores.table.auroc[name]:.3f}".replace("nan", "\u2013")
            style = {"ha": "right", "fontsize": 10, "color": colour_of(colour)}
            axes.text(0.99, 0.04 + 0.14 * height, text, **style)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    figure.supxlabel("false positive rate", color=colour_of("muted"), fontsize=10)
    figure.supylabel("true positive rate", color=colour_of("muted"), fontsize=10)
    return figure


def plot_learning_rates(histories: list[pd.DataFrame]) -> Figure:
    """The learning rate in each epoch, a line per run.

    Args:
        histories: the `history.csv` of each run: epoch (from 1), learning_rate.

    Returns:
        A figure to save.
    """
    figure = Figure(figsize=(5.2, 2.4), layout="constrained")
    axes = _calm_axes(figure.add_subplot())
    for history in histories:
        style = {"color": colour_of("blue"), "linewidth": 1.4, "alpha": 0.7}
        axes.step(history.epoch, history.learning_rate, where="mid", **style)
    rates = np.concatenate([history.learning_rate for history in histories])
    axes.set_yscale("log")
    axes.set_ylim(rates.min() / 3, rates.max() * 3)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.5, max(len(history) for history in histories) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=colour_of("line"), linewidth=0.8)
    axes.set_xlabel("epoch", color=colour_of("muted"), fontsize=10)
    axes.set_ylabel("learning rate", color=colour_of("muted"), fontsize=10)
    return figure


def plot_distribution(counts: pd.DataFrame) -> Figure:
    """Which share of each split's views a class, a study type and a label have, as bars.

    Args:
        counts: int, views; a row per class, by name, and a column per split.

    Returns:
        A figure to save.
    """
    types, labels = zip(*map(type_and_label, counts.index), strict=True)
    words = pd.Series(labels, counts.index).map({0: "normal", 1: "abnormal"})
    groups = [counts, counts.groupby(list(types)).sum(), counts.groupby(words, sort=False).sum()]
    rows = sum(map(len, groups))
    figure = Figure(figsize=(5.2, 1.0 + 0.32 * rows), layout="constrained")
    heights = [len(group) for group in groups]
    panels = figure.subplots(3, sharex=True, height_ratios=heights)
    for group, axes in zip(groups, panels, strict=True):
        shares = group / counts.sum()
        thick = 0.8 / len(counts.columns)
        for number, (colour, split) in enumerate(zip(SYSTEM_COLOURS, counts, strict=False)):
            y = np.arange(len(group)) - 0.4 + (number + 0.5) * thick
            axes.barh(y, shares[split], 0.85 * thick, color=colour_of(colour), label=split)
        _calm_axes(axes).set_ylim(len(group) - 0.5, -0.5)
        axes.set_yticks(range(len(group)), list(group.index), parse_math=False)
        axes.tick_params(axis="y", labelcolor=colour_of("ink"))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="x", color=colour_of("line"), linewidth=0.8)
    panels[-1].set_xlabel("share of the split's views", color=colour_of("muted"), fontsize=10)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper left", ncols=len(counts.columns), **LEGEND)
    return figure


def plot_intensities(pixels: pd.DataFrame, histograms: pd.DataFrame) -> Figure:
    """How the grey levels of each class are distributed: a panel per study type.

    Args:
        pixels: a row per class, by name: `mean, std` of the grey levels.
        histograms: float, a row per class, by name, and a column per grey level: its share.

    Returns:
        A figure to save; numbers are mean (standard deviation), NaN where a class has no image.
    """
    by_type: dict[str, list[str]] = {}
    for name in pixels.index:
        by_type.setdefault(type_and_label(name)[0], []).append(name)
    figure, panels = _panels(list(by_type))
    edges = np.arange(0, 257, 4)
    for names, axes in zip(by_type.values(), panels, strict=True):
        for height, name in enumerate(names):
            colour = colour_of(LABEL_COLOURS[type_and_label(name)[1]])
            shares = np.add.reduceat(histograms.loc[name].to_numpy(), edges[:-1])
            axes.stairs(shares, edges, color=colour, linewidth=1.2)
            word = name.removesuffix(type_and_label(name)[0])
            text = f"{word}{pixels['mean'][name]:.0f} ({pixels['std'][name]:.0f})"
            style = {"ha": "right", "va": "top", "fontsize": 10, "color": colour}
            place = (0.99, 0.98 - 0.13 * height)
            axes.text(*place, text.replace("nan", "\u2013"), transform=axes.transAxes, **style)
        axes.set_xlim(0, 256)
        axes.set_xticks([0, 128, 255])
        axes.set_yscale("log")
        axes.set_ylim(1e-4, 2)
        axes.yaxis.set_minor_locator(NullLocator())
    figure.supxlabel("grey level", color=colour_of("muted"), fontsize=10)
    figure.supylabel("share of the pixels", color=colour_of("muted"), fontsize=10)
    return figure


def plot_elbows(curves: dict[tuple[str, int], np.ndarray], share: float) -> Figure:
    """The share of the variance against the number of components, a panel per images per class.

    Args:
        curves: (method, images per class) -> float (components,), the cumulative share.
        share: of the variance that is asked for, a line; a dot marks where a curve reaches it.

    Returns:
        A figure to save.
    """
    methods, sizes = (list(dict.fromkeys(part)) for part in zip(*curves, strict=True))
    figure = Figure(figsize=(2.9 * len(sizes), 3.0), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for size, axes in zip(sizes, panels, strict=True):
        _calm_axes(axes).axhline(share, color=colour_of("muted"), linewidth=0.8)
        for colour, method in zip(SYSTEM_COLOURS, methods, strict=False):
            curve = curves.get((method, size), np.empty(0))
            numbers = np.arange(1, len(curve) + 1)
            style = {"color": colour_of(colour), "linewidth": 1.4}
            axes.plot(numbers, curve, label=method, **style)
            reached = np.flatnonzero(curve >= share)[:1]
            axes.plot(numbers[reached], curve[reached], "o", color=colour_of(colour), markersize=5)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(color=colour_of("line"), linewidth=0.8)
        axes.set_title(f"{size:,} per class", loc="left", fontsize=10, color=colour_of("ink"))
    figure.supxlabel("components", color=colour_of("muted"), fontsize=10)
    panels[0].set_ylabel("share of the variance", color=colour_of("muted"), fontsize=10)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper left", ncols=len(methods), **LEGEND)
    return figure


def _panels(titles: list[str]) -> tuple[Figure, list[Axes]]:
    """A figure of small panels, at most four in a row, that share their axes."""
    rows = -(-len(titles) // 4)
    columns = -(-len(titles) // rows)
    figure = Figure(figsize=(0.4 + 1.9 * columns, 0.4 + 2.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes, title in zip(panels, titles, strict=False):
        _calm_axes(axes).grid(color=colour_of("line"), linewidth=0.8)
        axes.set_title(title, loc="left", fontsize=10, color=colour_of("ink"), parse_math=False)
    for axes in panels[len(titles) :]:
        axes.remove()
    for axes in panels[len(titles) - columns : len(titles)]:
        axes.tick_params(labelbottom=True)
    return figure, panels[: len(titles)]


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
