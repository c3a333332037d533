"""A document's table, from radiographs to the report: plan, train, compare."""

import os
from collections.abc import Mapping
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from mura_tf.data.table import SPLITS
from mura_tf.data.text import read_object
from mura_tf.data.views import load_views, read_views
from mura_tf.evaluation.scores import reported_split
from mura_tf.files import write_json
from mura_tf.grid.engines import Engine
from mura_tf.grid.plan import PlannedRun, require_reported_labels, run_plan
from mura_tf.grid.progress import duration
from mura_tf.models.backend import require_backend
from mura_tf.models.specs import parse_sizes
from mura_tf.papers.document_pages import DocumentReport
from mura_tf.papers.document_reports import finished_systems, report_comparison
from mura_tf.papers.documents import Comparison
from mura_tf.papers.parameters import ParameterTable
from mura_tf.papers.routing import compose
from mura_tf.papers.table_pages import TableReport
from mura_tf.papers.tables import Experiment, report_table
from mura_tf.published import OVERALL, mura_studies, published_table
from mura_tf.terminal import track, waiting
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run

Reproducible = Experiment | Comparison
"""What is trained for a document."""
SPLIT_FILE = "split.json"
"""Beside `views.csv`, where there is a choice of splits."""


def experiment_names() -> list[str]:
    """The files of `experiments` that `find_experiment` knows."""
    folder = files("mura_tf.experiments")
    return sorted(
        path.name.removesuffix(".py")
        for path in folder.iterdir()
        if path.name.endswith(".py") and "EXPERIMENT" in path.read_text(encoding="utf-8")
    )


def find_experiment(name: str) -> Reproducible | ParameterTable:
    """The `EXPERIMENT` of `experiments/NAME.py`, or a ValueError that lists the names."""
    if name not in experiment_names():
        raise ValueError(
            f"an experiment must be one of {', '.join(experiment_names())}. Received: {name!r}."
        )
    return import_module(f"mura_tf.experiments.{name}").EXPERIMENT


def reproduce(
    experiment: Reproducible,
    out: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    engine: Engine | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    skip_bad: bool | float = False,
    progress: bool = False,
    **options: Any,
) -> tuple[TableReport | DocumentReport, dict[Path, str]]:
    """Trains what is not trained yet below `out`, and writes `out/NAME/`.

    Runs that two tables share, such as those of Tables IV and VI, are trained once if they have one
    `out`.

    Args:
        experiment: of `find_experiment`.
        out: folder of the runs and the reports.
        data: a MURA-shaped or FracAtlas folder, or the folder above it. Without it nothing is
            trained: the report is made from what is finished.
        engine, cache_dir, skip_bad: see `run_plan`.
        progress: whether to show progress bars.
        options: of the experiment's `plan`, instead of what the document has.

    Returns:
        What the report says, and folder -> reason of the runs that failed.

    Raises:
        FileNotFoundError: no `data`, and nothing was trained below `out`.
        ValueError: an option that the experiment has not, a folder begun with another split, or
            settings other than those of the runs that are there; see `run_plan` and the reports.
    """
    require_options(experiment, options)
    folder = experiment.folder(out)
    options |= _begun_split(experiment, folder, options.get("split"))
    views = _views(experiment, data, options, progress) if data else _begun_views(folder)
    plan = experiment.plan(out, sorted(views.study_type.unique()), **options)
    failed: dict[Path, str] = {}
    if data:
        require_reported_labels(plan, views)
        _require_reported_types(plan, views)
        if "split" in options:
            write_json(folder / SPLIT_FILE, {"split": options["split"]})
        failed = run_plan(
            plan, views, folder, engine=engine, cache_dir=cache_dir, skip_bad=skip_bad
        )
        if isinstance(experiment, Comparison):
            compose(experiment, finished_systems(experiment, plan)[0], views, out, cache_dir)
    elif options.get("settings") or (
        isinstance(experiment, Comparison) and (options.get("backbones") or options.get("split_by"))
    ):  # of a table, whose runs lie below their backbones' names, --backbones chooses among them
        _require_recipes(plan)
    with waiting("Writing the report", shown=progress):
        if isinstance(experiment, Experiment):
            return report_table(experiment, plan, out, report_only=not data), failed
        split = options.get("split", "text")
        return report_comparison(experiment, plan, out, split=split, report_only=not data), failed


def _require_reported_types(plan: list[PlannedRun], views: pd.DataFrame) -> None:
    """ValueError where a study type that is asked for has no views to be scored on."""
    views = views[views.study_type.isin({n for run in plan for n in run.recipe.study_types or ()})]
    split = reported_split(views)
    if lacking := sorted(set(views.study_type) - set(views.study_type[views.split == split])):
        raise ValueError(
            f"every study type needs views in {split}, which is reported. Received: none of "
            f"{', '.join(lacking)}. Move some of theirs there, or choose others (--types)."
        )


def _begun_split(experiment: Reproducible, folder: Path, asked: str | None) -> dict[str, str]:
    """`split`, of `Comparison.splits`, of the runs in a folder; the first command chooses it.

    Nothing of an experiment whose data are split in one way.
    """
    if not (isinstance(experiment, Comparison) and experiment.rest):
        return {}
    if not (folder / "views.csv").exists():
        return {"split": asked or "text"}
    path, begun = folder / SPLIT_FILE, "text"
    if path.exists():
        begun = read_object(path).get("split", "nothing")
        if begun not in experiment.splits:
            raise ValueError(
                f"{path} must say with which split the runs beside it were begun: a JSON object "
                f"whose split is {' or '.join(experiment.splits)}. Received: {begun!r}. Write it "
                "there, or use another --out."
            )
    if asked not in (None, begun):
        raise ValueError(
            f"{folder} holds runs on the split {begun!r}. Received: --split {asked}. Use another "
            "--out for each split."
        )
    return {"split": begun}


def _require_recipes(plan: list[PlannedRun]) -> None:
    for run in plan:
        Run(run.folder).require_recipe(run.recipe)


def require_options(experiment: Reproducible, options: Mapping[str, Any]) -> None:
    """ValueError where `reproduce` would raise one for its `options` whatever the data are."""
    if unknown := options.keys() - experiment.OPTIONS:
        raise ValueError(
            f"{experiment.name} has the options {', '.join(sorted(experiment.OPTIONS))}. "
            f"Received: {', '.join(sorted(unknown))}."
        )
    known = options.get("study_types") or set(mura_studies("valid").index) - {OVERALL}
    experiment.plan("", sorted(known), **options)


def _views(
    experiment: Reproducible,
    data: str | os.PathLike[str],
    options: Mapping[str, Any],
    progress: bool,
) -> pd.DataFrame:
    split = {name: value for name, value in options.items() if name in ("split", "split_by")}
    return experiment.views(load_views(data, progress=progress), **split)


def _begun_views(folder: Path) -> pd.DataFrame:
    path = folder / "views.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there, expected the folder of an experiment that was begun. Give as "
            "--out what was --out then, or --data to begin one."
        )
    return read_views(path)


def cost(
    experiment: Reproducible,
    out: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    progress: bool = False,
    **options: Any,
) -> tuple[pd.DataFrame, str]:
    """What `reproduce` would cost, from a measured step of each kind on this machine.

    How many epochs a run takes is known once it is done: `patience` + 2 are the fewest (the first
    one, and those without a rise until it stops), `max_epochs` the most.

    Args:
        experiment, out, data, options: see `reproduce`; without `data` MURA's published counts are
            taken.
        progress: whether to show progress bars.

    Returns:
        A table to print, a row per system and stage and "all": `done` counts runs, and what is
        behind it is of those that are left, from least to most; and the total as a sentence. GB
        are the models'; while it trains, a run keeps four times its model for exact resume. The
        cache, which all runs of one image size share, is in the sentence alone.

    Raises:
        ValueError: a study type that the data has not, or a run folder of another recipe.
    """
    require_options(experiment, options)
    options |= _begun_split(experiment, experiment.folder(out), options.get("split"))
    views = _views(experiment, data, options, progress) if data else None
    counts = _training_counts(experiment, views, options.get("split"))
    plan = experiment.plan(out, sorted(counts), **options)
    unknown = {name for run in plan for name in run.recipe.study_types or ()} - set(counts)
    if unknown:
        raise ValueError(
            f"study_types must be among {', '.join(sorted(counts))}. "
            f"Received: {', '.join(sorted(unknown))}."
        )
    _require_recipes(plan)
    require_backend(training=True)

    from mura_tf.training.train import measure_step

    recipes = {_step(run.recipe): run.recipe for run in plan}
    kinds = track(recipes.items(), "Measuring", shown=progress)
    measured = {step: measure_step(recipe) for step, recipe in kinds}
    costs = pd.DataFrame(
        {"system": run.folder.relative_to(experiment.folder(out)).parts[0]}
        | {"stage": run.recipe.stage, "px": run.recipe.side}
        | _cost(run.recipe, Run(run.folder).finished, counts, *measured[_step(run.recipe)])
        for run in plan
    )
    keys = ["system", "stage", "px"]
    total = costs.drop(columns=keys).sum()
    rows = [
        (*key, *_columns(rows.sum(numeric_only=True)), f"{rows.rate.mean():.1f}")
        for key, rows in costs.groupby(keys, sort=False)
    ]
    rows.append(("all", "", "", *_columns(total), ""))
    names = [*keys, "done", "M images", "hours", "GB", "images/s"]
    starts = sum(run.needs is not None for run in plan)
    shared = len({run.needs for run in plan} - {None})
    return pd.DataFrame(rows, columns=names), (
        f"{total.runs:.0f} runs, {total.done:.0f} of them finished; {starts} start from {shared} "
        f"other{'s' * (shared != 1)}. What is left sees {total.images_least / 1e6:.2f} "
        f"to {total.images_most / 1e6:.2f} million images, {duration(total.hours_least * 3600)} to "
        f"{duration(total.hours_most * 3600)} on this machine, one run at a time, and keeps "
        f"{total.gigabytes:.2f} GB of models, and {_prepared(plan, views):.2f} GB of prepared "
        "images, a byte a pixel, in the cache."
    )


def listing() -> pd.DataFrame:
    """Every system of the five documents, with what it costs on MURA and its published number.

    Returns:
        Text to print: `command, document, name, system, runs, images, published`. The name is that
        of `--systems`, of those that it chooses among. The images are the millions that all of its
        runs see, from least to most, see `cost`.
    """
    rows = []
    for name in experiment_names():
        experiment = find_experiment(name)
        if isinstance(experiment, ParameterTable):
            rows.append((name, experiment.document, "", experiment.title, "0", "0.0", "parameters"))
            continue
        names = {one.title: one.name for one in getattr(experiment, "systems", ())}
        published = experiment.published_results()
        counts = _training_counts(experiment, None)
        costs = pd.DataFrame(
            {"system": experiment.system_of(run)} | _cost(run.recipe, False, counts, 1, 0)
            for run in experiment.plan("", sorted(counts))
        )
        for one in getattr(experiment, "systems", ()):
            if one.specialists:
                nothing = _cost(Recipe(), True, counts, 1, 0) | {"runs": 0, "done": 0}
                costs.loc[len(costs)] = {"system": one.title} | nothing
        for system, of_system in costs.groupby("system", sort=False):
            total = of_system.sum(numeric_only=True)
            images = _range(total.images_least / 1e6, total.images_most / 1e6)
            number = published.get(system, "none")
            told = names.get(system, ""), system, f"{total.runs:.0f}", images, number
            rows.append((name, experiment.document, *told))
    columns = ["command", "document", "name", "system", "runs", "images", "published"]
    return pd.DataFrame(rows, columns=columns)


def _step(recipe: Recipe) -> tuple[str, int, int, str, tuple[str, ...]]:
    """Recipes that agree in this have equally fast steps."""
    return recipe.backbone, recipe.side, recipe.batch_size, recipe.trainable, recipe.head


def _columns(costs: pd.Series) -> tuple[str, str, str, str]:
    """What `cost` tells of a sum over runs: done, M images, hours, GB."""
    images = _range(costs.images_least / 1e6, costs.images_most / 1e6)
    hours = _range(costs.hours_least, costs.hours_most)
    return f"{costs.done:.0f}/{costs.runs:.0f}", images, hours, f"{costs.gigabytes:.1f}"


def _range(least: float, most: float) -> str:
    low, high = (f"{value:.1f}" if value < 10 else f"{value:.0f}" for value in (least, most))
    return low if low == high else f"{low}\u2013{high}"


def _cost(
    recipe: Recipe, finished: bool, counts: dict[str, int], rate: float, parameters: int
) -> dict[str, float]:
    epoch = 0 if finished else sum(counts[name] for name in recipe.study_types or counts)
    if recipe.select_on == "holdout":
        epoch = round(epoch * (1 - recipe.holdout))
    small = sum(epochs for _, epochs in parse_sizes(recipe.first_sizes))
    least = epoch * min(small + recipe.patience + 2, recipe.max_epochs)
    most = epoch * recipe.max_epochs
    return {
        "runs": 1,
        "done": int(finished),
        "images_least": least,
        "images_most": most,
        "hours_least": least / rate / 3600,
        "hours_most": most / rate / 3600,
        "gigabytes": 0 if finished else parameters * 4 / 1e9,
        "rate": rate,
    }


def _training_counts(
    experiment: Reproducible, views: pd.DataFrame | None, split: str | None = None
) -> dict[str, int]:
    """study type -> views of the train split; MURA's published ones without `views`."""
    if views is None and isinstance(experiment, Comparison) and experiment.fractions:
        share, counts = experiment.fractions[0], _view_counts(None)
        if experiment.rest and split == "document":
            share, counts = experiment.rest[0], _view_counts(None, ("train",))
        return {name: round(share * count) for name, count in counts.items()}
    return _view_counts(views, ("train",))


def _prepared(plan: list[PlannedRun], views: pd.DataFrame | None) -> float:
    """GB of the uint8 cache: every view that unfinished runs see, once per size and resizing."""
    counts = _view_counts(views)
    seen = {
        (side, run.recipe.resize, name)
        for run in plan
        if not Run(run.folder).finished
        for side in [run.recipe.side, *(side for side, _ in parse_sizes(run.recipe.first_sizes))]
        for name in run.recipe.study_types or counts
    }
    return sum(counts[name] * side**2 for side, _, name in seen) / 1e9


def _view_counts(views: pd.DataFrame | None, splits: tuple[str, ...] = SPLITS) -> dict[str, int]:
    """study type -> views of some splits; MURA's published ones without `views`."""
    if views is None:
        rows = published_table("table_i").query("study_type != 'all'")
        return rows[rows.split.isin(splits)].groupby("study_type").images.sum().to_dict()
    return views[views.split.isin(splits)].study_type.value_counts().to_dict()
