"""The axes on which all plots are drawn, and what their colours mean."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mura_tf.reports.colours import COLOURS

LEGEND = {"frameon": False, "labelcolor": COLOURS["ink"][0], "fontsize": 10}
SYSTEM_COLOURS = ("blue", "orange", "green", "purple", "gold", "sky", "slate")
LABEL_COLOURS = {None: "blue", 0: "blue", 1: "orange"}
"""Of classes, by the label that they stand for."""
STAGE_COLOURS = {"imagenet": "orange", "mura": "ink", "type": "blue"}


def panel_grid(titles: list[str]) -> tuple[Figure, list[Axes]]:
    """A figure of small panels, at most four in a row, that share their axes."""
    rows = -(-len(titles) // 4)
    columns = -(-len(titles) // rows)
    figure = Figure(figsize=(0.4 + 1.9 * columns, 0.4 + 2.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes, title in zip(panels, titles, strict=False):
        calm_axes(axes).grid(color=colour_of("line"), linewidth=0.8)
        axes.set_title(title, loc="left", fontsize=10, color=colour_of("ink"), parse_math=False)
    for axes in panels[len(titles) :]:
        axes.remove()
    for axes in panels[len(titles) - columns : len(titles)]:
        axes.tick_params(labelbottom=True)
    return figure, panels[: len(titles)]


def draw_legend(figure: Figure, *handles: object, **settings: object) -> None:
    """Outside the axes, upper left; names may have dollar signs, which are no mathematics.

    Args:
        handles, settings: of `Figure.legend`.
    """
    legend = figure.legend(*handles, **LEGEND | {"loc": "outside upper left"} | settings)
    for text in legend.get_texts():
        text.set_parse_math(False)


def colour_of(name: str) -> str:
    """The colour of that name on white."""
    return COLOURS[name][0]


def calm_axes(axes: Axes) -> Axes:
    axes.set_facecolor(colour_of("paper"))
    axes.figure.set_facecolor(colour_of("paper"))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=colour_of("muted"), labelsize=10)
    axes.set_axisbelow(True)
    return axes
