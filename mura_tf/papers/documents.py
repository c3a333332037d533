"""The systems of a document side by side: what is trained for them, on which split."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from mura_tf.data.splits import split_anew, split_the_rest
from mura_tf.grid.plan import SET_HERE, PlannedRun, require_counts, require_unset
from mura_tf.papers.claims import Claim
from mura_tf.published import LONG_FORM, OVERALL, published_accuracies, published_table
from mura_tf.training.recipe import Recipe

PADDED = (
    "The document resizes images and does not say whether that stretches them; here they keep "
    "their shape and are padded with black to a square."
)
"""Of a document's choices, the last."""
STARTS = (
    "ImageNet weights of ResNet-18, and of ResNet-50 as torchvision has it, are here keras-hub's, "
    "made from timm's a1_in1k; those that PyTorch brings had another training.",
    "What is not pretrained begins as in Keras: Glorot uniform kernels, Glorot normal in the "
    "output layer. PyTorch draws both otherwise, and the document names nothing else.",
)
"""Of the choices of what began in PyTorch: pretrained layers, and new ones."""
OF_PYTORCH = (
    "It trained with PyTorch, whose batch norm keeps unbiased variances; Keras' are smaller by one "
    "part in as many as a batch has places."
)
"""Of the choices of what is trained here with the settings of PyTorch's batch norm."""
_SET_HERE = SET_HERE | {
    "stage": "each system has its own (--systems)",
    "repeat": "`members` (--members) says how many models there are",
    "initial": "each system starts from `weights` (--weights) or from another (--systems)",
    "holdout_by": "choose with `split_by` (--split-by)",
}


@dataclass(frozen=True)
class System:
    """A system as its document describes it.

    Attributes:
        name: of its run folders and table rows.
        title: what it is called in tables.
        recipe: its settings.
        per_type: whether each study type has a model of its own, or one model has them all.
        together: whether one model has all `study_types`, and only these.
        study_types: those of `per_type` or `together`, unless the user names others; None for all.
        starts_from: the name of the system whose model it goes on from.
        specialists: the name of a system with a model per study type; then nothing is trained for
            this one: each view goes to the model of the type that the system `recognised_by` takes
            it for.
        recognised_by: the name of a system that tells study types apart.
        beside: names of systems that it says nothing without.
        published: what the document's CSV calls it, where it has an accuracy.
        left_open: settings that the document does not name: its recipe's are a choice.
    """

    name: str
    title: str
    recipe: Recipe
    per_type: bool = False
    together: bool = False
    study_types: tuple[str, ...] | None = None
    starts_from: str | None = None
    specialists: str | None = None
    recognised_by: str | None = None
    beside: tuple[str, ...] = ()
    published: str | None = None
    left_open: tuple[str, ...] = ()

    def is_scored_on(self, name: str) -> bool:
        """Whether a row that a document calls so is of one of its models; `OVERALL`, of one on all.

        Several types together are named as in "finger and wrist".
        """
        if self.together:
            return name == " and ".join(sorted(self.study_types or ()))
        return " and " not in name and (name == OVERALL) != self.per_type


@dataclass(frozen=True)
class Comparison:
    """A document's systems side by side.

    Attributes:
        name: of its file in `experiments`, and of its CSV in `experiments/published`, if any.
        title: what the report is called.
        document: which of the five, such as "001".
        systems: what is compared, each after the one it starts from.
        fractions: of all views in train, valid and test, where the document splits anew; None
            where it keeps the data set's own split.
        rest: of the views that the data set does not report in train and valid, where the
            document's numbers are of another split than its text tells: `split` "document".
        split_choices: of `splits`, what is to be said of it among the `choices`.
        choices: what was chosen where the document is vague, sentences; "{batch_size}" in one
            becomes what the systems have that leave it open, and the sentence goes where none do.
        claims: the document's, to be checked.
        members: models per system and study type, whose probabilities are averaged.
        printed: whether the document prints numbers of it, which then are in its CSV.
        readers: whether the radiologists' kappas stand beside ours, whatever the data.
        quoted: what the document's CSV calls systems of its table that are none of `systems` ->
            what they are called in ours.
        leaderboard: what the document's CSV calls the models of a list by kappa that it shows ->
            what they are called in ours.
    """

    name: str
    title: str
    document: str
    systems: tuple[System, ...]
    fractions: tuple[float, float, float] | None = None
    rest: tuple[float, float] | None = None
    split_choices: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    members: int = 1
    printed: bool = True
    readers: bool = False
    quoted: Mapping[str, str] = field(default_factory=dict)
    leaderboard: Mapping[str, str] = field(default_factory=dict)
    OPTIONS: ClassVar = {
        "study_types",
        "systems",
        "settings",
        "backbones",
        "members",
        "split",
        "split_by",
    }
    """Of `plan`."""

    def folder(self, out: str | os.PathLike[str]) -> Path:
        """Where its runs and its report are, below `out`."""
        return Path(os.path.normpath(out)) / self.name

    @property
    def splits(self) -> tuple[str, ...]:
        """How its views can be split: as the text tells, or as its numbers are."""
        return ("text", "document") if self.rest else ("text",)

    def views(
        self, views: pd.DataFrame, split_by: str = "patient", split: str = "text"
    ) -> pd.DataFrame:
        """The views in the document's split.

        Args:
            views: views table.
            split_by: of `SPLIT_BY`.
            split: of `splits`.
        """
        self._require_split(split)
        if self.rest and split == "document":
            return split_the_rest(views, self.rest, by=split_by)
        return split_anew(views, self.fractions, by=split_by) if self.fractions else views

    def plan(
        self,
        out: str | os.PathLike[str],
        known_types: Iterable[str],
        *,
        study_types: Iterable[str] | None = None,
        systems: Iterable[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        backbones: Iterable[str] | None = None,
        members: int | None = None,
        split: str = "text",
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
            members: instead of the document's.
            split: of `splits`; which views the runs get, `views` says.
            split_by: how a holdout is split off, and how `views` deals `fractions`, of `SPLIT_BY`.

        Raises:
            ValueError: an unknown system or setting, another task, several backbones, a study type
                that the data lack, a step alone, or `study_types`, `backbones` or `split_by` that
                none of the systems heeds.
        """
        known, chosen = list(known_types), tuple(study_types or ())
        members = self.members if members is None else members
        require_counts(members=members)
        self._require_split(split)
        names = systems or [one.name for one in self.systems if _fits(one, known, chosen)]
        wanted = self._with_those_they_need(names)
        everywhere = self.handed_to(wanted)
        if everywhere and not _has_all(chosen, known):
            raise ValueError(
                f"{', '.join(one.name for one in wanted if one.specialists)} hands views to models "
                f"of all study types, {', '.join(known)}. Received: {', '.join(chosen)}. Leave "
                "--types out, or choose other --systems."
            )
        self._require_scored(wanted)
        if chosen and not any(system.per_type or system.together for system in wanted):
            raise ValueError(
                f"no system here of {self.name} has a model per study type. Received: "
                f"{', '.join(chosen)}. Leave --types out, or choose other --systems."
            )
        if backbones and not any(system.recipe.weights for system in wanted):
            raise ValueError(
                f"no system here of {self.name} has a pretrained backbone to replace. Received: "
                f"{', '.join(backbones)}. Leave --backbones out, or choose other --systems."
            )
        settings = dict(settings or {})
        require_unset(settings, _SET_HERE)
        settings["holdout_by"] = split_by
        if backbones:
            settings["backbone"] = _the_one(list(backbones))
        root = self.folder(out)
        plan = []
        for system in wanted:
            if system.specialists:
                continue
            recipe = _changed(system, settings)
            everyone = chosen or (known if system in everywhere else ())
            for types in _types_of_runs(system, known, tuple(everyone)):
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

    def handed_to(self, systems: Iterable[System]) -> list[System]:
        """Those that have a model of every study type, because views are handed to them."""
        names = [system.specialists for system in systems if system.specialists]
        return [one for one in self._with_those_they_need(names) if one.per_type]

    def system(self, run: PlannedRun) -> System:
        """What a run of its plan is trained for."""
        return self._named(run.folder.parents[1].name)

    def system_of(self, run: PlannedRun) -> str:
        """The same in words."""
        return self.system(run).title

    def published(self) -> pd.DataFrame:
        """What the document prints of it, in the long form of `experiments/published`."""
        return published_table(self.name) if self.printed else pd.DataFrame(columns=LONG_FORM)

    def published_results(self) -> dict[str, str]:
        """`system_of` -> the document's accuracy, and of what.

        That is on its test data, or on its validation data where it has no other.
        """
        validation = published_accuracies(self.published(), "valid")
        found = published_accuracies(self.published())
        texts = {}
        for system in self.systems:
            values = {
                name: value
                for (one, name), value in found.items()
                if one == system.published and system.is_scored_on(name)
            }
            if len(values) > 1:
                texts[system.title] = (
                    f"accuracy {min(values.values()):.3f} to {max(values.values()):.3f} by type"
                )
            elif values:
                ((name, value),) = values.items()
                texts[system.title] = f"accuracy {value:.3f}, {name}"
            elif system.published and not system.per_type:
                validated = validation.get((system.published, OVERALL))
                if validated is not None:
                    texts[system.title] = f"accuracy {validated:.3f}, {OVERALL}, validation"
        return texts

    def _require_split(self, split: str) -> None:
        if split not in self.splits:
            raise ValueError(
                f"the split of {self.name} must be one of {', '.join(self.splits)}. Received: "
                f"{split!r}."
            )

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

    def _with_those_they_need(self, names: Iterable[str]) -> list[System]:
        wanted = [self._named(name) for name in names]
        for system in wanted:  # grows while it is walked
            needed = (system.starts_from, system.specialists, system.recognised_by, *system.beside)
            wanted += [self._named(name) for name in needed if name]
        return [system for system in self.systems if system in wanted]


def _fits(system: System, known: list[str], chosen: tuple[str, ...]) -> bool:
    """Whether a system that nobody asked for by name can be had of these study types."""
    if system.together:
        return len(set(chosen) or set(system.study_types or ()) & set(known)) > 1
    return not system.specialists or _has_all(chosen, known)


def _has_all(chosen: tuple[str, ...], known: list[str]) -> bool:
    """Whether the study types chosen are all there are; none chosen leaves them all."""
    return not chosen or set(chosen) >= set(known)


def _changed(system: System, settings: Mapping[str, Any]) -> Recipe:
    """The system's recipe with those of the settings that are meant for it.

    A model that the document trains from scratch keeps its backbone and its random weights, and
    only the task abnormality has labels to balance.
    """
    recipe, kept = system.recipe, set()
    task = settings.get("task", recipe.task)
    if task != recipe.task:
        raise ValueError(
            f"{system.name} has the task {recipe.task}. Received a recipe with {task!r}. Take it "
            "out."
        )
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
    if not (system.per_type or system.together):
        return [None]
    types = tuple(dict.fromkeys(chosen or system.study_types or known))
    lacking = [name for name in types if name not in known]
    if lacking:
        raise ValueError(
            f"{system.name} is trained on study types of its own. Received: data without "
            f"{', '.join(lacking)}; they have {', '.join(known)}. Choose among these with --types."
        )
    if not system.together:
        return [(name,) for name in types]
    if len(types) < 2:
        raise ValueError(
            f"{system.name} has one model of several study types. Received: {types[0]} alone. Name "
            "more with --types, or choose other --systems."
        )
    return [tuple(sorted(types))]


def _run_folder(root: Path, system: System, recipe: Recipe) -> Path:
    several = system.per_type or system.together
    types = "+".join(recipe.study_types or ["all"]) if several else "all"
    return root / system.name / types / f"member{recipe.member}"


def _stage(system: System) -> str:
    if not (system.per_type or system.together):
        return "mura"
    return "type" if system.starts_from else "imagenet"
