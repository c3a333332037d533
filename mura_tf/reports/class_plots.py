"""Figures of a task with classes: the confusion matrix and the ROC curves."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mura_tf.data.tasks import type_and_label
from mura_tf.evaluation.classes import MACRO, MICRO, ClassScores
from mura_tf.reports.style import LABEL_COLOURS, calm_axes, colour_of, panel_grid


def plot_confusion(confusion: pd.DataFrame) -> Figure:
    """How many views of each class were taken for which, and which share of the class that is.

    Args:
        confusion: int (K, K), of `ClassScores`; a cell is the darker, the larger its row's share.

    Returns:
        A figure to save; K up to 14 can be read on a page.
    """
    names, counts = list(confusion), confusion.to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.9 + 0.5 * len(names) + 0.08 * max(0, max(map(len, names)) - 20)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = calm_axes(figure.add_subplot())
    for (row, column), count in np.ndenumerate(counts):
        if not count:
            continue
        share = shares[row, column]
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, color=colour_of("blue"), alpha=share, linewidth=0))
        text = partial(axes.text, ha="center", color=colour_of("paper" if share > 0.8 else "ink"))
        text(column, row, f"{count:,}", va="bottom", fontsize=9)
        text(column, row + 0.06, f"{share:.0%}", va="top", fontsize=7)
    for edge in np.arange(len(names) + 1) - 0.5:
        axes.axhline(edge, color=colour_of("line"), linewidth=0.6)
        axes.axvline(edge, color=colour_of("line"), linewidth=0.6)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(labelcolor=colour_of("ink"))
    axes.set_xlabel("decision")
    axes.set_ylabel("class")
    return figure


def plot_roc(scores: ClassScores) -> Figure:
    """One-against-rest ROC curves with their AUROC: a panel per study type, one of the averages.

    Args:
        scores: of `score_classes`; a class without a curve has no line.

    Returns:
        A figure to save; in grey, the macro average.
    """
    by_type: dict[str, list[tuple[str, str, str]]] = {}  # -> (curve, colour, text) of each line
    for name in scores.classes:
        study_type, label = type_and_label(name)
        word = name.removesuffix(study_type)
        by_type.setdefault(study_type, []).append((name, LABEL_COLOURS[label], word))
    averages = [(MICRO, "ink", "micro "), (MACRO, "green", "macro ")]
    figure, panels = panel_grid([*by_type, "averages"])
    for lines, axes in zip([*by_type.values(), averages], panels, strict=True):
        axes.plot(*scores.curves[MACRO].T, color=colour_of("muted"), linewidth=0.8)
        for height, (name, colour, word) in enumerate(reversed(lines)):
            axes.plot(*scores.curves[name].T, color=colour_of(colour), linewidth=1.4)
            text = f"{word}{scores.table.auroc[name]:.3f}".replace("nan", "\u2013")
            place = 0.99, 0.04 + 0.14 * height
            axes.text(*place, text, ha="right", fontsize=10, color=colour_of(colour))
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    figure.supxlabel("false positive rate", color=colour_of("muted"), fontsize=10)
    figure.supylabel("true positive rate", color=colour_of("muted"), fontsize=10)
    return figure
