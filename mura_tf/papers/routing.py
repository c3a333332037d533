"""Recognise the study type, then ask that type's specialist: a system made of finished runs."""

import os
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mura_tf.data.table import VIEW_COLUMNS, VIEW_KEY
from mura_tf.evaluation.predictions import CLASS_PREFIX, read_predictions
from mura_tf.evaluation.scores import reported_split
from mura_tf.files import written_whole
from mura_tf.papers.documents import Comparison, System
from mura_tf.training.run import Run, load_predictions, predicted_by

RECOGNISED = "recognised"
"""The column that says which study type a view was taken for."""
Runs = dict[System, list[Run]]


class Routed(NamedTuple):
    """What can be said of a comparison's composed systems.

    Attributes:
        predictions: of each.
        remarks: how many views went to the wrong model, a sentence per system.
        missing: a sentence per system that is not composed of these runs.
    """

    predictions: dict[System, pd.DataFrame]
    remarks: list[str]
    missing: list[str]


def compose(
    comparison: Comparison,
    runs: Runs,
    views: pd.DataFrame,
    out: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str] | None = None,
) -> None:
    """Predicts with the systems that are put together from finished runs, where it is not done yet.

    Args:
        comparison: the systems.
        runs: the finished runs of each.
        views: views table of their data, where the files lie now.
        out: the folder above the comparison's.
        cache_dir: see `prepare`.
    """
    for system, parts in _parts(comparison, runs).items():
        path = _path(comparison, system, out)
        if routed_predictions(*parts, path) is None:
            route(*parts, views, path, cache_dir)


def composed(comparison: Comparison, runs: Runs, out: str | os.PathLike[str]) -> Routed:
    """What `compose` wrote, as far as it is of these runs."""
    found = Routed({}, [], [])
    for system, parts in _parts(comparison, runs).items():
        path = _path(comparison, system, out)
        routed = routed_predictions(*parts, path)
        if routed is None:
            found.missing.append(
                f"{path}: {system.title} is not put together from these runs yet. The command with "
                "--data does it."
            )
        else:
            found.predictions[system] = routed
            found.remarks.append(f"{system.title}: {_remark(routed)}")
    return found


def recognised_types(router: list[Run]) -> pd.DataFrame:
    """What study type each view of the reported split is taken for.

    Args:
        router: finished runs of the task "study_type"; the most probable type of their mean.

    Returns:
        `VIEW_COLUMNS` and `recognised`, a row per view.
    """
    predictions = load_predictions(run.path for run in router)
    predictions = predictions[predictions.split == reported_split(predictions)]
    types = [name for name in predictions if name.startswith(CLASS_PREFIX)]
    means = predictions.groupby(VIEW_KEY, sort=False)[types].mean()
    recognised = means.idxmax(axis=1).str.removeprefix(CLASS_PREFIX).rename(RECOGNISED)
    views = predictions.drop_duplicates(VIEW_KEY)[VIEW_COLUMNS]
    return views.merge(recognised.reset_index(), on=VIEW_KEY)


def route(
    router: list[Run],
    specialists: list[Run],
    views: pd.DataFrame,
    path: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str] | None = None,
) -> None:
    """Writes the predictions table of the routed system.

    A view that is taken for its own type has its specialist's prediction already; one that is taken
    for another type is predicted by that type's model now.

    Args:
        router: see `recognised_types`.
        specialists: finished runs, each of one study type.
        views: views table of the runs' data, where its files lie now.
        path: the CSV; a predictions table with a column `recognised`.
        cache_dir: see `prepare`.
    """
    recognised = recognised_types(router).drop(columns="path")
    recognised = recognised.merge(views[[*VIEW_KEY, "path"]], on=VIEW_KEY)
    tables = []
    for run in specialists:
        study_type = run.trained_on
        handed = recognised[recognised.recognised == study_type]
        own = run.predictions.merge(handed[[*VIEW_KEY, RECOGNISED]], on=VIEW_KEY)
        tables.append(own)
        others = handed[handed.study_type != study_type]
        if len(others):
            tables.append(predicted_by(run.recipe, run.model(), others, cache_dir=cache_dir))
    with written_whole(path) as part:
        # how much a view counts is told by each model beside its own others alone
        pd.concat(tables).drop(columns="weight", errors="ignore").to_csv(part, index=False)


def routed_predictions(
    router: list[Run], specialists: list[Run], path: str | os.PathLike[str]
) -> pd.DataFrame | None:
    """What `route` wrote, or None where it is not there or is not of these runs.

    Whether it is of these runs is told by what they say themselves: the types recognised, and the
    predictions of the views that went to their own type's model.
    """
    if not Path(path).is_file():
        return None
    routed = read_predictions(path)
    key = [*VIEW_KEY, RECOGNISED]
    expected = recognised_types(router)[key].merge(
        pd.DataFrame(
            [(run.trained_on, run.recipe.member) for run in specialists],
            columns=[RECOGNISED, "member"],
        )
    )
    key.append("member")
    found = routed.merge(expected, on=key)
    own = found[found.study_type == found.recognised]
    said = load_predictions(run.path for run in specialists)
    said = own.merge(said, on=[*VIEW_KEY, "member"], suffixes=("", "_now"))
    alike = said.probability == said.probability_now
    if len(found) == len(routed) == len(expected) and len(said) == len(own) and alike.all():
        return routed
    return None


def _parts(comparison: Comparison, runs: Runs) -> dict[System, tuple[list[Run], list[Run]]]:
    """Composed system -> what tells types apart and the specialists, where these and all that
    stands beside it are there."""
    by_name = {system.name: found for system, found in runs.items()}
    parts = {}
    for system in comparison.systems:
        if not (system.specialists and system.recognised_by):
            continue
        if {system.specialists, system.recognised_by, *system.beside} <= by_name.keys():
            router, specialists = by_name[system.recognised_by], by_name[system.specialists]
            lacking = set(router[0].info["classes"])
            lacking -= {run.trained_on for run in specialists}
            if not lacking:
                parts[system] = router, specialists
    return parts


def _path(comparison: Comparison, system: System, out: str | os.PathLike[str]) -> Path:
    return comparison.folder(out) / system.name / "predictions.csv"


def _remark(routed: pd.DataFrame) -> str:
    views = routed.drop_duplicates(VIEW_KEY)
    right = (views.recognised == views.study_type).sum()
    return (
        f"{right:,} of {len(views):,} views ({right / len(views):.1%}) are taken for their own "
        "study type; the others are judged by another type's model."
    )
