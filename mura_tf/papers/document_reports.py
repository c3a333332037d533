"""Finished runs of a document's systems -> their report, beside the document's values."""

import os
from dataclasses import replace
from string import Formatter

import numpy as np
import pandas as pd

from mura_tf.data.tasks import type_and_label
from mura_tf.data.views import read_views
from mura_tf.evaluation.classes import ClassScores, score_classes
from mura_tf.evaluation.comparison import repeated_scores
from mura_tf.evaluation.metrics import THRESHOLD
from mura_tf.evaluation.predictions import (
    load_predictions,
    reported_split,
    score,
    study_probabilities,
    view_probabilities,
)
from mura_tf.grid.finished import complete_ensembles, lost_starts, readable_runs
from mura_tf.grid.plan import PlannedRun
from mura_tf.papers.claims import answer_claims
from mura_tf.papers.deviations import (
    data_deviations,
    differences,
    listed,
    skipped_deviation,
    type_deviation,
)
from mura_tf.papers.document_pages import CHOSEN, DocumentReport, write_pages
from mura_tf.papers.documents import Comparison, System
from mura_tf.published import OVERALL, mura_studies, published_accuracies, published_table
from mura_tf.training.facts import write_facts
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run

PADDED = (
    "The document resizes images and does not say whether that stretches them; here they keep "
    "their shape and are padded with black to a square."
)


def report_comparison(
    comparison: Comparison,
    plan: list[PlannedRun],
    out: str | os.PathLike[str],
    *,
    report_only: bool = False,
) -> DocumentReport:
    """Writes `out/NAME/` from those of the planned runs that are finished.

    That is `table.md`, `scores.csv`, `epochs.csv`, `report.html`, the plots as SVG and
    `experiment.json`. A system that lacks a member of a study type is told without that type.

    Args:
        comparison: the systems.
        plan: their runs, finished or not.
        out: the folder above.
        report_only: see `write_facts`.

    Raises:
        ValueError: nothing of it is finished.
    """
    readable, unreadable = readable_runs(plan)
    finished = set(readable)
    complete, incomplete = complete_ensembles(plan, finished)
    runs: dict[System, list[Run]] = {}
    for one in complete:
        runs.setdefault(comparison.system(one), []).append(readable[one.folder])
    by_system = {
        system: load_predictions(run.path for run in found) for system, found in runs.items()
    }
    # under the systems' names, and of those alone that tell abnormal from normal
    named = [
        rows.assign(backbone=system.name, stage="")
        for system, rows in by_system.items()
        if system.recipe.task != "study_type"
    ]
    if not named:
        raise ValueError(
            f"no system of {comparison.name} that tells abnormal from normal is finished below "
            f"{out}: {len(finished)} of {len(plan)} planned runs are. The command with --data goes "
            "on with them." + "".join(f" {sentence}" for sentence in unreadable)
        )
    predictions = pd.concat(named, ignore_index=True)
    split = reported_split(predictions)
    predictions = predictions[predictions.split == split]
    studies = study_probabilities(predictions)
    types = sorted(studies.study_type.unique())
    views = read_views(comparison.folder(out) / "views.csv")
    classes = {
        system.name: score_classes(rows, system.recipe.task)
        for system, rows in by_system.items()
        if system.recipe.task != "abnormality"
    }
    report = DocumentReport(
        scores=_scores(comparison, runs, predictions, studies, classes),
        epochs=_epochs(comparison, runs),
        classes=classes,
        claims=answer_claims(comparison.claims, repeated_scores(studies, types)),
        deviations=_deviations(comparison, runs, studies, views),
        missing=unreadable + incomplete + lost_starts(complete, finished),
        split=split,
        readers=comparison.readers,
        quoted=_quoted_accuracies(comparison),
        counts=_counts(comparison, views),
    )
    shown = {system.title: found for system, found in runs.items()}
    folder = comparison.folder(out)
    write_pages(report, comparison.title, shown, folder)
    every = [run for found in runs.values() for run in found]
    write_facts(every, folder, report_only=report_only)
    return report


# ------------------------------------------------------------------------------------------------
# What it says


def _scores(
    comparison: Comparison,
    runs: dict[System, list[Run]],
    predictions: pd.DataFrame,
    studies: pd.DataFrame,
    classes: dict[str, ClassScores],
) -> pd.DataFrame:
    published = published_accuracies(comparison.name)
    types = set(studies.study_type)
    rows = []
    for system, found in runs.items():
        views = predictions[predictions.backbone == system.name]
        if views.empty:
            continue
        counts = _views_right(views, classes.get(system.name))
        for row in score(studies[studies.backbone == system.name]).to_dict("records"):
            overall = row["study_type"] == OVERALL
            if overall and set(views.study_type) != types:
                continue
            of_type = counts.loc[row["study_type"]]
            theirs = system.published if system.published and overall != system.per_type else ""
            rows.append(
                {
                    "system": system.name,
                    "title": system.title,
                    "backbone": found[0].recipe.backbone,
                    "study_type": row["study_type"],
                    "views": of_type.views,
                    "studies": row["n"],
                    "accuracy": of_type.right / of_type.views,
                    "published_accuracy": published.get((theirs, row["study_type"]), np.nan),
                }
                | {key: row[key] for key in _SCORED}
            )
    return pd.DataFrame(rows)


_SCORED = ("kappa", "kappa_low", "kappa_high", "auroc", "auroc_low", "auroc_high", "one_class")


def _views_right(views: pd.DataFrame, scores: ClassScores | None) -> pd.DataFrame:
    """`right, views`, a row per study type and "overall": how many the members' mean decides right.

    Args:
        views: predictions of one system on the reported split.
        scores: of the same system, if it has classes; then its class is what a view is decided for.
    """
    if scores is None:
        means = view_probabilities(views)
        right = (means.probability > THRESHOLD) == means.label
        counts = right.groupby(means.study_type).agg(right="sum", views="size")
    else:
        by_class = scores.confusion.sum(axis=1)
        counts = pd.DataFrame({"right": np.diag(scores.confusion), "views": by_class})
        counts = counts.groupby([type_and_label(name)[0] for name in scores.classes]).sum()
    counts.loc[OVERALL] = counts.sum()
    return counts.astype(int)


def _quoted_accuracies(comparison: Comparison) -> pd.DataFrame:
    rows = [
        {"title": comparison.quoted[system], "study_type": study_type, "accuracy": value}
        for (system, study_type), value in published_accuracies(comparison.name).items()
        if system in comparison.quoted
    ]
    return pd.DataFrame(rows, columns=["title", "study_type", "accuracy"])


def _counts(comparison: Comparison, views: pd.DataFrame) -> pd.DataFrame:
    """What the data has beside what the document says of its own, if it does.

    Returns:
        `title, study_type, count`; of all splits.
    """
    rows = published_table(comparison.name).query("system == 'data'")
    parts = []
    for metric, title, ours in (
        ("total_images", "studies", _study_counts(views)),
        ("augmented_total", "views", _with_overall(views.study_type.value_counts())),
    ):
        theirs = rows[rows.metric == metric].set_index("study_type").value
        if len(theirs):
            for name, counts in ((title, ours), (f"published: {metric.replace('_', ' ')}", theirs)):
                part = counts.rename("count").rename_axis("study_type").reset_index()
                parts.append(part.assign(title=name))
    columns = ["title", "study_type", "count"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def _study_counts(views: pd.DataFrame) -> pd.Series:
    """Study type or "overall" -> studies, of all splits."""
    studies = views.drop_duplicates(["study_type", "patient", "study"])
    return _with_overall(studies.study_type.value_counts())


def _with_overall(counts: pd.Series) -> pd.Series:
    counts = counts.sort_index()
    counts[OVERALL] = counts.sum()
    return counts


def _epochs(comparison: Comparison, runs: dict[System, list[Run]]) -> pd.DataFrame:
    published = published_table(comparison.name).query("study_type == 'overall'")
    rows = []
    for system, found in runs.items():
        histories = [run.history.set_index("epoch") for run in found]
        best = [run.info["best_epoch"] for run in found]
        chosen = pd.DataFrame(
            [history.loc[epoch] for history, epoch in zip(histories, best, strict=True)]
        )
        row = {
            "system": system.name,
            "title": system.title,
            "models": len(found),
            "epochs": np.mean([len(history) for history in histories]),
            "chosen": np.mean(best),
        } | chosen.reindex(columns=CHOSEN).mean().to_dict()
        # those over all study types are not of a model that has one
        theirs = published[(published.system == system.published) & (not system.per_type)]
        for name in CHOSEN[:4]:
            split = "valid" if name.startswith("val_") else "train"
            metric = name.removeprefix("val_")
            values = theirs[(theirs.split == split) & (theirs.metric == metric)].value
            row[f"published_{name}"] = values.iloc[-1] if len(values) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _deviations(
    comparison: Comparison,
    runs: dict[System, list[Run]],
    studies: pd.DataFrame,
    views: pd.DataFrame,
) -> list[str]:
    every = [run for found in runs.values() for run in found]
    pairs = [(run.recipe, system) for system, found in runs.items() for run in found]
    same_data = _study_counts(views).to_dict() == mura_studies("train", "valid").to_dict()
    sentences = data_deviations(_study_counts(studies), same_data) + skipped_deviation(every)
    backbones = dict.fromkeys((ours.backbone, one.recipe.backbone) for ours, one in pairs)
    sentences += [
        f"Backbone: {ours} instead of {theirs}." for ours, theirs in backbones if ours != theirs
    ]
    members = len({run.recipe.member for run in every})
    if members > 1:
        sentences.append(f"Models per system and study type: {members}; the document has 1.")
    by_types: dict[tuple[frozenset[str], frozenset[str]], list[str]] = {}
    for system, found in runs.items():
        if system.per_type and "study_types" not in system.left_open:
            ours = frozenset(name for run in found for name in run.recipe.study_types or ())
            theirs = frozenset(system.study_types or views.study_type)
            by_types.setdefault((ours, theirs), []).append(system.title)
    for (ours, theirs), titles in by_types.items():
        sentences += type_deviation(ours, theirs, of="; ".join(titles))
    if left_out := [system.title for system in comparison.systems if system not in runs]:
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
    sentences += differences(named, but=("holdout_by",))
    return [*sentences, *_choices(comparison, pairs), PADDED]


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
