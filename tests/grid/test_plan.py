"""Plans: which runs there are, what they start from, and where they are kept."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from run_folders import TYPES

from mura_tf.grid.plan import SCHEMES, PlannedRun, _each_once, plan_runs, run_folder
from mura_tf.training.recipe import Recipe

RECIPE = Recipe(backbone="small_cnn", weights=None, image_size=32, max_epochs=1)


def test_a_study_type_named_twice_is_trained_once():
    plan = plan_runs(RECIPE, "out", ["elbow", "wrist", "elbow"], scheme="direct", members=1)
    assert [recipe.study_types for recipe, _ in plan] == [("elbow",), ("wrist",)]


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize(
    ("scheme", "stages"),
    [
        ("two-stage", {"mura": 1, "type": 35}),
        ("direct", {"imagenet": 35}),
        ("whole", {"mura": 5}),
    ],
)
def test_seven_types_of_five_members(scheme, stages, repeats):
    plan = plan_runs(RECIPE, "out", TYPES, scheme=scheme, members=5, repeats=repeats)
    expected = {stage: n * repeats if n > 1 else n for stage, n in stages.items()}
    assert Counter(recipe.stage for recipe, _ in plan) == expected
    assert len({folder for _, folder in plan}) == len(plan)
    assert len({recipe.hash for recipe, _ in plan}) == len(plan)
    if scheme == "whole":
        seeds = {recipe.run_seed for recipe, _ in plan}
        assert len(seeds) == 5 * repeats
        assert {recipe.study_types for recipe, _ in plan} == {None}
    else:
        single = [recipe for recipe, _ in plan if recipe.stage != "mura"]
        copies = Counter((recipe.study_types, recipe.repeat) for recipe in single)
        assert set(copies.values()) == {5}
        assert {types for types, _ in copies} == {(study_type,) for study_type in TYPES}


def test_every_scheme_is_planned():
    for scheme in SCHEMES:
        assert plan_runs(RECIPE, "out", TYPES, scheme=scheme)


def test_the_mura_run_comes_before_the_type_runs_that_start_from_it():
    plan = plan_runs(RECIPE, "out", TYPES, members=2)
    (whole, start), *rest = plan
    assert (whole.stage, whole.study_types, whole.initial) == ("mura", None, None)
    for recipe, folder in rest:
        assert recipe.stage == "type"
        assert (folder / recipe.initial).resolve() == (start / "best.keras").resolve()
        assert not Path(recipe.initial).is_absolute()


def test_a_start_by_an_absolute_path_is_that_of_the_plan():
    first, other = Path("runs/a"), Path("runs/b")
    initial = str(Path("runs/a/best.keras").absolute())
    run = PlannedRun(dataclasses.replace(RECIPE, initial=initial), other)
    assert run.needs == first
    run = PlannedRun(dataclasses.replace(RECIPE, initial="../a/best.keras"), other)
    assert run.needs == first
    run = PlannedRun(dataclasses.replace(RECIPE, initial=initial), other.absolute())
    assert run.needs == first.absolute()


def test_members_of_the_direct_scheme_start_from_the_recipes_weights():
    recipe = dataclasses.replace(RECIPE, weights="some.h5")
    for one, _ in plan_runs(recipe, "out", TYPES, scheme="direct"):
        assert (one.weights, one.initial) == ("some.h5", None)


def test_folders_are_named_after_backbone_stage_types_and_copy():
    plan = plan_runs(RECIPE, "out", ["wrist"], members=1, repeats=2)
    assert [folder.as_posix() for _, folder in plan] == [
        "out/small_cnn/mura/all/repeat0-member0",
        "out/small_cnn/type/wrist/repeat0-member0",
        "out/small_cnn/type/wrist/repeat1-member0",
    ]
    two = dataclasses.replace(RECIPE, study_types=("hand", "wrist"), member=3)
    assert run_folder("out", two) == Path("out/small_cnn/imagenet/hand+wrist/repeat0-member3")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"scheme": "three-stage"},
            "scheme must be one of two-stage, direct, whole. Received: 'three-stage'",
        ),
        ({"members": 0}, "members must be at least 1. Received: 0"),
        ({"repeats": -1}, "repeats must be at least 1. Received: -1"),
        (
            {"recipe": Recipe(study_types=("wrist",))},
            r"study_types of an experiment's recipe .* Received: \('wrist',\). Take .*--types",
        ),
        ({"recipe": Recipe(member=3)}, "member .* must be 0. Received: 3. Take it out; .*--mem"),
        ({"recipe": Recipe(repeat=3)}, "repeat .* must be 0. Received: 3. Take it out; .*--rep"),
        ({"recipe": Recipe(stage="mura")}, "stage .* must be 'imagenet'. Received: 'mura'.*--sche"),
    ],
)
def test_a_plan_that_cannot_be(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan_runs(**{"recipe": RECIPE, "out": "out", "study_types": TYPES} | settings)


def test_a_folder_holds_a_run_of_one_recipe(tmp_path):
    plan = plan_runs(RECIPE, tmp_path, TYPES[:1], scheme="direct", members=1)
    other = plan_runs(
        RECIPE.changed({"batch_size": 4}), tmp_path, TYPES[:1], scheme="direct", members=1
    )
    assert _each_once([*plan, *plan]) == plan
    with pytest.raises(
        ValueError, match=r"a run of one recipe\. Received: two for .*repeat0-member0"
    ):
        _each_once([*plan, *other])


def test_a_type_cannot_start_with_the_head_of_all_types():
    recipe = Recipe(task="type_and_abnormality", balance="none", monitor="val_accuracy")
    with pytest.raises(ValueError, match=r"fewer classes than that of all.* 'without_output'"):
        plan_runs(recipe, "out", TYPES)
    assert plan_runs(recipe, "out", TYPES, scheme="direct")
    assert plan_runs(dataclasses.replace(recipe, initial_part="without_output"), "out", TYPES)
