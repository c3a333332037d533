"""A document's table, from radiographs to the report: plan, train, compare."""

import os
from collections.abc import Iterable
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pandas as pd

from mura_tf.backbones import BACKBONES
from mura_tf.dataset import load_views, read_views
from mura_tf.engines import Engine
from mura_tf.grid import PlannedRun, run_plan
from mura_tf.parameters import ParameterTable
from mura_tf.progress import duration
from mura_tf.published import published_table
from mura_tf.recipe import Recipe
from mura_tf.run import Run
from mura_tf.tables import Experiment, TableReport, report_table


def experiment_names() -> list[str]:
    """The files of `experiments` that `find_experiment` knows."""
    folder = files("mura_tf.experiments")
    return sorted(
        path.name.removesuffix(".py")
        for path in folder.iterdir()
        if path.name.endswith(".py") and "EXPERIMENT" in path.read_text(encoding="utf-8")
    )


def find_experiment(name: str) -> Experiment | ParameterTable:
    """The `EXPERIMENT` of `experiments/NAME.py`, or a ValueError that lists the names."""
    if name not in experiment_names():
        raise ValueError(
            f"an experiment must be one of {', '.join(experiment_names())}. Received: {name!r}."
        )
    return import_module(f"mura_tf.experiments.{name}").EXPERIMENT


def reproduce(
    experiment: Experiment,
    out: str | os.PathLike,
    data: str | os.PathLike | None = None,
    *,
    study_types: Iterable[str] | None = None,
    recipe: Recipe | None = None,
    backbones: Iterable[str] | None = None,
    members: int | None = None,
    repeats: int | None = None,
    engine: Engine | None = None,
    cache_dir: str | os.PathLike | None = None,
    skip_bad: bool = False,
) -> tuple[TableReport, dict[Path, str]]:
    """Trains what is not trained yet below `out`, and writes `out/NAME/`, see `report_table`.

    Runs that two experiments share, such as those of Tables IV and VI, are trained once if they
    have one `out`.

    Args:
        experiment: of `find_experiment`.
        out: folder of the runs and the tables.
        data: a MURA-shaped or FracAtlas folder, or the folder above it. Without it nothing is
            trained: the report is made from what is finished.
        study_types: those to train a model for; all of the data by default.
        recipe, backbones, members, repeats: instead of the document's.
        engine, cache_dir, skip_bad: see `run_plan`.

    Returns:
        What the table says, and folder -> reason of the runs that failed.

    Raises:
        FileNotFoundError: no `data`, and nothing was trained below `out`.
        ValueError: see `run_plan` and `report_table`.
    """
    changed = {"recipe": recipe, "backbones": backbones, "members": members, "repeats": repeats}
    views = load_views(data) if data else _views_of(out)
    plan = experiment.plan(out, study_types or sorted(views.study_type.unique()), **changed)
    failed = {}
    if data:
        settings = {"engine": engine, "cache_dir": cache_dir, "skip_bad": skip_bad}
        failed = run_plan(plan, views, out, **settings)
    return report_table(experiment, plan, out), failed


def _views_of(out: str | os.PathLike) -> pd.DataFrame:
    path = Path(out) / "views.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there, expected the folder of an experiment that was begun. Give its "
            "folder as --out, or --data to begin one."
        )
    return read_views(path)


def cost(
    experiment: Experiment,
    out: str | os.PathLike,
    data: str | os.PathLike | None = None,
    *,
    study_types: Iterable[str] | None = None,
    **changed,
) -> tuple[pd.DataFrame, str]:
    """What `reproduce` would cost, from a measured step of each backbone on this machine.

    How many epochs a run takes is known once it is done: `patience` + 2 are the fewest (the first
    one, and those without a rise until it stops), `max_epochs` the most.

    Args:
        experiment, out, data, study_types: see `reproduce`; without `data` MURA's published counts
            are taken.
        changed: `recipe`, `backbones`, `members`, `repeats`, see `reproduce`.

    Returns:
        A table to print, a row per backbone and stage and "all": `done` counts runs, and what is
        behind it is of those that are left, from least to most; and the total as a sentence. GB
        are the models'; while it trains, a run keeps four times its model for exact resume.

    Raises:
        ValueError: a study type that the data has not.
    """
    counts = _training_counts(load_views(data) if data else None)
    plan = experiment.plan(out, study_types or sorted(counts), **changed)
    unknown = {name for run in plan for name in run.recipe.study_types or ()} - set(counts)
    if unknown:
        raise ValueError(
            f"study_types must be among {', '.join(sorted(counts))}. "
            f"Received: {', '.join(sorted(unknown))}."
        )

    from mura_tf.training import measure_step

    recipes = {run.recipe.backbone: run.recipe for run in plan}
    rates = {backbone: measure_step(recipe) for backbone, recipe in recipes.items()}
    costs = pd.DataFrame([_cost(run, counts, rates[run.recipe.backbone]) for run in plan])
    total = costs.drop(columns=["backbone", "stage"]).sum()
    rows = [
        (backbone, stage, *_columns(rows.sum(numeric_only=True)), f"{rates[backbone]:.1f}")
        for (backbone, stage), rows in costs.groupby(["backbone", "stage"], sort=False)
    ]
    rows.append(("all", "", *_columns(total), ""))
    names = ["backbone", "stage", "done", "M images", "hours", "GB", "images/s"]
    starts = sum(run.needs is not None for run in plan)
    shared = len({run.needs for run in plan} - {None})
    return pd.DataFrame(rows, columns=names), (
        f"{total.runs:.0f} runs, {total.done:.0f} of them finished; {starts} start from {shared} "
        f"whole-data model{'s' * (shared > 1)}. What is left sees {total.images_least / 1e6:.2f} "
        f"to {total.images_most / 1e6:.2f} million images, {duration(total.hours_least * 3600)} to "
        f"{duration(total.hours_most * 3600)} on this machine, one run at a time, and keeps "
        f"{total.gigabytes:.2f} GB of models."
    )


def _columns(costs: pd.Series) -> tuple[str, str, str, str]:
    """What `cost` tells of a sum over runs: done, M images, hours, GB."""
    images = _range(costs.images_least / 1e6, costs.images_most / 1e6)
    hours = _range(costs.hours_least, costs.hours_most)
    return f"{costs.done:.0f}/{costs.runs:.0f}", images, hours, f"{costs.gigabytes:.1f}"


def _range(least: float, most: float) -> str:
    low, high = (f"{value:.1f}" if value < 10 else f"{value:.0f}" for value in (least, most))
    return low if low == high else f"{low}\u2013{high}"


def _cost(run: PlannedRun, counts: dict[str, int], rate: float) -> dict:
    recipe, finished = run.recipe, Run(run.folder).finished
    epoch = 0 if finished else sum(counts[name] for name in recipe.study_types or counts)
    if recipe.select_on == "holdout":
        epoch = round(epoch * (1 - recipe.holdout))
    least = epoch * min(recipe.patience + 2, recipe.max_epochs)
    most = epoch * recipe.max_epochs
    return {
        "backbone": recipe.backbone,
        "stage": recipe.stage,
        "runs": 1,
        "done": int(finished),
        "images_least": least,
        "images_most": most,
        "hours_least": least / rate / 3600,
        "hours_most": most / rate / 3600,
        "gigabytes": 0 if finished else BACKBONES[recipe.backbone].parameters * 4 / 1e9,
    }


def _training_counts(views: pd.DataFrame | None) -> dict[str, int]:
    """study type -> views of the train split; MURA's published ones without `views`."""
    if views is None:
        train = published_table("table_i").query("split == 'train' and study_type != 'all'")
        return train.groupby("study_type").images.sum().to_dict()
    return views[views.split == "train"].study_type.value_counts().to_dict()
