"""Colours, and the axes on which all plots are drawn."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def colour_of(name: str) -> str:
    """The colour of that name on white."""
    return COLOURS[name][0]


def calm_axes(axes: Axes) -> Axes:
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=colour_of("muted"), labelsize=10)
    axes.set_axisbelow(True)
    return axes
