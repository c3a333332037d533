"""Finished runs of a document's systems -> their report, beside the document's values."""

import os
from dataclasses import replace
from string import Formatter

import pandas as pd

from mura_tf.data.views import read_views
from mura_tf.evaluation.classes import score_classes
from mura_tf.evaluation.comparison import decided_views, repeated_scores
from mura_tf.evaluation.scores import reported_split, study_probabilities
from mura_tf.grid.finished import complete_ensembles, lost_starts, readable_runs
from mura_tf.grid.plan import PlannedRun
from mura_tf.papers.claims import answer_claims
from mura_tf.papers.deviations import (
    GREY,
    OPEN_IN_PAPER,
    data_deviations,
    differences,
    listed,
    paper_choices,
    skipped_deviation,
    type_deviation,
)
from mura_tf.papers.document_pages import DocumentReport, write_pages
from mura_tf.papers.document_tables import (
    chosen_epochs,
    data_counts,
    epoch_rows,
    leaderboard,
    quoted_accuracies,
    score_rows,
    split_counts,
    study_counts,
)
from mura_tf.papers.documents import Comparison, System
from mura_tf.papers.routing import composed
from mura_tf.published import OVERALL, is_mura, mura_kappas, mura_studies
from mura_tf.reports.constant import constant_systems
from mura_tf.training.facts import write_facts
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run, load_predictions


def report_comparison(
    comparison: Comparison,
    plan: list[PlannedRun],
    out: str | os.PathLike[str],
    *,
    split: str = "text",
    report_only: bool = False,
) -> DocumentReport:
    """Writes `out/NAME/` from those of the planned runs that are finished.

    That is `table.md`, `scores.csv`, `claims.csv`, `epochs.csv`, `report.html`, the plots as SVG
    and `experiment.json`. A system that lacks a member of a study type is told without that type.

    Args:
        comparison: the systems.
        plan: their runs, finished or not.
        out: the folder above.
        split: of `Comparison.splits`, the views' one.
        report_only: see `write_facts`.

    Raises:
        ValueError: nothing of it is finished.
    """
    runs, missing = finished_systems(comparison, plan)
    routed = composed(comparison, runs, out)
    by_system = {
        system: load_predictions(run.path for run in found) for system, found in runs.items()
    } | routed.predictions
    # under the systems' names, and of those alone that tell abnormal from normal
    named = [
        rows.assign(backbone=system.name, stage="")
        for system, rows in by_system.items()
        if system.recipe.task != "study_type"
    ]
    if not named:
        raise ValueError(
            f"no system of {comparison.name} that tells abnormal from normal is finished below "
            f"{out}: {sum(map(len, runs.values()))} of {len(plan)} planned runs can be reported. "
            "The command with --data goes on with them, and --members, --types and --systems say "
            "which are planned. " + " ".join(missing[:3]) + " ..." * (len(missing) > 3)
        )
    reported = reported_split(pd.concat(named, ignore_index=True))
    named = [rows[rows.split == reported] for rows in named]
    studies = study_probabilities(pd.concat(named, ignore_index=True))
    decided = pd.concat(map(decided_views, named), ignore_index=True)
    scored = repeated_scores(studies, sorted(studies.study_type.unique()), decided)
    scores = score_rows(comparison, by_system, runs, studies, scored)
    views = read_views(comparison.folder(out) / "views.csv")
    of_mura = is_mura(study_counts(views), "train", "valid")
    report = DocumentReport(
        scores=scores,
        epochs=epoch_rows(comparison, runs),
        classes={
            system.name: score_classes(rows, system.recipe.task)
            for system, rows in by_system.items()
            if system.recipe.task != "abnormality"
        },
        decided=decided,
        claims=answer_claims(
            comparison.claims,
            scored,
            {(system.name, ""): system.title for system in comparison.systems},
        ),
        constants=constant_systems(
            scores.assign(
                system=scores.title,
                n=scores.studies,
                study_type=scores.study_type.mask(scores.pooled, OVERALL),
            )
        )
        + [run.warning for found in runs.values() for run in found if run.warning],
        deviations=_deviations(comparison, runs, by_system, studies, views)
        + [text for name, text in comparison.split_choices.items() if name == split],
        remarks=routed.remarks,
        missing=missing + routed.missing,
        split=reported,
        references=mura_kappas() if comparison.readers or of_mura else mura_kappas().head(0),
        quoted=quoted_accuracies(comparison),
        counts=data_counts(comparison, views),
        split_counts=split_counts(comparison, views, runs, reported),
        chosen_epochs=chosen_epochs(comparison, runs),
        leaderboard=leaderboard(comparison, scores),
    )
    shown = {system.title: runs.get(system, []) for system in by_system}
    folder = comparison.folder(out)
    write_pages(report, comparison.title, shown, folder)
    every = [run for found in runs.values() for run in found]
    write_facts(every, folder, report_only=report_only)
    return report


def finished_systems(
    comparison: Comparison, plan: list[PlannedRun]
) -> tuple[dict[System, list[Run]], list[str]]:
    """The planned runs that can be reported, of each system, and a sentence on each that cannot."""
    readable, unreadable = readable_runs(plan)
    complete, incomplete = complete_ensembles(plan, set(readable))
    runs: dict[System, list[Run]] = {}
    for one in complete:
        runs.setdefault(comparison.system(one), []).append(readable[one.folder])
    return runs, unreadable + incomplete + lost_starts(complete, set(readable))


def _deviations(
    comparison: Comparison,
    runs: dict[System, list[Run]],
    by_system: dict[System, pd.DataFrame],
    studies: pd.DataFrame,
    views: pd.DataFrame,
) -> list[str]:
    every = [run for found in runs.values() for run in found]
    pairs = [(run.recipe, system) for system, found in runs.items() for run in found]
    same_data = study_counts(views).to_dict() == mura_studies("train", "valid").to_dict()
    sentences = data_deviations(study_counts(studies), same_data) + skipped_deviation(every)
    backbones = dict.fromkeys((ours.backbone, one.recipe.backbone) for ours, one in pairs)
    sentences += [
        f"Backbone: {ours} instead of {theirs}." for ours, theirs in backbones if ours != theirs
    ]
    members = len({run.recipe.member for run in every})
    if members != comparison.members:
        sentences.append(
            f"Models per system and study type: {members}; the document has {comparison.members}."
        )
    by_types: dict[tuple[frozenset[str], frozenset[str]], list[str]] = {}
    for system, found in runs.items():
        has_types = system.per_type or system.together
        if has_types and "study_types" not in system.left_open:
            ours = frozenset(name for run in found for name in run.recipe.study_types or ())
            theirs = frozenset(system.study_types or views.study_type)
            if system in comparison.handed_to(by_system):
                theirs = frozenset(views.study_type)
            by_types.setdefault((ours, theirs), []).append(system.title)
    for (ours, theirs), titles in by_types.items():
        sentences += type_deviation(ours, theirs, of="; ".join(titles))
    if left_out := [one.title for one in comparison.systems if one not in by_system]:
        sentences.append(f"Left out: {'; '.join(left_out)}.")
    if views.groupby("patient").split.nunique().max() > 1:
        sentences.append(
            "The split is by image, so views of one patient are trained on and reported: what is "
            "reported is better than it would be for other patients."
        )
    if any(one.select_on == "holdout" and one.holdout_by == "image" for one, _ in pairs):
        sentences.append(
            "The holdout is split off by image, so epochs are selected on views of patients that "
            "are trained on: what is told of the chosen epoch is better than it would be for other "
            "patients, and it may be chosen too late."
        )
    named = [(ours, _filled(system, ours)) for ours, system in pairs]
    if comparison.document == "000":
        sentences += differences(named, but=("holdout_by", *OPEN_IN_PAPER))
        sentences += paper_choices(run.recipe for run in every)
    else:
        sentences += differences(named, but=("holdout_by",))
    return [*sentences, GREY, *_choices(comparison, pairs)]


def _filled(system: System, ours: Recipe) -> Recipe:
    """The document's recipe, with ours where it leaves a setting open."""
    return replace(system.recipe, **{name: getattr(ours, name) for name in system.left_open})


def _choices(comparison: Comparison, pairs: list[tuple[Recipe, System]]) -> list[str]:
    """Those of `Comparison.choices` that concern the runs, told with the runs' settings."""
    chosen: dict[str, list[object]] = {}
    for recipe, system in pairs:
        for name in system.left_open:
            value = recipe.side if name == "image_size" else getattr(recipe, name)
            chosen.setdefault(name, []).append(value)
    values = {name: listed(found) for name, found in chosen.items()}
    return [
        text.format(**values)
        for text in comparison.choices
        if {name for _, name, _, _ in Formatter().parse(text) if name} <= values.keys()
    ]
