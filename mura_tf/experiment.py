"""Recipe + data set -> every run of an experiment, its scores, its report."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table

from mura_tf.data.views import load_views
from mura_tf.evaluation.scores import score_systems, system_key, system_name
from mura_tf.files import written_whole
from mura_tf.grid.plan import plan_runs, require_reported_labels, run_plan
from mura_tf.grid.progress import failures_told
from mura_tf.grid.worker import RunError
from mura_tf.published import OVERALL
from mura_tf.reports.constant import constant_systems
from mura_tf.reports.decision_section import decision_table, decisions_of
from mura_tf.reports.experiment_page import write_scored
from mura_tf.reports.numbers import interval_text, number_text
from mura_tf.terminal import Output, counted, waiting
from mura_tf.training.facts import write_facts
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import RunFolders
from mura_tf.training.systems import on_several_data_sets, predictions_of, scored_systems


def run_experiment(
    recipe: Recipe,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    scheme: str = "two-stage",
    study_types: Iterable[str] | None = None,
    members: int = 5,
    repeats: int = 1,
    split: str | None = None,
    verbose: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Trains what is not trained yet below `out`, scores it and writes the report.

    Args:
        recipe: what all runs share.
        data: a data set, see `load_views`.
        out: folder of the runs, `scores.csv`, `experiment.json` and `report.html`.
        scheme, members, repeats: see `plan_runs`.
        study_types: those that get a model of their own; all by default. Not with "whole".
        split: what becomes the validation split where there is none, see `load_views`.
        verbose: whether to show what is done.
        settings: for `run_plan`, such as `engine`, `skip_bad` and `cache_dir`.

    Returns:
        Table of `score_systems`, as in `scores.csv`.

    Raises:
        RunError: runs failed; their folders and reasons are named.

    Examples:
        >>> recipe = mt.Recipe(backbone="small_cnn", weights=None, image_size=32, max_epochs=1)
        >>> scores = mt.run_experiment(
        ...     recipe, "demo/MURA-v1.1", "demo/elbows",
        ...     scheme="direct", study_types=["elbow"], members=1, verbose=False)
        >>> scores.study_type.tolist()
        ['elbow', 'overall']
    """
    chosen = list(study_types or ())
    require_options(recipe, chosen, scheme=scheme, members=members, repeats=repeats)
    views = load_views(data, split=split, progress=verbose)
    types = chosen or sorted(views.study_type.unique())
    plan = plan_runs(recipe, out, types, scheme=scheme, members=members, repeats=repeats)
    require_reported_labels(plan, views)
    failed = run_plan(plan, views, out, verbose=verbose, **settings)
    if failed:
        raise RunError(failures_told(failed, len(plan), reasons=not verbose))
    return report_runs([run.folder for run in plan], out, progress=verbose)


def require_options(
    recipe: Recipe,
    study_types: Sequence[str] | None,
    *,
    scheme: str,
    members: int,
    repeats: int,
) -> None:
    """ValueError where `run_experiment`, of whose arguments these are, raises one for any data."""
    if recipe.task == "study_type":
        raise ValueError(
            "what is scored here is abnormality, of which the task 'study_type' says nothing. "
            "Train it with mura_tf.train(recipe, views, folder), or with `mura-tf reproduce "
            "resnet18 --systems intermediate_task`; it is packed as a recogniser."
        )
    if scheme == "whole" and study_types:
        raise ValueError(
            "the scheme 'whole' has no models per study type. Received: study_types "
            f"{', '.join(study_types)}. Leave them out, or use the scheme 'direct' or 'two-stage'."
        )
    types = study_types or ["any"]
    plan_runs(recipe, "", types, scheme=scheme, members=members, repeats=repeats)


def report_runs(
    run_dirs: RunFolders, out: str | os.PathLike[str], *, progress: bool = False
) -> pd.DataFrame:
    """Writes what finished runs come to into `out`.

    Runs of the task study_type, which say nothing about abnormality, are left out. That is
    `scores.csv`, `operating_points.csv`, `experiment.json` and `report.html`.

    Returns:
        Table of `score_systems`; its `attrs["remark"]` says what cannot be compared, if anything.
    """
    systems, out = scored_systems(run_dirs), Path(out)
    scores = score_systems(predictions_of(systems), progress=progress)
    scores.attrs["remark"] = on_several_data_sets(systems)
    with written_whole(out / "scores.csv") as part:
        scores.to_csv(part, index=False)
    decisions = decisions_of(systems)
    with written_whole(out / "operating_points.csv") as part:
        decision_table(systems, decisions).to_csv(part, index=False)
    write_facts([run for system in systems for run in system.runs], out)
    with waiting("Writing the report", shown=progress):
        write_scored(systems, scores, decisions, out / "report.html")
    return scores


def print_scores(scores: pd.DataFrame) -> None:
    """Prints one table per system: its study types, then "overall"; and whether it is constant."""
    for _, rows in scores.groupby(system_key(scores), sort=False):
        first = rows.iloc[0]
        members = counted(rows.members.max(), "member")
        print(f"{system_name(first)}: {members}, {first.split} split")
        table = Table("study type", "studies", "kappa", "95 %", "AUROC", "95 %")
        for row in rows.itertuples():
            table.add_row(
                escape(row.study_type),
                str(row.n),
                number_text(row.kappa),
                interval_text(row.kappa_low, row.kappa_high),
                number_text(row.auroc),
                interval_text(row.auroc_low, row.auroc_high),
                style="bold" if row.study_type == OVERALL else None,
            )
        Output().print(table)
        for sentence in constant_systems(rows):
            print(sentence)
    if remark := scores.attrs.get("remark"):
        print(remark)
