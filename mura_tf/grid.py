"""Many runs: which there are, where their folders lie, one after the other."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mura_tf.recipe import Recipe
from mura_tf.run import Run

SCHEMES = {
    "two-stage": "one model on all study types, then from it one per study type (the paper's)",
    "direct": "one model per study type, straight from the recipe's weights (Table IV, left)",
    "whole": "one model on all study types together",
}


def plan_runs(
    recipe: Recipe,
    out: str | os.PathLike,
    study_types: Iterable[str],
    *,
    scheme: str = "two-stage",
    members: int = 5,
    repeats: int = 1,
) -> list[tuple[Recipe, Path]]:
    """The runs of an experiment, each with its folder, in an order in which they can be run.

    Args:
        recipe: what all runs share; its stage, study types, member and repeat are set here.
        out: the folder above the run folders.
        study_types: those that get a model of their own; the whole-data model trains on all.
        scheme: a key of `SCHEMES`.
        members: models per ensemble. The two-stage scheme has one whole-data model, from which
            all members start, as in the paper.
        repeats: how often the ensembles are trained anew.

    Source: the paper, sections V-D and VI-A.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}. Received: {scheme!r}.")
    for name, count in (("members", members), ("repeats", repeats)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1. Received: {count!r}.")
    copies = [(repeat, member) for repeat in range(repeats) for member in range(members)]
    whole = dataclasses.replace(recipe, stage="mura", study_types=None)
    if scheme == "whole":
        recipes = [dataclasses.replace(whole, repeat=r, member=m) for r, m in copies]
        return [(one, run_folder(out, one)) for one in recipes]
    recipes = []
    single = dataclasses.replace(recipe, stage="imagenet")
    if scheme == "two-stage":
        recipes.append(whole)
        # relative to the run folder, so that `out` can be moved as a whole
        start = (
            Path("../../..") / run_folder(".", whole).relative_to(recipe.backbone) / "best.keras"
        )
        single = dataclasses.replace(recipe, stage="type", initial=start.as_posix())
    recipes += [
        dataclasses.replace(single, study_types=(study_type,), repeat=repeat, member=member)
        for study_type in dict.fromkeys(study_types)
        for repeat, member in copies
    ]
    return [(one, run_folder(out, one)) for one in recipes]


def run_folder(out: str | os.PathLike, recipe: Recipe) -> Path:
    """`out/backbone/stage/types/repeatR-memberM`: two experiments that share a run share it."""
    types = "+".join(recipe.study_types or ["all"])
    copy = f"repeat{recipe.repeat}-member{recipe.member}"
    return Path(out) / recipe.backbone / recipe.stage / types / copy


def run_plan(plan: list[tuple[Recipe, Path]], views: pd.DataFrame, **settings) -> list[Run]:
    """Trains what is not finished yet, in order; `settings` go to `train`."""
    import keras

    from mura_tf.training import selected_views, train

    for recipe, _ in plan:
        selected_views(views, recipe)  # raises now, not after hours of other runs
    runs = []
    for number, (recipe, folder) in enumerate(plan, start=1):
        if settings.get("verbose", "auto") != 0 and not Run(folder).finished:
            print(f"Run {number} of {len(plan)}: {folder}", flush=True)
        runs.append(train(recipe, views, folder, **settings))
        keras.backend.clear_session()  # otherwise every model's graph stays in memory
    return runs
