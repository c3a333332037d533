"""The axes on which all plots are drawn, and what their colours mean."""

from collections.abc import Sequence
from itertools import chain
from textwrap import wrap
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mura_tf.reports.colours import COLOURS

SYSTEM_COLOURS = ("blue", "orange", "green", "purple", "gold", "sky", "slate")
LABEL_COLOURS = {None: "blue", 0: "blue", 1: "orange"}
"""Of classes, by the label that they stand for."""
_LINE = 4
"""How many letters of a legend a line, and the room around it, take."""
STAGE_COLOURS = {"imagenet": "orange", "mura": "ink", "type": "blue"}


def panel_grid(titles: list[str]) -> tuple[Figure, list[Axes]]:
    """A figure of small panels, at most four in a row, that share their axes."""
    rows = -(-len(titles) // 4)
    columns = -(-len(titles) // rows)
    figure = Figure(figsize=(0.4 + 1.9 * columns, 0.4 + 2.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes, title in zip(panels, titles, strict=False):
        calm_axes(axes, grid="both")
        shown = "\n".join(wrap(title, 24))
        axes.set_title(shown, loc="left", fontsize=10, color=colour_of("ink"), parse_math=False)
    for axes in panels[len(titles) :]:
        axes.remove()
    for axes in panels[len(titles) - columns : len(titles)]:
        axes.tick_params(labelbottom=True)
    return figure, panels[: len(titles)]


def draw_legend(
    figure: Figure,
    handles: Sequence[Artist] | None = None,
    names: Sequence[str] | None = None,
    *,
    columns: int = 2,
    fontsize: int = 10,
    loc: Literal["outside upper left", "upper left"] = "outside upper left",
) -> None:
    """A legend in as many columns as the figure has room for; a name that is too long is wrapped.

    Args:
        handles, names: of what is shown; by default all that the axes have names for.
        columns: at most.
        fontsize: points.
        loc: of `Figure.legend`. Names may have dollar signs, which are no mathematics.
    """
    if handles is None or names is None:
        found = [axes.get_legend_handles_labels() for axes in figure.axes]
        handles, names = (list(chain(*parts)) for parts in zip(*found, strict=True))
    columns = min(columns, len(names))
    letters = int(figure.get_figwidth() * 72 / (0.55 * fontsize))
    while columns > 1 and letters < sum(
        _LINE + max(map(len, part), default=0) for part in np.array_split(names, columns)
    ):
        columns -= 1
    width = max(1, letters // columns - _LINE)
    wrapped = ["\n".join(wrap(name, width, break_on_hyphens=False)) for name in names]
    legend = figure.legend(
        handles,
        wrapped,
        loc=loc,
        ncols=columns,
        fontsize=fontsize,
        frameon=False,
        labelcolor=colour_of("ink"),
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def colour_of(name: str) -> str:
    """The colour of that name on white."""
    return COLOURS[name][0]


def calm_axes(axes: Axes, grid: Literal["x", "y", "both"] | None = None) -> Axes:
    """Has no frame, grey labels, and faint lines at the ticks of the axes of `grid`."""
    axes.set_facecolor(colour_of("paper"))
    axes.figure.set_facecolor(colour_of("paper"))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=colour_of("muted"), labelsize=10)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=colour_of("muted"), fontsize=10)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=colour_of("line"), linewidth=0.8)
    return axes
