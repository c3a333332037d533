"""The systems of a document side by side: what is trained for them, on which split."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from mura_tf.claims import Claim, answer_claims
from mura_tf.classes import ClassScores, score_classes
from mura_tf.comparison import repeated_scores
from mura_tf.dataset import read_views, split_anew
from mura_tf.deviations import data_deviations, differences, skipped_deviation
from mura_tf.document_pages import CHOSEN, DocumentReport, write_pages
from mura_tf.evaluate import (
    load_predictions,
    reported_split,
    score,
    study_probabilities,
    view_probabilities,
)
from mura_tf.finished import complete_ensembles, lost_starts, readable_runs
from mura_tf.grid import SET_HERE, PlannedRun, require_unset
from mura_tf.layouts import OVERALL
from mura_tf.metrics import THRESHOLD
from mura_tf.published import mura_studies, published_table
from mura_tf.recipe import Recipe
from mura_tf.run import Run
from mura_tf.tasks import type_and_label

_SET_HERE = SET_HERE | {
    "stage": "each system has its own (--systems)",
    "repeat": "`members` (--members) says how many models there are",
    "initial": "each system starts from `weights` (--weights) or from another (--systems)",
    "holdout_by": "choose with `split_by` (--split-by)",
}
PADDED = (
    "The document resizes images and does not say whether that stretches them; here they keep "
    "their shape and are padded with black to a square."
)


@dataclass(frozen=True)
class System:
    """A system as its document describes it.

    Attributes:
        name: of its run folders and table rows.
        title: what it is called in tables.
        recipe: its settings.
        per_type: whether each study type has a model of its own, or one model has them all.
        study_types: those of `per_type`, unless the user names others; None for all.
        starts_from: the name of the system whose model it goes on from.
        published: what the document's CSV calls it, where it has an accuracy.
    """

    name: str
    title: str
    recipe: Recipe
    per_type: bool = False
    study_types: tuple[str, ...] | None = None
    starts_from: str | None = None
    published: str | None = None


@dataclass(frozen=True)
class Comparison:
    """A document's systems side by side.

    Attributes:
        name: of its file in `experiments`, and of its CSV in `experiments/published`.
        title: what the report is called.
        document: which of the five, such as "001".
        systems: what is compared, each after the one it starts from.
        fractions: of all views in train, valid and test, where the document splits anew; None
            where it keeps the data set's own split.
        choices: what was chosen where the document is vague, sentences.
        claims: the document's, to be checked.
        readers: whether the radiologists' kappas stand beside ours.
        quoted: what the document's CSV calls systems of its table that are none of `systems` ->
            what they are called in ours.
    """

    name: str
    title: str
    document: str
    systems: tuple[System, ...]
    fractions: tuple[float, float, float] | None = None
    choices: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    readers: bool = False
    quoted: Mapping[str, str] = field(default_factory=dict)
    OPTIONS: ClassVar = {
        "study_types",
        "systems",
        "settings",
        "backbones",
        "members",
        "split_by",
    }
    """Of `plan`."""

    def folder(self, out: str | os.PathLike) -> Path:
        """Where its runs and its report are, below `out`."""
        return Path(os.path.normpath(out)) / self.name

    def views(self, views: pd.DataFrame, split_by: str = "patient") -> pd.DataFrame:
        """The views in the document's split, see `split_anew`."""
        return split_anew(views, self.fractions, by=split_by) if self.fractions else views

    def plan(
        self,
        out: str | os.PathLike,
        known_types: Iterable[str],
        *,
        study_types: Iterable[str] | None = None,
        systems: Iterable[str] | None = None,
        settings: Mapping | None = None,
        backbones: Iterable[str] | None = None,
        members: int = 1,
        split_by: str = "patient",
    ) -> list[PlannedRun]:
        """Its runs, each after the one it starts from.

        Args:
            out: the folder above.
            known_types: the study types of the data.
            study_types: those that get a model of their own, instead of the systems'.
            systems: names of some; those they start from come along. All by default.
            settings: recipe settings instead of the document's; `weights` only where the document
                starts from ImageNet's.
            backbones: one, instead of the document's pretrained ones.
            members: models per system, whose probabilities are averaged. The documents have 1.
            split_by: how a holdout is split off, and how `views` deals `fractions`, of `SPLIT_BY`.

        Raises:
            ValueError: an unknown system or setting, several backbones, a study type that the
                data lack, a step alone, or `split_by` where nothing is split.
        """
        known, chosen = list(known_types), tuple(study_types or ())
        wanted = self._with_those_they_start_from(systems)
        self._require_scored(wanted)
        settings = dict(settings or {})
        require_unset(settings, _SET_HERE)
        settings["holdout_by"] = split_by
        if backbones:
            settings["backbone"] = _the_one(list(backbones))
        root = self.folder(out)
        plan = []
        for system in wanted:
            recipe = _changed(system.recipe, settings)
            for types in _types_of_runs(system, known, chosen):
                for member in range(members):
                    one = replace(recipe, study_types=types, member=member)
                    folder = _run_folder(root, system, one)
                    if system.starts_from:
                        start = _run_folder(root, self._named(system.starts_from), one)
                        # relative, so that the folder can be moved as a whole
                        initial = os.path.relpath(start / "best.keras", folder)
                        one = replace(one, initial=Path(initial).as_posix())
                    plan.append(PlannedRun(replace(one, stage=_stage(system)), folder))
        splits = self.fractions or any(run.recipe.select_on == "holdout" for run in plan)
        if split_by != "patient" and not splits:
            raise ValueError(
                f"{self.name} keeps the data set's split and has no holdout, so nothing is split "
                f"by {split_by}. Leave --split-by out."
            )
        return plan

    def report(self, plan: list[PlannedRun], out: str | os.PathLike) -> DocumentReport:
        """See `report_comparison`."""
        return report_comparison(self, plan, out)

    def system_of(self, run: PlannedRun) -> str:
        """What a run is trained for, in words."""
        return self._named(_system_name(run)).title

    def published_results(self) -> dict[str, str]:
        """`system_of` -> the document's accuracy, and of what.

        That is on its test data, or on its validation data where it has no other.
        """
        validation = _published_accuracies(self, "valid")
        found = _published_accuracies(self)
        texts = {}
        for system in self.systems:
            values = {
                name: value
                for (one, name), value in found.items()
                if one == system.published and (name == OVERALL) != system.per_type
            }
            if len(values) > 1:
                texts[system.title] = (
                    f"accuracy {min(values.values()):.3f} to {max(values.values()):.3f} by type"
                )
            elif values:
                ((name, value),) = values.items()
                texts[system.title] = f"accuracy {value:.3f}, {name}"
            elif (system.published, OVERALL) in validation and not system.per_type:
                value = validation[system.published, OVERALL]
                texts[system.title] = f"accuracy {value:.3f}, {OVERALL}, validation"
        return texts

    def _named(self, name: str) -> System:
        by_name = {system.name: system for system in self.systems}
        if name not in by_name:
            raise ValueError(
                f"a system of {self.name} must be one of {', '.join(by_name)}. Received: {name!r}."
            )
        return by_name[name]

    def _require_scored(self, systems: list[System]) -> None:
        steps = [one.name for one in systems if one.recipe.task == "study_type"]
        if len(steps) == len(systems):
            after = [one.name for one in self.systems if one.starts_from in steps]
            raise ValueError(
                f"{', '.join(steps)} is a step, which does not tell abnormal from normal. Name "
                f"{', '.join(after)} too."
            )

    def _with_those_they_start_from(self, names: Iterable[str] | None) -> list[System]:
        if names is None:
            return list(self.systems)
        wanted = [self._named(name) for name in names]
        for system in wanted:  # grows while it is walked
            if system.starts_from:
                wanted.append(self._named(system.starts_from))
        return [system for system in self.systems if system in wanted]


def report_comparison(
    comparison: Comparison, plan: list[PlannedRun], out: str | os.PathLike
) -> DocumentReport:
    """Writes `out/NAME/` from those of the planned runs that are finished.

    That is `table.md`, `scores.csv`, `epochs.csv`, `report.html`, the plots as SVG and
    `experiment.json`. A system that lacks a member of a study type is told without that type.

    Raises:
        ValueError: nothing of it is finished.
    """
    readable, unreadable = readable_runs(plan)
    finished = set(readable)
    complete, incomplete = complete_ensembles(plan, finished)
    runs = {
        system: [readable[one.folder] for one in complete if _system_name(one) == system.name]
        for system in comparison.systems
    }
    runs = {system: found for system, found in runs.items() if found}
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
    write_pages(report, comparison.title, shown, comparison.folder(out))
    return report


def _system_name(run: PlannedRun) -> str:
    return run.folder.parents[1].name


# ------------------------------------------------------------------------------------------------
# What it says


def _scores(comparison, runs, predictions, studies, classes) -> pd.DataFrame:
    published = _published_accuracies(comparison)
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
            theirs = system.published if overall != system.per_type else None
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


def _published_accuracies(
    comparison: Comparison, split: str = "test"
) -> dict[tuple[str, str], float]:
    """(system, study type) -> accuracy on the document's data of that split, or of none named."""
    rows = published_table(comparison.name).query("metric == 'accuracy'")
    rows = rows[rows.split.isna() | (rows.split == split)]
    # a value that comes twice in a document comes last as what was finally reached
    return rows.groupby(["system", "study_type"]).value.last().to_dict()


def _quoted_accuracies(comparison: Comparison) -> pd.DataFrame:
    rows = [
        {"title": comparison.quoted[system], "study_type": study_type, "accuracy": value}
        for (system, study_type), value in _published_accuracies(comparison).items()
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
        # of two with one name, the published values over all study types are the unified model's
        unified = any(
            one.published == system.published and not one.per_type for one in comparison.systems
        )
        theirs = published[(published.system == system.published) & (system.per_type != unified)]
        for name in CHOSEN[:4]:
            split = "valid" if name.startswith("val_") else "train"
            metric = name.removeprefix("val_")
            values = theirs[(theirs.split == split) & (theirs.metric == metric)].value
            row[f"published_{name}"] = values.iloc[-1] if len(values) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _deviations(
    comparison: Comparison, runs: dict, studies: pd.DataFrame, views: pd.DataFrame
) -> list[str]:
    every = [run for found in runs.values() for run in found]
    pairs = [(run.recipe, system.recipe) for system, found in runs.items() for run in found]
    same_data = _study_counts(views).to_dict() == mura_studies("train", "valid").to_dict()
    sentences = data_deviations(_study_counts(studies), same_data) + skipped_deviation(every)
    backbones = dict.fromkeys((ours.backbone, theirs.backbone) for ours, theirs in pairs)
    sentences += [
        f"Backbone: {ours} instead of {theirs}." for ours, theirs in backbones if ours != theirs
    ]
    members = len({run.recipe.member for run in every})
    if members > 1:
        sentences.append(f"Models per system and study type: {members}; the document has 1.")
    for system, found in runs.items():
        ours = [name for run in found for name in run.recipe.study_types or ()]
        if system.study_types and set(ours) != set(system.study_types):
            ours, theirs = ", ".join(dict.fromkeys(ours)), ", ".join(system.study_types)
            sentences.append(f"{system.title}: {ours} instead of {theirs}.")
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
    sentences += differences(pairs, but=("holdout_by",))
    return [*sentences, *comparison.choices, PADDED]


def _changed(recipe: Recipe, settings: Mapping) -> Recipe:
    """The recipe with those of the settings that are meant for it.

    A model that the document trains from scratch keeps its backbone and its random weights, and
    only the task abnormality has labels to balance.
    """
    kept = set()
    if recipe.weights is None:
        kept |= {"backbone", "weights"}
    if recipe.task != "abnormality":
        kept |= {"balance"}
    return recipe.changed({name: value for name, value in settings.items() if name not in kept})


def _the_one(backbones: list[str]) -> str:
    if len(backbones) > 1:
        raise ValueError(
            "one backbone takes the place of the document's. Received: "
            f"{', '.join(backbones)}. Use another --out for each."
        )
    return backbones[0]


def _types_of_runs(
    system: System, known: list[str], chosen: tuple[str, ...]
) -> list[tuple[str, ...] | None]:
    """`Recipe.study_types` of each of the system's runs."""
    if not system.per_type:
        return [None]
    types = tuple(dict.fromkeys(chosen or system.study_types or known))
    lacking = [name for name in types if name not in known]
    if lacking:
        raise ValueError(
            f"{system.name} has a model per study type. Received: data without "
            f"{', '.join(lacking)}; they have {', '.join(known)}. Choose among these with --types."
        )
    return [(name,) for name in types]


def _run_folder(root: Path, system: System, recipe: Recipe) -> Path:
    types = "+".join(recipe.study_types or ["all"]) if system.per_type else "all"
    return root / system.name / types / f"member{recipe.member}"


def _stage(system: System) -> str:
    if not system.per_type:
        return "mura"
    return "type" if system.starts_from else "imagenet"
