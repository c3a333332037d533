"""Finished runs -> a document's table: ours beside the published values, claims, differences."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from mura_tf.evaluation.comparison import (
    RepeatedScore,
    difference,
    pooled,
    repeated_scores,
)
from mura_tf.evaluation.metrics import THRESHOLD
from mura_tf.evaluation.scores import STAGE_NAMES, reported_split, study_probabilities
from mura_tf.grid.finished import complete_ensembles, lost_starts, readable_runs
from mura_tf.grid.plan import SET_HERE, PlannedRun, plan_runs, require_unset
from mura_tf.papers.claims import Claim, Scores, answer_claims
from mura_tf.papers.deviations import (
    GREY,
    data_deviations,
    deviations,
    skipped_deviation,
    type_deviation,
)
from mura_tf.papers.table_pages import MEASURES, TableReport, system_labels, write_pages
from mura_tf.published import OVERALL, mura_kappas, mura_studies, published_digits, published_table
from mura_tf.reports.constant import constant_call
from mura_tf.reports.numbers import with_interval
from mura_tf.training.facts import write_facts
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import load_predictions

_SET_HERE = SET_HERE | {
    "stage": "the table has its stages",
    "initial": "the first stage starts from `weights` (--weights)",
}


@dataclass(frozen=True)
class Experiment:
    """A table of a document: what is trained for it, and what the document says of it.

    Attributes:
        name: of its file in `experiments`.
        title: what the report is called.
        published: the CSVs in `experiments/published` with the document's values.
        backbones: keys of `BACKBONES`, one column group each.
        schemes: of `plan_runs`, one column group each.
        members, repeats: the document's.
        recipe: the document's settings.
        claims: the document's, to be checked.
    """

    name: str
    title: str
    published: tuple[str, ...]
    backbones: tuple[str, ...]
    schemes: tuple[str, ...] = ("two-stage",)
    members: int = 5
    repeats: int = 3
    recipe: Recipe = field(default_factory=Recipe)
    claims: tuple[Claim, ...] = ()
    document: ClassVar = "000"
    OPTIONS: ClassVar = {"study_types", "settings", "backbones", "members", "repeats"}
    """Of `plan`."""

    def folder(self, out: str | os.PathLike[str]) -> Path:
        """Where its runs are: tables of one `out` share them."""
        return Path(os.path.normpath(out))

    def views(self, views: pd.DataFrame) -> pd.DataFrame:
        """The views in the split that it uses, the data set's own."""
        return views

    def plan(
        self,
        out: str | os.PathLike[str],
        known_types: Iterable[str],
        *,
        study_types: Iterable[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        backbones: Iterable[str] | None = None,
        members: int | None = None,
        repeats: int | None = None,
    ) -> list[PlannedRun]:
        """Its runs, each once; what is not given is the document's.

        Args:
            out: the folder above.
            known_types: the study types of the data.
            study_types: those that get a model of their own; all by default.
            settings: recipe settings instead of the document's.
            backbones, members, repeats: instead of the document's.

        Raises:
            ValueError: an unknown setting, or one that the table sets itself.
        """
        settings, backbones = dict(settings or {}), tuple(backbones or self.backbones)
        recipe = self.recipe.changed(settings)
        require_unset(settings, _SET_HERE)
        if "backbone" in settings and backbones != (settings["backbone"],):
            raise ValueError(
                f"{self.name} has the backbones {', '.join(backbones)}. Received a recipe with "
                f"{settings['backbone']!r}. Take it out; choose with `backbones` (--backbones)."
            )
        types = list(study_types or known_types)
        plan = [
            run
            for backbone in backbones
            for scheme in self.schemes
            for run in plan_runs(
                replace(recipe, backbone=backbone),
                self.folder(out),
                types,
                scheme=scheme,
                members=self.members if members is None else members,
                repeats=self.repeats if repeats is None else repeats,
            )
        ]
        return list(dict.fromkeys(plan))

    def system_of(self, run: PlannedRun) -> str:
        """What a run is trained for, in words."""
        stage = "imagenet" if run.recipe.stage == "imagenet" else "type"
        return f"{run.recipe.backbone}, {STAGE_NAMES[stage]}"

    def published_results(self) -> dict[str, str]:
        """`system_of` -> the document's overall kappa."""
        rows = published_table(*self.published).query("study_type == 'overall'")
        return {
            f"{getattr(row, 'backbone', self.backbones[0])}, {STAGE_NAMES[row.stage]}": (
                f"kappa {row.kappa:.{published_digits(*self.published)}f}"
            )
            for row in rows.itertuples()
        }


def report_table(
    experiment: Experiment,
    plan: list[PlannedRun],
    out: str | os.PathLike[str],
    *,
    report_only: bool = False,
) -> TableReport:
    """Writes `out/NAME/` from those of the planned runs that are finished.

    That is `table.md`, `table.csv`, `report.html`, the plots as SVG and `experiment.json`. An
    ensemble that lacks a member is left out, and said to be; so is what cannot be read. What is
    told of the runs comes from their folders, not from the plan.

    Args:
        experiment: the table.
        plan: its runs, finished or not.
        out: the folder above.
        report_only: see `write_facts`.

    Raises:
        ValueError: no ensemble is complete, or runs predicted different studies.
    """
    readable, unreadable = readable_runs(plan)
    finished = set(readable)
    # a whole-data run is where others start, and not a row
    rows = [run for run in plan if run.recipe.study_types]
    complete, incomplete = complete_ensembles(rows, finished)
    if not complete:
        raise ValueError(
            f"no ensemble of {experiment.name} is complete below {out}: {len(finished)} of "
            f"{len(plan)} planned runs are finished. Give the backbones, study types and members "
            "that were trained, or train without --report-only."
            + "".join(f" {sentence}" for sentence in unreadable)
        )
    predictions = load_predictions(planned.folder for planned in complete)
    split = reported_split(predictions)
    studies = study_probabilities(predictions[predictions.split == split])
    types = sorted({name for planned in plan for name in planned.recipe.study_types or ()})
    scores = repeated_scores(studies, types)
    shown = finished & {folder for run in complete for folder in (run.folder, run.needs)}
    runs = [readable[run.folder] for run in plan if run.folder in shown]
    cells, same_data = _cells(scores, experiment, [*types, OVERALL])
    report = TableReport(
        cells=cells,
        claims=answer_claims(experiment.claims, scores, system_labels(list(scores))),
        constants=_constants(cells, scores) + [run.warning for run in runs if run.warning],
        references=mura_kappas() if same_data else mura_kappas().head(0),
        pairs=_pairs(scores),
        deviations=_other_deviations(cells, experiment, same_data)
        + skipped_deviation(runs)
        + [*deviations([run.recipe for run in runs], experiment.recipe), GREY],
        missing=unreadable + incomplete + lost_starts(complete, finished),
        split=split,
        same_data=same_data,
        digits=published_digits(*experiment.published),
    )
    folder = Path(out) / experiment.name
    write_pages(report, experiment.title, studies, runs, folder)
    write_facts(runs, folder, report_only=report_only)
    return report


def _cells(scores: Scores, experiment: Experiment, rows: list[str]) -> tuple[pd.DataFrame, bool]:
    """`TableReport`'s `cells` and `same_data`."""
    cells = pd.DataFrame(
        {"backbone": backbone, "stage": stage, "study_type": study_type}
        | _measures(by_type[study_type])
        for (backbone, stage), by_type in scores.items()
        for study_type in rows
        if study_type in by_type
    )
    published = published_table(*experiment.published).drop(columns=["best", "source"])
    keys = [key for key in ("backbone", "stage", "study_type") if key in published]
    published = published.set_index(keys).reindex(columns=MEASURES[:4]).add_prefix("published_")
    cells = cells.merge(published, on=keys, how="left")
    if {*published.index.get_level_values("study_type")} - {*cells.study_type}:
        of_all = cells.study_type == OVERALL  # of other studies than the overall of fewer types
        cells.loc[of_all, list(published)] = np.nan
    counted = cells.n == cells.study_type.map(mura_studies("valid"))
    same_data = bool(counted[cells.study_type != OVERALL].all())
    alike = counted & same_data & cells.backbone.isin(experiment.backbones)
    for measure in ("accuracy", "kappa"):
        published = cells[f"published_{measure}"].where(alike)
        cells[f"{measure}_difference"] = cells[measure] - published
    digits = published_digits(*experiment.published)
    printed = cells.kappa.map(f"{{:.{digits}f}}".format).astype(float)
    best = printed.groupby(cells.study_type).transform("max")
    return cells.assign(best=printed == best), same_data


def _measures(score: RepeatedScore) -> dict[str, float]:
    accuracies, kappas = score.values("accuracy"), score.values("kappa")
    several = len(kappas) > 1
    low, high = score.interval("kappa")
    return {
        "n": len(score.studies),
        "members": score.members,
        "repeats": len(kappas),
        "accuracy": accuracies.mean(),
        "accuracy_std": accuracies.std(ddof=1) if several else np.nan,
        "kappa": kappas.mean(),
        "kappa_std": kappas.std(ddof=1) if several else np.nan,
        "kappa_low": low,
        "kappa_high": high,
        "called_abnormal": (score.studies > THRESHOLD).sum().mean(),
    }


def _constants(cells: pd.DataFrame, scores: Scores) -> list[str]:
    """A sentence for each system that decides the same for everything."""
    labels = system_labels(list(scores))
    sentences = []
    for system, rows in cells[cells.study_type != OVERALL].groupby(["backbone", "stage"]):
        counts = zip(rows.n, rows.called_abnormal, strict=True)
        call = constant_call(dict(zip(rows.study_type, counts, strict=True)))
        if call:
            together = pooled([scores[system][name] for name in rows.study_type])
            auroc = together.values("auroc").mean(), *together.interval("auroc")
            sentences.append(f"{labels[system]} {call}; AUROC {with_interval(*auroc)}.")
    return sentences


def _pairs(scores: Scores) -> pd.DataFrame:
    systems = [system for system, rows in scores.items() if OVERALL in rows]
    labels = system_labels(systems)
    rows = []
    for one, other in combinations(systems, 2):
        values = difference(scores[one][OVERALL], scores[other][OVERALL])
        rows.append((labels[one], labels[other], *values))
    return pd.DataFrame(rows, columns=["one", "other", "difference", "low", "high"])


def _other_deviations(cells: pd.DataFrame, experiment: Experiment, same_data: bool) -> list[str]:
    """What no recipe tells: the data, and which of the document's runs there are."""
    sentences = data_deviations(cells.groupby("study_type").n.first(), same_data)
    if same_data:
        published = mura_studies("valid").index
        sentences += type_deviation({*cells.study_type} - {OVERALL}, {*published} - {OVERALL})
    if set(cells.backbone) != set(experiment.backbones):
        ours = ", ".join(dict.fromkeys(cells.backbone))
        sentences.append(f"Backbones: {ours}; the document has {', '.join(experiment.backbones)}.")
    for name, ours, theirs in (
        ("Members per ensemble", cells.members, experiment.members),
        ("Repeats", cells.repeats, experiment.repeats),
    ):
        if set(ours) != {theirs}:
            ours = " or ".join(map(str, sorted(set(ours))))
            sentences.append(f"{name}: {ours}; the document has {theirs}.")
    return sentences
