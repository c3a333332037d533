"""Figures of a data set: its classes, its grey levels and its principal components."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from mura_tf.data.study import SHARE
from mura_tf.data.tasks import type_and_label
from mura_tf.reports.style import (
    LABEL_COLOURS,
    SYSTEM_COLOURS,
    calm_axes,
    colour_of,
    draw_legend,
    panel_grid,
)


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
        calm_axes(axes, grid="x").set_ylim(len(group) - 0.5, -0.5)
        axes.set_yticks(range(len(group)), list(group.index), parse_math=False)
        axes.tick_params(axis="y", labelcolor=colour_of("ink"))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panels[-1].set_xlabel("share of the split's views")
    handles = panels[0].get_legend_handles_labels()
    draw_legend(figure, *handles, columns=len(counts.columns))
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
    figure, panels = panel_grid(list(by_type))
    edges = np.arange(0, 257, 4)
    for names, axes in zip(by_type.values(), panels, strict=True):
        for height, name in enumerate(names):
            colour = colour_of(LABEL_COLOURS[type_and_label(name)[1]])
            shares = np.add.reduceat(histograms.loc[name].to_numpy(), edges[:-1])
            axes.stairs(shares, edges, color=colour, linewidth=1.2)
            word = name.removesuffix(type_and_label(name)[0])
            text = f"{word}{pixels['mean'][name]:.0f} ({pixels['std'][name]:.0f})"
            axes.text(
                0.99,
                0.98 - 0.13 * height,
                text.replace("nan", "\u2013"),
                transform=axes.transAxes,
                ha="right",
                va="top",
                fontsize=10,
                color=colour,
            )
        axes.set_xlim(0, 256)
        axes.set_xticks([0, 128, 255])
        axes.set_yscale("log")
        axes.set_ylim(1e-4, 2)
        axes.yaxis.set_minor_locator(NullLocator())
    figure.supxlabel("grey level", color=colour_of("muted"), fontsize=10)
    figure.supylabel("share of the pixels", color=colour_of("muted"), fontsize=10)
    return figure


def plot_elbows(curves: dict[tuple[str, int], np.ndarray]) -> Figure:
    """The share of the variance against the number of components, a panel per images per class.

    Args:
        curves: (method, images per class) -> float (components,), the cumulative share.

    Returns:
        A figure to save; a line at the share that is asked for, a dot where a curve reaches it.
    """
    methods, sizes = (list(dict.fromkeys(part)) for part in zip(*curves, strict=True))
    figure = Figure(figsize=(2.9 * len(sizes), 3.0), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for size, axes in zip(sizes, panels, strict=True):
        calm_axes(axes, grid="both").axhline(SHARE, color=colour_of("muted"), linewidth=0.8)
        for colour, method in zip(SYSTEM_COLOURS, methods, strict=False):
            curve = curves.get((method, size), np.empty(0))
            numbers = np.arange(1, len(curve) + 1)
            style = {"color": colour_of(colour), "linewidth": 1.4}
            axes.plot(numbers, curve, label=method, **style)
            reached = np.flatnonzero(curve >= SHARE)[:1]
            axes.plot(numbers[reached], curve[reached], "o", color=colour_of(colour), markersize=5)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_title(f"{size:,} per class", loc="left", fontsize=10, color=colour_of("ink"))
    figure.supxlabel("components", color=colour_of("muted"), fontsize=10)
    panels[0].set_ylabel("share of the variance")
    handles = panels[0].get_legend_handles_labels()
    draw_legend(figure, *handles, columns=len(methods))
    return figure
