"""Studies as pictures: every view's radiograph and heatmap, as a figure and on an HTML page."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import wrap

import cv2
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from mura_tf.data.boxes import known_boxes
from mura_tf.data.radiograph import read_radiograph
from mura_tf.data.table import STUDY_KEY, VIEW_KEY
from mura_tf.evaluation.metrics import THRESHOLD
from mura_tf.evaluation.scores import view_probabilities
from mura_tf.explain.ensemble import ORDERS, Ensemble
from mura_tf.files import written_whole
from mura_tf.reports.experiment_page import protocol
from mura_tf.reports.overlay import SHOWN, plain_and_overlaid
from mura_tf.reports.page import WARNING, escaped, inline_jpeg, write_page
from mura_tf.reports.picture_names import PictureNames
from mura_tf.reports.style import colour_of
from mura_tf.terminal import track

VIEW_SIDE = 448
VIEWS_PER_ROW = 4
COLUMN = 2.6
"""Inches of a figure's column."""
TALLEST = 3
"""Times its width is as high as a picture in a figure gets; a strip is drawn smaller."""
BOX_COLOUR = (92, 184, 236)
"""RGB; the blue of `COLOURS` on black."""


def explain_studies(
    ensemble: Ensemble,
    studies: list[pd.DataFrame],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    method: str = "cam",
    *,
    layer: str | None = None,
    order: str | None = None,
    progress: bool = False,
) -> list[Path]:
    """Writes a PNG per study and `index.html` into `out`.

    Args:
        ensemble: whose maps are shown.
        studies: of `Ensemble.study` or `Ensemble.top`.
        data: the data set; its lesion boxes are drawn if it has any.
        out: the folder.
        method, layer: see `explain.heatmaps`.
        order: the key of `ORDERS` that `studies` follow, for the page's title.
        progress: whether to show progress bars.

    Returns:
        The paths of what was written, the page last.

    Raises:
        ValueError: no study.
    """
    if not studies:
        raise ValueError(
            f"no study to show: nothing of the {ensemble.split} split is among "
            f"{ORDERS.get(order or '', 'those asked for')}. Use another order, or name a study."
        )
    out = Path(out)
    views = pd.concat(studies, ignore_index=True)
    models = {len(ensemble.members(study_type)) for study_type in views.study_type}
    boxes = known_boxes(data, views, ensemble.data_views)
    heat = iter(ensemble.heatmaps(views, method, layer, progress=progress))
    shown = [(study, np.stack([next(heat) for _ in range(len(study))])) for study in studies]
    paths, names = [], PictureNames()
    whose = f"{ensemble.name}, {method}" + " of the predicted class" * (ensemble.of == "predicted")
    for study, maps in track(shown, "Drawing", shown=progress):
        paths.append(out / f"{names('-'.join(study.iloc[0][STUDY_KEY]))}.png")
        with written_whole(paths[-1]) as part:
            plot_study(study, maps, boxes, title=whose).savefig(part, dpi=150)
    title = ORDERS[order].capitalize() if order else f"{len(studies)} studies"
    if len(studies) == 1:
        title = "/".join(studies[0].iloc[0][STUDY_KEY])
    lead = (
        f"{whose}. Models of a view: {' or '.join(map(str, sorted(models)))}. Studies shown, which "
        f"none of them saw in training: {len(studies)}. " + protocol(ensemble.split, ensemble.runs)
    )
    return [*paths, write_study_page(out / "index.html", title, lead, shown, boxes)]


def plot_study(
    views: pd.DataFrame, heat: np.ndarray, boxes: pd.DataFrame | None = None, title: str = ""
) -> Figure:
    """All views of a study, each radiograph above its heatmap; beside it, where there is one view.

    Args:
        views: the study's rows of `Ensemble.views`, or of a predictions table; of a label that is
            not known, or neither 0 nor 1, nothing is said.
        heat: float (n_views, S, S), in [0, 1], of `Ensemble.heatmaps`.
        boxes: of `load_boxes`; drawn where there are any.
        title: a line above the study's.

    Returns:
        A figure to save.

    Raises:
        ValueError: views without probabilities, or of several systems; heat of other views.

    Examples:
        >>> ensemble = mt.Ensemble(Path("demo/small_cnn/type/wrist").iterdir(), "demo/MURA-v1.1")
        >>> study = ensemble.top("confident", 1)[0]
        >>> figure = mt.plot_study(study, ensemble.heatmaps(study))
        >>> figure.savefig("demo/study.png", dpi=150)
    """
    if "probability" not in views:
        raise ValueError(
            "views must say the probability of each view. Received a table without. Give rows of "
            "mura_tf.predict_views, or of Ensemble.views."
        )
    if "probability_study" not in views:
        views = view_probabilities(views)
    if heat.ndim != 3 or len(heat) != len(views):
        raise ValueError(
            f"heat must have a map per view, ({len(views)}, S, S). Received: {heat.shape}."
        )
    pairs = list(_pictures(views, heat, boxes))
    columns = min(len(pairs), VIEWS_PER_ROW)
    chunks = [pairs[start : start + columns] for start in range(0, len(pairs), columns)]
    rows = [list(row) for chunk in chunks for row in zip(*chunk, strict=True)]
    if len(pairs) == 1:
        rows, columns = [pairs[0]], 2
    ratios = [max(one.shape[0] / one.shape[1] for one in row) for row in rows]
    inches = [COLUMN * min(ratio, TALLEST) for ratio in ratios]
    figure = Figure(figsize=(max(6.2, COLUMN * columns + 0.9), sum(inches) + 1.5))
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03)
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=inches)
    for axes in grid.flat:
        axes.axis("off")
        axes.set_anchor("N")
    for line, row in zip(grid, rows, strict=True):
        for axes, picture in zip(line, row, strict=False):
            axes.imshow(picture)
    for index, (_, view) in enumerate(views.iterrows()):
        turn, column = divmod(index, columns)
        grid[2 * turn, column].set_title(
            _wrapped([view["view"], *_told(view)], COLUMN, 9), fontsize=9, parse_math=False
        )
    study = views.iloc[0]
    lines = [title, "/".join(study[STUDY_KEY]), _verdict(study)]
    width = float(figure.get_figwidth())
    figure.suptitle(_wrapped(lines, width, 10), fontsize=10, x=0.01, ha="left", parse_math=False)
    bar = figure.colorbar(
        ScalarMappable(cmap=ListedColormap(SHOWN / 255)),
        ax=grid,
        shrink=0.6,
        aspect=30,
        pad=0.02,
        panchor=False,  # or it would centre the views again
    )
    said = _wrapped(["heat; 1 where every model is hottest"], max(sum(inches), 1.1), 9)
    bar.set_label(said, fontsize=9)
    bar.ax.tick_params(labelsize=9)
    bar.outline.set_visible(False)
    figure.supxlabel(
        "The colours tell where, not how abnormal. Not a medical device: research software.",
        fontsize=8,
        color=colour_of("muted"),
    )
    return figure


def write_study_page(
    path: str | os.PathLike[str],
    title: str,
    lead: str,
    studies: Iterable[tuple[pd.DataFrame, np.ndarray]],
    boxes: pd.DataFrame | None = None,
) -> Path:
    """Writes one HTML page of studies that needs no other file.

    Args:
        path: the `.html` file.
        title: what the studies have in common.
        lead: a sentence on whose they are.
        studies: (views, heat) of each, see `plot_study`.
        boxes: see `plot_study`.
    """
    header = f"""<header>
<p class="kind">mura_tf heatmaps</p>
<h1>{escaped(title)}</h1>
<p class="lead">{escaped(lead)}</p>
{WARNING}
<p class="note">Each radiograph, and beside it the same with its heatmap: the mean of the models'
maps, each relative to its own hottest place. The colours tell where, not how abnormal; that is the
probability. A map of CAM or Grad-CAM without colour says that nowhere speaks for abnormality, or
for the predicted class where that is what is explained.
{_BOX_NOTE if boxes is not None and len(boxes) else ""}</p>
{_COLOUR_BAR}
</header>"""
    sections = [_study_section(views, heat, boxes) for views, heat in studies]
    return write_page(path, f"mura_tf: {title}", [header, *sections])


_BOX_NOTE = '<span class="box">Blue frames</span> are the lesions that the data set marks.'
_STOPS = ", ".join("rgb({}, {}, {})".format(*SHOWN[level]) for level in range(0, 256, 51))
_COLOUR_BAR = (
    f'<div class="heat"><span>0</span><i style="background: linear-gradient(90deg, {_STOPS})"></i>'
    "<span>1</span></div>"
)


def _study_section(views: pd.DataFrame, heat: np.ndarray, boxes: pd.DataFrame | None) -> str:
    study = views.iloc[0]
    mark, word = {True: ("✓", "right"), False: ("✗", "wrong"), None: ("", "")}[_right(study)]
    figures = "".join(
        f'<figure><img alt="radiograph {escaped(view["view"])}" src="{inline_jpeg(plain)}">'
        f'<img alt="heatmap of {escaped(view["view"])}" src="{inline_jpeg(hot)}">'
        f"<figcaption>{escaped(view['view'])} <span>{escaped('; '.join(_told(view)))}</span>"
        "</figcaption></figure>"
        for (_, view), (plain, hot) in zip(
            views.iterrows(), _pictures(views, heat, boxes), strict=True
        )
    )
    return f"""<section class="study {word}">
<h2>{escaped("/".join(study[STUDY_KEY]))}</h2>
<p><span class="verdict">{mark} {word}</span> {escaped(_verdict(study))}</p>
<div class="pairs">{figures}</div></section>"""


def _wrapped(lines: Iterable[str], inches: float, points: int) -> str:
    """The lines, broken where letters and digits of that size would not fit."""
    letters = int(inches * 72 / (0.66 * points))
    return "\n".join(part for line in lines for part in wrap(line, letters, break_on_hyphens=False))


def _told(view: pd.Series) -> list[str]:
    """What is said of a view: its probability, what it counts, and what it is taken for."""
    lines = [f"probability {view.probability:.2f}"]
    if "counts" in view:
        lines.append(f"counts {view.counts:.0%}")
    if "decided" in view:
        taken = f"taken for {view.decided} ({view.share:.2f})"
        if not pd.isna(view.true_class):
            right = view.decided == view.true_class
            taken += ", rightly" if right else f", and is {view.true_class}"
        lines.append(taken)
    return lines


def _verdict(study: pd.Series) -> str:
    """The study's probability, the members' disagreement and the label, in a line."""
    said = "abnormal" if study.probability_study > THRESHOLD else "normal"
    sentence = f"study: probability {study.probability_study:.2f}, so {said}"
    if study.disagreement > 0:
        sentence += f" (members' deviation {study.disagreement:.2f})"
    if _right(study) is None:
        return sentence
    return f"{sentence}; labelled {'abnormal' if study.label else 'normal'}"


def _right(study: pd.Series) -> bool | None:
    if pd.isna(study.label) or study.label not in (0, 1):
        return None
    return bool((study.probability_study > THRESHOLD) == study.label)


def _pictures(
    views: pd.DataFrame, heat: np.ndarray, boxes: pd.DataFrame | None
) -> Iterator[list[np.ndarray]]:
    """Of each view the radiograph and its overlay, uint8 (height, width, 3), with its boxes."""
    for (_, view), one in zip(views.iterrows(), heat, strict=True):
        pictures = plain_and_overlaid(read_radiograph(view.path), one, VIEW_SIDE)
        if boxes is not None:
            for box in boxes[(boxes[VIEW_KEY] == view[VIEW_KEY]).all(axis=1)].itertuples():
                scale = np.array(pictures[0].shape[1::-1])
                start = np.round(scale * (box.x, box.y)).astype(int)
                end = np.round(scale * (box.x + box.width, box.y + box.height)).astype(int)
                for picture in pictures:
                    cv2.rectangle(picture, start.tolist(), end.tolist(), BOX_COLOUR, 2)
        yield pictures
