"""Every method on every view with boxes: how well it points, and whether it can be trusted."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
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
from mura_tf.explain.heatmaps import heatmaps, methods_for, model_of, probabilities
from mura_tf.explain.localization import (
    CHANCE,
    box_scores,
    chance_maps,
    frame_masks,
    overview,
    score_table,
)
from mura_tf.explain.methods import METHODS, find_method
from mura_tf.explain.sanity import SHARES, deletion_and_insertion, randomized, rank_correlations
from mura_tf.files import locked, written_whole
from mura_tf.terminal import waiting
from mura_tf.training.facts import write_facts
from mura_tf.training.run import Run

AT_ONCE = 256
"""Views whose images and maps are held at a time."""
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
    _scores_before(path)  # which it refuses before an hour of scoring
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
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(out):
        if (before := _scores_before(path)) is not None:  # others may have written meanwhile
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
    layers = {method: layer if find_method(method).takes_layer else None for method in methods}
    parts = [
        (part, members, of_class)
        for rows, members, of_class in ensemble.groups(views)
        for part in np.array_split(rows, -(-len(rows) // AT_ONCE))
    ]
    blanks: dict[Path, keras.Model] = {}
    values: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    steps = len(methods) + (DRAWS * len(methods) + len(methods) + len(CHANCE) if sanity else 0)
    with waiting("Explaining", steps * len(parts), shown=progress) as step:
        for rows, runs, of_class in parts:
            images, frames = ensemble.inputs(views.iloc[rows])
            inside = frame_masks(frames, ensemble.side)
            masks = box_masks(views.iloc[rows], boxes, frames, ensemble.side)
            members = [model_of(run) for run in runs]
            maps_of = partial(
                _maps, images=images, of_class=of_class, layers=layers, frames=frames, step=step
            )
            heat = {method: maps_of(members, method) for method in methods}
            known = heat | chance_maps(frames, ensemble.side)
            found = {method: box_scores(maps, masks, inside) for method, maps in known.items()}
            if sanity:
                blank = [_blank(run, blanks) for run in runs]
                for method, alike in _likeness_to_random(heat, blank, maps_of, inside).items():
                    found[method]["randomized"] = alike
                predict = partial(probabilities, members, of_class=of_class)
                for method, maps in known.items():
                    step()
                    curves = deletion_and_insertion(predict, images, maps, inside)
                    for name, curve in zip(("deletion", "insertion"), curves, strict=True):
                        found[method][name] = trapezoid(curve, SHARES)
            for method, by_name in found.items():
                for name, of_rows in by_name.items():
                    empty = np.zeros((len(views), *of_rows.shape[1:]))
                    values[method].setdefault(name, empty)[rows] = of_rows
    return score_table(values, views)


def _maps(
    models: list[keras.Model],
    method: str,
    *,
    images: np.ndarray,
    of_class: int | None,
    layers: Mapping[str, str | None],
    frames: np.ndarray,
    step: Callable[[], None],
) -> np.ndarray:
    step()
    return heatmaps(models, images, method, of_class, layer=layers[method], frames=frames)


def _blank(run: Run, blanks: dict[Path, keras.Model]) -> keras.Model:
    """A run's network, for random weights; one of all study types is in every group."""
    if run.path not in blanks:
        blanks[run.path] = run.model()
    return blanks[run.path]


def _likeness_to_random(
    heat: Mapping[str, np.ndarray],
    blank: list[keras.Model],
    maps_of: Callable[[list[keras.Model], str], np.ndarray],
    inside: np.ndarray,
) -> dict[str, np.ndarray]:
    """Method -> how like its maps are to those of random weights, the mean of `DRAWS`."""
    alike = {method: np.zeros(len(inside)) for method in heat}
    for draw in range(DRAWS):
        for number, model in enumerate(blank):
            drawn = randomized(model, draw * len(blank) + number)
            model.set_weights(drawn.get_weights())  # what was traced of it stays
        for method, maps in heat.items():
            correlations = rank_correlations(maps, maps_of(blank, method), inside)
            alike[method] += np.abs(correlations) / DRAWS
    return alike


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
    parts = [views[start : start + AT_ONCE] for start in range(0, len(views), AT_ONCE)]
    frames = np.concatenate([ensemble.inputs(part)[1] for part in parts])
    true = squares_of(views, load_boxes(data, views, ensemble.data_views), frames)
    rows = []
    for method in methods:
        by_part = [boxes_of(ensemble.heatmaps(part, method)) for part in parts]
        found = pd.concat(
            [one.assign(view=one.view + place * AT_ONCE) for place, one in enumerate(by_part)],
            ignore_index=True,
        )
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
    """The table at `path`, if there is one."""
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
