"""Finished runs -> the systems that they are: what is averaged, and what stands side by side."""

import dataclasses
import os
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from mura_tf.data.findings import SPLIT_NAMES
from mura_tf.data.table import VIEW_KEY
from mura_tf.data.views import read_views
from mura_tf.evaluation.scores import SYSTEM_KEY, reported_split, system_name
from mura_tf.terminal import Notice
from mura_tf.training.recipe import Recipe, setting_text
from mura_tf.training.run import Run, RunFolders, finished_runs, load_predictions

_INSIDE_A_DATA_SET = {name for names in SPLIT_NAMES.values() for name in names} | {"images"}
"""Folders that say nothing of which data set it is."""


@dataclass(frozen=True)
class System:
    """Runs of one recipe on one data set: an ensemble, which may have models per study type.

    Attributes:
        name: no other system that it was told apart from has it.
        data: the name of its data set, by which those that can be compared are known.
        runs: its members.
        predictions: predictions table of all of them, with the name as `system`.
    """

    name: str
    data: str
    runs: list[Run]
    predictions: pd.DataFrame

    @cached_property
    def split(self) -> str:
        """The one that is reported."""
        return reported_split(self.predictions)

    @property
    def recipe(self) -> Recipe:
        """Of one of its runs."""
        return self.runs[0].recipe


def scored_systems(run_dirs: RunFolders) -> list[System]:
    """`systems_of` those runs that tell abnormal from normal.

    Raises:
        ValueError: there is none, or see `systems_of`.
    """
    every = systems_of(run_dirs)
    systems = [one for one in every if one.recipe.task != "study_type"]
    if not systems:
        raise ValueError(
            "what is scored here is abnormality, of which runs of the task 'study_type' say "
            f"nothing. Received: {', '.join(one.name for one in every)}. Score their classes with "
            "mura_tf.score_classes."
        )
    return systems


def systems_of(run_dirs: RunFolders) -> list[System]:
    """The systems that finished runs are, in the order in which they are told.

    Runs are one system where their recipes differ in member, study types, seed and the model they
    start from at most, and their data are the same: the fingerprints for the same study types, the
    views.csv of the experiment for different ones. Runs that predict a view twice as one member are
    told apart by seed and start as well. Each repeat is a system.

    Args:
        run_dirs: folders of finished runs.

    Returns:
        Those of the stage "type" first, then those with more members.

    Raises:
        ValueError: runs that are not finished, or damaged.
        FileNotFoundError: a file of one is gone.
    """
    runs = finished_runs(run_dirs)
    data = _data_sets(runs)
    together = _parted(runs, lambda run: (_recipe(run), run.recipe.repeat, data[run.path]))
    parts = [part for one in together for part in _loaded(one)]
    of = [data[part[0].path] for part, _ in parts]
    titles = _data_names(dict(zip(of, parts, strict=True)))
    names = _names([part for part, _ in parts], [titles[mark] for mark in of])
    found = [
        System(name, titles[mark], part, table.assign(system=name))
        for name, mark, (part, table) in zip(names, of, parts, strict=True)
    ]
    return sorted(found, key=_rank)


def predictions_of(systems: Sequence[System]) -> pd.DataFrame:
    """The predictions tables of systems, one below the other."""
    return pd.concat([system.predictions for system in systems], ignore_index=True)


def on_several_data_sets(systems: Sequence[System]) -> str:
    """A sentence where not all of them can be compared; otherwise ""."""
    data = list(dict.fromkeys(system.data for system in systems))
    if len(data) == 1:
        return ""
    return f"Compare systems of one data set only: these are of {len(data)}, {', '.join(data)}."


def the_first(systems: Sequence[System]) -> System:
    """The first of `systems_of`, for what is made of one; warns of others that are as good."""
    first, *others = systems
    if alike := [one.name for one in others if one.recipe.stage == first.recipe.stage]:
        warnings.warn(
            f"of {len(systems)} systems {first.name} is taken. Give the run folders of another for "
            f"that one: {'; '.join(alike)}.",
            Notice,
            stacklevel=3,
        )
    return first


def _rank(system: System) -> tuple[Hashable, ...]:
    members = system.predictions.groupby("study_type").member.nunique().max()
    key = [getattr(system.recipe, name) for name in SYSTEM_KEY]
    return (system.recipe.stage != "type", -members, *key, system.data, system.name)


def _recipe(run: Run) -> Recipe:
    """What the recipes of one system share, however it is spelled."""
    recipe = run.recipe
    return dataclasses.replace(
        recipe,
        weights=recipe.weights_name,
        image_size=recipe.side,
        initial=recipe.initial and "another run",
        study_types=None,
        seed=0,
        repeat=0,
        member=0,
    )


def _parted(runs: Iterable[Run], key: Callable[[Run], Hashable]) -> list[list[Run]]:
    parts: dict[Hashable, list[Run]] = {}
    for run in runs:
        parts.setdefault(key(run), []).append(run)
    return list(parts.values())


def _loaded(runs: list[Run]) -> list[tuple[list[Run], pd.DataFrame]]:
    """The runs with their predictions; in parts where together they predict a view twice."""
    table = load_predictions(run.path for run in runs)
    if not table.duplicated([*VIEW_KEY, "member"]).any():
        return [(runs, table)]
    parts = _parted(runs, lambda run: tuple(_start(run).items()))
    return [(part, load_predictions(run.path for run in part)) for part in parts]


def _start(run: Run) -> dict[str, str]:
    """What a run began with, and on, apart from its system's recipe."""
    initial = run.recipe.initial_path(run.path)
    return {
        "seed": str(run.recipe.seed),
        "initial": os.path.realpath(initial) if initial else "none",
        "trained on": "all" if run.recipe.study_types is None else "each study type",
    }


def _data_sets(runs: list[Run]) -> dict[Path, Hashable]:
    """Run folder -> a mark that runs on the same data share."""
    read: dict[Path, Hashable] = {}
    linked: list[tuple[set[Hashable], list[Run]]] = []
    for run in runs:
        signs = {_fingerprint(run), _views_above(run, read)} - {None}
        alike = [group for group in linked if group[0] & signs]
        linked = [group for group in linked if not group[0] & signs]
        both = set().union(signs, *(group[0] for group in alike))
        linked.append((both, [*(one for group in alike for one in group[1]), run]))
    tables = set(read.values())
    groups = [group for signs, group in linked if signs & tables]
    # of runs that lie alone nothing says that they are of several data sets but their fingerprints
    groups.append([run for signs, group in linked if not signs & tables for run in group])
    marks: dict[Path, Hashable] = {}
    for number, group in enumerate(groups):
        prints: dict[Hashable, set[str | None]] = {}
        same = [(run, _views_used(run), _fingerprint(run)) for run in group]
        for _, used, mark in same:
            prints.setdefault(used, set()).add(mark)
        tested: dict[Hashable, bool] = {}  # members predict the same views
        for run, used, mark in same:
            if (used, mark) not in tested:
                tested[used, mark] = _is_tested(run)
            changed = len(prints[used] - {None}) > 1
            marks[run.path] = number, tested[used, mark], mark if changed else None
    return marks


def _is_tested(run: Run) -> bool:
    """Whether it is reported on test, as all runs on one data set are, or none."""
    there = "test" in run.info.get("views", {})
    return there and reported_split(run.predictions) == "test"


def _fingerprint(run: Run) -> str | None:
    """Of the views; whether it learned from their boxes as well is no matter of the data set."""
    known = run.info.get("data_fingerprint")
    return known and known.partition("+")[0]


def _views_used(run: Run) -> Hashable:
    """What of its recipe decides which views of a data set a run uses, and as which split."""
    recipe = run.recipe
    dealt = (recipe.holdout, recipe.holdout_by, recipe.seed)
    types = recipe.study_types and tuple(sorted(recipe.study_types))
    return types, dealt if recipe.select_on == "holdout" else None


def _views_above(run: Run, read: dict[Path, Hashable]) -> Hashable:
    """What the views.csv of a run's experiment says, if it is in one.

    Args:
        run: it lies up to four folders below.
        read: the files that were read before; a new one is added.
    """
    paths = (folder / "views.csv" for folder in run.path.absolute().parents[:4])
    path = next(filter(Path.is_file, paths), None)
    if path is None:
        return None
    if path not in read:
        try:
            rows = read_views(path).drop(columns="path")
            read[path] = frozenset(rows.itertuples(index=False, name=None))
        except (OSError, ValueError):  # another table of that name, or a damaged one
            read[path] = str(path)
    return read[path]


def _data_names(data: Mapping[Hashable, tuple[list[Run], pd.DataFrame]]) -> dict[Hashable, str]:
    """A name for each data set: as much of its folder's end as no other has.

    Args:
        data: mark -> runs on it, with their predictions.
    """
    folders = {
        mark: _common_folder(table.path[table.member == table.member.iloc[0]])  # data may be moved
        for mark, (_, table) in data.items()
    }
    different = set(folders.values())
    count = 1
    while len({folder[-count:] for folder in different}) < len(different):
        count += 1
    names = {
        mark: "/".join(folder[-count:]).strip("/") or "its data" for mark, folder in folders.items()
    }
    given = Counter(names.values())
    return {
        mark: name if given[name] == 1 else f"{name} {runs[0].info['data_fingerprint'][:8]}"
        for (mark, name), (runs, _) in zip(names.items(), data.values(), strict=True)
    }


def _common_folder(paths: pd.Series) -> tuple[str, ...]:
    """The folder of a data set, in parts, by the files that were predicted."""
    try:
        parts = Path(os.path.commonpath(set(map(os.path.dirname, paths)))).parts
    except ValueError:  # absolute paths and others
        return ()
    inside = [index for index, part in enumerate(parts) if part.lower() in _INSIDE_A_DATA_SET]
    return parts[: inside[-1]] if inside else parts


def _names(parts: list[list[Run]], data: list[str]) -> list[str]:
    """Backbone and stage, and in which settings, data, seed or start those alike differ."""
    firsts = [part[0] for part in parts]
    names = [
        system_name(pd.Series({name: getattr(run.recipe, name) for name in SYSTEM_KEY}))
        for run in firsts
    ]
    settings = [
        {name: setting_text(value) for name, value in _recipe(run).to_dict().items()}
        for run in firsts
    ]
    names = _told_apart(names, settings)
    if len(set(data)) > 1:
        names = [f"{name}, on {one}" for name, one in zip(names, data, strict=True)]
    names = _told_apart(names, [_start(run) for run in firsts])
    return _told_apart(names, [{"in": str(run.path)} for run in firsts])


def _told_apart(names: list[str], facts: list[dict[str, str]]) -> list[str]:
    """Adds to names that are alike those of the facts in which they differ."""
    told = []
    for name, own in zip(names, facts, strict=True):
        alike = [other for one, other in zip(names, facts, strict=True) if one == name]
        differing = [key for key in own if len({other[key] for other in alike}) > 1]
        told.append(", ".join([name, *(f"{key} {own[key]}" for key in differing)]))
    return told
