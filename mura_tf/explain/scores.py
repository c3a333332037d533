"""Every method on every view with boxes: how well it points, and whether it can be trusted."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from mura_tf.data.boxes import box_masks, load_boxes, squares_of
from mura_tf.data.table import VIEW_KEY
from mura_tf.data.text import read_table
from mura_tf.explain.detection import IOUS, average_precision, boxes_of
from mura_tf.explain.ensemble import Ensemble
from mura_tf.explain.heatmaps import ModelOrRun, heatmaps, methods_for, probabilities
from mura_tf.explain.localization import (
    box_scores,
    chance_maps,
    frame_masks,
    overview,
    score_table,
)
from mura_tf.explain.methods import METHODS, find_method
from mura_tf.explain.sanity import SHARES, deletion_and_insertion, randomized, rank_correlations
from mura_tf.files import written_whole
from mura_tf.terminal import waiting
from mura_tf.training.facts import write_facts

DRAWS = 5
"""Random weights that maps are compared with: one network's may resemble a map by chance."""
KEY = ["system", "members", "split", "layer", "study_type", "method", "score"]
"""What tells the rows of `heatmap_scores.csv` apart."""


def write_scores(
    ensemble: Ensemble,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    methods: Iterable[str] | None = None,
    *,
    layer: str | None = None,
    sanity: bool = False,
    progress: bool = False,
) -> pd.DataFrame:
    """Writes `out/heatmap_scores.csv`, the table of `score_heatmaps`, and `experiment.json`.

    In front are `system, members, split, layer`, whose maps they are. Rows of others, of other
    methods or scores, stay where there are any.

    Args:
        ensemble, data, methods, layer, sanity, progress: see `score_heatmaps`.
        out: the folder.

    Returns:
        The `overview` of what was scored now.

    Raises:
        ValueError: a `heatmap_scores.csv` with other columns; a layer that no method takes; see
            `score_heatmaps`, too.
    """
    path = Path(out) / "heatmap_scores.csv"
    methods = methods and list(methods)
    before = _scores_before(path)
    if layer and methods and not any(find_method(method).takes_layer for method in methods):
        raise ValueError(
            f"none of {', '.join(methods)} takes a layer. Received: layer {layer!r}. Leave it out."
        )
    scores = score_heatmaps(ensemble, data, methods, layer=layer, sanity=sanity, progress=progress)
    whose = {
        "system": ensemble.name,
        "members": " ".join(map(str, sorted({run.recipe.member for run in ensemble.runs}))),
        "split": ensemble.split,
        "layer": [layer if layer and _takes_layer(one) else "" for one in scores.method],
    }
    table = scores.assign(**whose)[[*whose, *scores]]
    if before is not None:
        again = before.set_index(KEY).index.isin(table.set_index(KEY).index)
        table = pd.concat([before[~again], table], ignore_index=True)
    with written_whole(path) as part:
        table.to_csv(part, index=False)
    write_facts(ensemble.runs, Path(out))
    return overview(scores)


def score_heatmaps(
    ensemble: Ensemble,
    data: str | os.PathLike[str],
    methods: Iterable[str] | None = None,
    *,
    layer: str | None = None,
    sanity: bool = False,
    progress: bool = False,
) -> pd.DataFrame:
    """Scores methods on the views of the reported split that have boxes.

    No member was trained on these views. Every such view counts, whatever the ensemble says of it.

    Args:
        ensemble: whose maps are scored.
        data: the data set with the boxes, see `load_boxes`.
        methods: of `explain.methods.METHODS`; by default all that can explain the members.
        layer: see `explain.heatmaps`; for those of `methods` that take one.
        sanity: whether to add `deletion`, `insertion` and `randomized`; it takes several times as
            long.
        progress: whether to show a progress bar.

    Returns:
        See `localization.score_table`.

    Raises:
        FileNotFoundError, ValueError: no boxes, or none on the reported split; an unknown method.
    """
    boxes = load_boxes(data, ensemble.reported, ensemble.data_views)
    views = ensemble.reported.merge(boxes[VIEW_KEY].drop_duplicates(), on=VIEW_KEY)
    if views.empty:
        raise ValueError(
            f"none of the {len(ensemble.reported)} views of the {ensemble.split} split has a box, "
            "expected at least one. Use a data set whose lesions are marked on that split."
        )
    methods = list(dict.fromkeys(methods or methods_for(ensemble.members(views.study_type[0])[0])))
    layered = {method: find_method(method).takes_layer for method in methods}
    images, frames = ensemble.inputs(views)
    inside = frame_masks(frames, ensemble.side)
    heat = {method: np.zeros(inside.shape, np.float32) for method in methods}
    heat |= chance_maps(frames, ensemble.side)
    values: dict[str, dict[str, np.ndarray]] = defaultdict(
        lambda: defaultdict(lambda: np.zeros(len(views)))
    )
    groups = list(ensemble.groups(views))
    blanks: dict[Path, keras.Model] = {}  # run folder -> its network, for random weights
    steps = len(methods) + (DRAWS * len(methods) + len(heat) if sanity else 0)
    with waiting("Explaining", steps * len(groups), shown=progress) as step:

        def maps_of(
            models: Sequence[ModelOrRun], method: str, rows: np.ndarray, of_class: int | None
        ) -> np.ndarray:
            step()
            taken = layer if layered[method] else None
            return heatmaps(
                models, images[rows], method, of_class, layer=taken, frames=frames[rows]
            )

        for rows, members, of_class in groups:
            for method in methods:
                heat[method][rows] = maps_of(members, method, rows, of_class)
            if not sanity:
                continue
            for run in members:
                if run.path not in blanks:  # a model of all study types is in every group
                    blanks[run.path] = run.model()
            blank = [blanks[run.path] for run in members]
            for draw in range(DRAWS):
                for number, model in enumerate(blank):
                    drawn = randomized(model, draw * len(blank) + number)
                    model.set_weights(drawn.get_weights())  # what was traced of it stays
                for method in methods:
                    other = maps_of(blank, method, rows, of_class)
                    correlations = rank_correlations(heat[method][rows], other, inside[rows])
                    values[method]["randomized"][rows] += np.abs(correlations) / DRAWS
            predict = partial(probabilities, members, of_class=of_class)
            for method, maps in heat.items():
                step()
                curves = deletion_and_insertion(predict, images[rows], maps[rows], inside[rows])
                for name, curve in zip(("deletion", "insertion"), curves, strict=True):
                    values[method][name][rows] = trapezoid(curve, SHARES)
    masks = box_masks(views, boxes, frames, ensemble.side)
    by_method = {
        method: box_scores(maps, masks, inside) | values[method] for method, maps in heat.items()
    }
    return score_table(by_method, views)


def score_detections(
    ensemble: Ensemble, data: str | os.PathLike[str], methods: Iterable[str]
) -> pd.DataFrame:
    """The average precision of the boxes that heatmaps give, on every view of the reported split.

    A box's confidence is the highest heat inside, times the probability of its view. A
    model's map is divided by its own maximum in each view, so that across views the ranking is that
    of the probability. What is found in a view without a box is wrong.

    Args:
        ensemble, data, methods: see `score_heatmaps`.

    Returns:
        A row per method and each of `detection.IOUS`: `method, iou, average_precision, views, true`
        (boxes) and `found`.
    """
    views = ensemble.reported
    frames = ensemble.inputs(views)[1]
    true = squares_of(views, load_boxes(data, views, ensemble.data_views), frames)
    rows = []
    for method in methods:
        found = boxes_of(ensemble.heatmaps(views, method))
        found["confidence"] *= views.probability.to_numpy()[found.view]
        for iou in IOUS:
            precision = average_precision(found, true, iou)
            rows.append((method, iou, precision, len(views), len(true), len(found)))
    columns = ["method", "iou", "average_precision", "views", "true", "found"]
    return pd.DataFrame(rows, columns=columns)


def _takes_layer(method: str) -> bool:
    """Whether its maps are of a layer that is named; those of chance are not."""
    return method in METHODS and METHODS[method].takes_layer


def _scores_before(path: Path) -> pd.DataFrame | None:
    """The table at `path`, if there is one; read first, as scoring may take an hour."""
    if not path.exists():
        return None
    try:
        table = read_table(path, dtype=dict.fromkeys(KEY, str))
    except ValueError:
        table = pd.DataFrame()
    if lacking := [name for name in KEY if name not in table]:
        raise ValueError(
            f"{path} must be a table of heatmap scores. Received: one without "
            f"{', '.join(lacking)}. Give another --out, or move the file."
        )
    return table.fillna({"layer": ""})
