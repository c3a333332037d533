"""Finished runs -> a document's table: ours beside the published values, claims, differences."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from mura_tf.claims import Claim, answer_claims
from mura_tf.comparison import RepeatedScore, System, difference, repeated_scores
from mura_tf.deviations import deviations
from mura_tf.evaluate import load_predictions, reported_split, study_probabilities
from mura_tf.grid import PlannedRun, plan_runs
from mura_tf.published import published_table
from mura_tf.recipe import Recipe
from mura_tf.run import Run
from mura_tf.table_pages import MEASURES, OVERALL, TableReport, system_labels, write_pages


@dataclass(frozen=True)
class Experiment:
    """A table of a document: what is trained for it, and what the document says of it.

    Attributes:
        name: of its file in `experiments` and of its CSV in `experiments/published`.
        title: what the report is called.
        backbones: keys of `BACKBONES`, one column group each.
        schemes: of `plan_runs`, one column group each.
        members, repeats: the document's.
        recipe: the document's settings.
        claims: the document's, to be checked.
    """

    name: str
    title: str
    backbones: tuple[str, ...]
    schemes: tuple[str, ...] = ("two-stage",)
    members: int = 5
    repeats: int = 3
    recipe: Recipe = field(default_factory=Recipe)
    claims: tuple[Claim, ...] = ()

    def plan(
        self,
        out: str | os.PathLike,
        study_types: Iterable[str],
        *,
        recipe: Recipe | None = None,
        backbones: Iterable[str] | None = None,
        members: int | None = None,
        repeats: int | None = None,
    ) -> list[PlannedRun]:
        """Its runs, each once; what is not given is the document's."""
        plan = [
            run
            for backbone in backbones or self.backbones
            for scheme in self.schemes
            for run in plan_runs(
                replace(recipe or self.recipe, backbone=backbone),
                out,
                study_types,
                scheme=scheme,
                members=members or self.members,
                repeats=repeats or self.repeats,
            )
        ]
        return list(dict.fromkeys(plan))


def report_table(
    experiment: Experiment, plan: list[PlannedRun], out: str | os.PathLike
) -> TableReport:
    """Writes `out/NAME/` from those of the planned runs that are finished.

    That is `table.md`, `table.csv`, `report.html`, the plots as SVG and `experiment.json`. An
    ensemble that lacks a member is left out, and said to be.

    Raises:
        ValueError: no ensemble is complete.
    """
    runs = [Run(planned.folder) for planned in plan]
    runs = [run for run in runs if run.finished]
    complete, missing = _complete_ensembles(plan, {run.path for run in runs})
    if not complete:
        raise ValueError(
            f"no ensemble of {experiment.name} is complete below {out}: {len(runs)} of {len(plan)} "
            "runs are finished. Train them with the same command without --report-only."
        )
    predictions = load_predictions(planned.folder for planned in complete)
    split = reported_split(predictions)
    studies = study_probabilities(predictions[predictions.split == split])
    types = sorted({name for planned in plan for name in planned.recipe.study_types or ()})
    scores = repeated_scores(studies, types)
    cells = _cells(scores, experiment.name, [*types, OVERALL])
    recipes = [planned.recipe for planned in complete]
    report = TableReport(
        cells=cells,
        claims=answer_claims(experiment.claims, scores),
        pairs=_pairs(scores),
        deviations=deviations(recipes, experiment.recipe) + _other_deviations(cells, experiment),
        missing=missing,
        split=split,
        same_data=_is_mura(cells),
    )
    write_pages(report, experiment.title, studies, runs, Path(out) / experiment.name)
    return report


def _complete_ensembles(
    plan: list[PlannedRun], finished: set[Path]
) -> tuple[list[PlannedRun], list[str]]:
    """The runs of ensembles that have all members, and a sentence per ensemble that has not."""
    ensembles: dict[tuple, list[PlannedRun]] = {}
    for planned in plan:
        recipe = planned.recipe
        if recipe.study_types:  # the whole-data run is where the others start, not a row
            key = (recipe.backbone, recipe.stage, recipe.study_types, recipe.repeat)
            ensembles.setdefault(key, []).append(planned)
    complete, missing = [], []
    for ensemble in ensembles.values():
        lacking = [str(one.folder) for one in ensemble if one.folder not in finished]
        if lacking:
            missing.append(
                f"{len(lacking)} of {len(ensemble)} members are not finished: {', '.join(lacking)}"
            )
        else:
            complete += ensemble
    return complete, missing


def _cells(scores: dict, name: str, rows: list[str]) -> pd.DataFrame:
    cells = []
    for (backbone, stage), by_type in scores.items():
        for study_type in rows:
            if study_type in by_type:
                facts = {"backbone": backbone, "stage": stage, "study_type": study_type}
                cells.append(facts | _measures(by_type[study_type]))
    cells = pd.DataFrame(cells)
    published = published_table(name).drop(columns=["best", "source"])
    keys = [key for key in ("backbone", "stage", "study_type") if key in published]
    values = [column for column in published if column not in keys]
    published = published.rename(columns={column: f"published_{column}" for column in values})
    cells = cells.merge(published, on=keys, how="left")
    for measure in MEASURES[:4]:
        if f"published_{measure}" not in cells:
            cells[f"published_{measure}"] = np.nan
    cells["difference"] = cells.kappa - cells.published_kappa
    best = cells.groupby("study_type").kappa.transform("max")
    return cells.assign(best=cells.kappa == best)


def _measures(score: RepeatedScore) -> dict:
    several = len(score.kappa) > 1
    low, high = score.interval
    return {
        "n": len(score.studies),
        "members": score.members,
        "repeats": len(score.kappa),
        "accuracy": score.accuracy.mean(),
        "accuracy_std": score.accuracy.std(ddof=1) if several else np.nan,
        "kappa": score.kappa.mean(),
        "kappa_std": score.kappa.std(ddof=1) if several else np.nan,
        "kappa_low": low,
        "kappa_high": high,
    }


def _pairs(scores: dict[System, dict[str, RepeatedScore]]) -> pd.DataFrame:
    systems = [system for system, rows in scores.items() if OVERALL in rows]
    labels = system_labels(systems)
    rows = []
    for one, other in combinations(systems, 2):
        values = difference(scores[one][OVERALL], scores[other][OVERALL])
        rows.append((labels[one], labels[other], *values))
    return pd.DataFrame(rows, columns=["one", "other", "difference", "low", "high"])


def _is_mura(cells: pd.DataFrame) -> bool:
    """Whether the reported studies are as many, in each type, as MURA's validation set has."""
    table_i = published_table("table_i").query("split == 'valid' and label.notna()")
    expected = table_i.groupby("study_type").studies.sum().rename({"all": OVERALL})
    counts = cells.groupby("study_type").n.first()
    return set(counts.index) <= set(expected.index) and (counts == expected[counts.index]).all()


def _other_deviations(cells: pd.DataFrame, experiment: Experiment) -> list[str]:
    """What no recipe tells: data, members and repeats, and how a deviation is computed."""
    sentences = []
    others = sorted(set(cells.backbone) - set(experiment.backbones))
    if others:
        sentences.append(
            f"Backbones: {', '.join(others)}; the document has {', '.join(experiment.backbones)}."
        )
    if not _is_mura(cells):
        counts = cells.groupby("study_type").n.first()
        counts = ", ".join(f"{study_type} {n}" for study_type, n in counts.items())
        sentences.append(
            f"The studies are not MURA's validation set, but others ({counts}): the published "
            "values are there for orientation, and no difference is taken."
        )
    members, repeats = sorted(set(cells.members)), sorted(set(cells.repeats))
    for name, ours, theirs in (
        ("Members per ensemble", members, experiment.members),
        ("Repeats", repeats, experiment.repeats),
    ):
        if ours != [theirs]:
            sentences.append(f"{name}: {', '.join(map(str, ours))}; the document has {theirs}.")
    return sentences
