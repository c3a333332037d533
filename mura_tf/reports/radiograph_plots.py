"""Figures of radiographs side by side, each with what is said of it."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from mura_tf.data.radiograph import BadRadiographError, fitted, read_radiograph
from mura_tf.reports.style import colour_of

SIDE = 240
"""Pixels of a radiograph's longer side."""


class Picture(NamedTuple):
    """A radiograph to show.

    Attributes:
        path: of its file.
        caption: lines below it.
        colour: of the caption, a key of `style.COLOURS`.
    """

    path: str
    caption: str
    colour: str = "ink"


def plot_radiographs(pictures: Sequence[Picture], columns: int) -> Figure | None:
    """The radiographs that can be read, row by row; None where none can.

    Returns:
        A figure to save: `plot_radiographs(...).savefig("wall.png", dpi=100)`.
    """
    shown = []
    for picture in pictures:
        try:
            shown.append((picture, fitted(read_radiograph(picture.path), SIDE)))
        except (BadRadiographError, OSError):  # the report is about others as well
            continue
    if not shown:
        return None
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    lines = max(picture.caption.count("\n") for picture, _ in shown) + 1
    figure = Figure(figsize=(1.9 * columns, (1.95 + 0.16 * lines) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
        axes.set_anchor("S")  # so that the captions of a row are at one height
    for axes, (picture, image) in zip(grid.flat, shown, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.annotate(
            picture.caption,
            (0.5, 0),
            (0, -4),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8,
            color=colour_of(picture.colour),
            parse_math=False,
        )
    return figure
