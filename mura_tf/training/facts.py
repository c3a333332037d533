"""What a run was made with, and what a report was made from."""

import contextlib
import dataclasses
import importlib.metadata
import platform
import shlex
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mura_tf.cores import usable_cores
from mura_tf.data.text import read_object
from mura_tf.files import write_json
from mura_tf.models.backend import accelerator, keras_settings
from mura_tf.terminal import Notice
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run


def run_facts(recipe: Recipe, views: pd.DataFrame, fingerprint: str) -> dict[str, Any]:
    """What `run.json` says from the start: versions, Keras' settings, device, seed, data."""
    settings = keras_settings()
    libraries = dict.fromkeys(["mura-tf", "keras", "tensorflow", settings["backend"], "numpy"])
    versions = {name.replace("-", "_"): _version(name) for name in libraries}
    return {
        "recipe_hash": recipe.hash,
        "versions": versions | {"python": platform.python_version()},
        **settings,
        "device": accelerator() or f"CPU, {usable_cores()} cores",
        "seed": recipe.run_seed,
        "data_fingerprint": fingerprint,
        "views": views.split.value_counts().to_dict(),
        "of_trained_patients": _of_trained_patients(views),
    }


def _of_trained_patients(views: pd.DataFrame) -> dict[str, int]:
    """Split -> how many of its views are of patients that the training split has, too."""
    trained = views.patient.isin(views.patient[views.split == "train"])
    return views.split[trained & (views.split != "train")].value_counts().to_dict()


def views_of_trained_patients(runs: Iterable[Run], split: str) -> int:
    """How many views of a split are of patients that runs were trained on, by other views."""
    counts = {
        run.recipe.study_types: run.info.get("of_trained_patients", {}).get(split, 0)
        for run in runs
    }
    return counted_once(counts)


def counted_once(counts: Mapping[tuple[str, ...] | None, int]) -> int:
    """Views that runs count, of which several may have seen the same.

    Args:
        counts: study types, None for all -> views of these.
    """
    apart, seen = 0, set[str]()
    for types in sorted((one for one in counts if one), key=len):  # of one type, then of several
        apart += 0 if seen.issuperset(types) else counts[types]
        seen |= set(types)
    return max(counts.get(None, 0), apart)


def _version(library: str) -> str:
    for name in (library, f"{library}-cpu"):  # tensorflow-cpu is tensorflow, too
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "unknown"


def write_facts(runs: list[Run], folder: Path, *, report_only: bool = False) -> None:
    """Writes `folder/experiment.json`: what a row in a results table is traced back to.

    Lists where the runs differ, and the commands that have reported here.

    Args:
        runs: those that are reported.
        folder: of the report.
        report_only: whether this command trained nothing; then it is named only if no other is.
    """
    path = folder / "experiment.json"
    commands = _commands_before(path) if path.exists() else []
    if not (commands and report_only):
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        commands = list(dict.fromkeys([*commands, command]))
    infos = [run.info for run in runs]
    places = [place for run in runs for place in run.places]
    facts = {
        "commands": commands,
        "recipes": [recipe.written() for recipe in {_shared(run.recipe): None for run in runs}],
        "data_fingerprints": sorted({info["data_fingerprint"] for info in infos}),
        "versions": {
            name: sorted({place["versions"][name] for place in places if name in place["versions"]})
            for name in dict.fromkeys(name for place in places for name in place["versions"])
        },
        "backends": sorted({info["backend"] for info in infos}),
        "devices": sorted({place["device"] for place in places}),
        "runs": len(runs),
        "epochs": sum(len(info["seconds_per_epoch"]) for info in infos),
        "training_seconds": round(sum(info["seconds"] for info in infos)),
    }
    write_json(path, facts)


def _commands_before(path: Path) -> list[str]:
    """The commands in an `experiment.json`; where it is damaged they are lost, with a warning."""
    try:
        commands = read_object(path).get("commands", [])
        if isinstance(commands, list) and all(isinstance(one, str) for one in commands):
            return commands
        reason = f"its commands must be a list of text. Received: {commands!r}."
    except ValueError as error:
        reason = str(error)
    warnings.warn(
        f"{path} is damaged and written anew, without the commands before this one: {reason}",
        Notice,
        stacklevel=3,
    )
    return []


def _shared(recipe: Recipe) -> Recipe:
    """The recipe without what tells one run of a stage from another."""
    return dataclasses.replace(recipe, study_types=None, repeat=0, member=0)
