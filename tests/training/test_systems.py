"""What is one system: the runs that are averaged, and those that stand side by side."""

import warnings

import pandas as pd
import pytest
from run_folders import finish, views_of

from mura_tf.evaluation.scores import score_systems
from mura_tf.grid.plan import PlannedRun, plan_runs
from mura_tf.terminal import Notice
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import load_predictions
from mura_tf.training.systems import (
    on_several_data_sets,
    predictions_of,
    systems_of,
    the_first,
)

RECIPE = Recipe("small_cnn", weights=None, image_size=32, stage="mura")
VIEWS = views_of({"elbow": (8, 6), "wrist": (6, 8)})
NAME = "small_cnn, whole-data model"


def lying_in(views, folder):
    """`views` whose files lie as MURA's do."""
    return views.assign(path=f"{folder}/valid/" + views.study_type + "/" + views.patient + ".png")


@pytest.fixture
def write(tmp_path):
    """Writes a finished run on VIEWS, or other views, and returns its folder."""

    def run(name, views=VIEWS, data="0" * 16, recipe=RECIPE, **settings):
        finish(PlannedRun(recipe, tmp_path / name), views, data=data, **settings)
        return tmp_path / name

    return run


def names(folders):
    return [system.name for system in systems_of(folders)]


def test_members_of_one_recipe_are_one_system(write):
    weights = {"weights": "/here/b3.h5", "image_size": None}
    others = {"weights": "../there/b3.h5", "image_size": 300, "seed": 7, "member": 2}
    recipe = Recipe(stage="mura")
    runs = [
        write("a", recipe=recipe, **weights),
        write("b", recipe=recipe, **weights, member=1),
        write("c", recipe=recipe, **others),
    ]
    (system,) = systems_of(runs)
    assert system.name == "efficientnet_b3, whole-data model"
    assert [run.path for run in system.runs] == runs
    assert sorted(set(system.predictions.member)) == [0, 1, 2]
    assert set(score_systems(system.predictions, intervals=False).members) == {3}


def test_recipes_are_named_by_what_differs(write):
    """And are not refused as one ensemble that has predicted everything twice."""
    runs = [
        write("a"),
        write("b", learning_rate=0.01),
        write("c", learning_rate=0.01, augment=()),
        write("d", stage="imagenet"),
    ]
    found = systems_of(runs)
    assert [(system.name, system.runs[0].path) for system in found] == [
        ("small_cnn, trained directly", runs[3]),
        (f"{NAME}, augment flip, learning_rate 0.0001", runs[0]),
        (f"{NAME}, augment flip, learning_rate 0.01", runs[1]),
        (f"{NAME}, augment none, learning_rate 0.01", runs[2]),
    ]
    scores = score_systems(predictions_of(found))
    for system, (_, of_it) in zip(found, scores.groupby("system", sort=False), strict=True):
        alone = score_systems(load_predictions(system.runs[0].path))
        of_it = of_it.drop(columns="system").reset_index(drop=True)
        pd.testing.assert_frame_equal(of_it, alone)
    assert on_several_data_sets(found) == ""


def test_data_sets_are_apart_and_each_is_reported_on_its_own_split(write):
    """The other's model was left out, because this one has a test split."""
    tested = lying_in(VIEWS, "/x/FracAtlas").assign(split="test")
    runs = [
        write("a", lying_in(VIEWS, "/x/MURA-v1.1"), data="a" * 16),
        write("b", tested, data="b" * 16),
        write("c", lying_in(VIEWS, "/moved/MURA-v1.1"), data="a" * 16, member=1),
    ]
    found = systems_of(runs)
    scores = score_systems(predictions_of(found), intervals=False)
    overall = scores[scores.study_type == "overall"]
    assert overall[["system", "split", "n", "members"]].to_numpy().tolist() == [
        [f"{NAME}, on MURA-v1.1", "valid", 28, 2],
        [f"{NAME}, on FracAtlas", "test", 28, 1],
    ]
    assert on_several_data_sets(found) == (
        "Compare systems of one data set only: these are of 2, MURA-v1.1, FracAtlas."
    )


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (("/x/one/MURA", "/x/two/MURA"), ("on one/MURA", "on two/MURA")),
        (("/x/MURA", "/x/MURA"), ("on MURA aaaaaaaa", "on MURA bbbbbbbb")),
        (("", ""), ("on its data aaaaaaaa", "on its data bbbbbbbb")),
    ],
)
def test_data_sets_of_one_name_are_named_by_as_much_as_it_takes(write, folders, told):
    parts = zip("ab", folders, strict=True)
    runs = [write(one, lying_in(VIEWS, folder), data=one * 16) for one, folder in parts]
    assert names(runs) == [f"{NAME}, {one}" for one in told]


def test_study_types_of_one_experiment_are_one_system(write, tmp_path):
    """Each type's run has its own fingerprint: that they belong together, views.csv says."""
    runs = []
    for out, types in (("one", ("elbow", "wrist")), ("other", ("hand", "hip"))):
        views = views_of(dict.fromkeys(types, (8, 6)))
        for run in plan_runs(
            RECIPE.changed({"stage": "imagenet"}), "", types, scheme="direct", members=2
        ):
            (name,) = run.recipe.study_types
            runs.append(write(f"{out}/{run.folder}", views, data=name, recipe=run.recipe))
        views.to_csv(tmp_path / out / "views.csv", index=False)
    found = systems_of(runs)
    assert [sorted(set(system.predictions.study_type)) for system in found] == [
        ["elbow", "wrist"],
        ["hand", "hip"],
    ]
    assert [len(system.runs) for system in found] == [4, 4]
    assert len({system.data for system in found}) == 2


def test_study_types_that_nothing_tells_apart_are_one_system(write):
    elbow, wrist = (write(name, data=name, study_types=(name,)) for name in ("elbow", "wrist"))
    (system,) = systems_of([elbow, wrist])
    assert len(system.runs) == 2
    other = write("other", data="another", study_types=("elbow",), member=1)
    assert len(systems_of([elbow, wrist, other])) == 3  # whose wrist is it?


def test_an_experiment_whose_files_changed_on_the_way_is_two_systems(write, tmp_path):
    VIEWS.to_csv(tmp_path / "views.csv", index=False)
    runs = [write("a/b/c/0", data="a" * 16), write("a/b/c/1", data="b" * 16, member=1)]
    assert names(runs) == [f"{NAME}, on its data aaaaaaaa", f"{NAME}, on its data bbbbbbbb"]


def test_holdouts_are_of_the_same_data(write):
    runs = [write("a", data="a" * 16), write("b", data="b" * 16, select_on="holdout")]
    found = systems_of(runs)
    assert [one.name for one in found] == [
        f"{NAME}, select_on holdout",
        f"{NAME}, select_on valid",
    ]
    assert on_several_data_sets(found) == ""


def test_those_who_learned_from_boxes_have_the_same_data(write, tmp_path):
    """Alone, and as models per study type of one experiment each."""
    located = {"head": ("map:4:0.2", "pool")}
    alone = [write("a", data="a" * 16), write("b", data="a" * 16 + "+" + "b" * 16, **located)]
    heads = ("map:4:0.2 pool", " ".join(RECIPE.head))
    assert names(alone) == [f"{NAME}, head {head}" for head in heads]
    runs = []
    for out, settings, boxes in (("plain", {}, ""), ("located", located, "+" + "b" * 16)):
        for name in ("elbow", "wrist"):
            views = VIEWS[VIEWS.study_type == name]
            settings = settings | {"study_types": (name,)}
            runs.append(write(f"{out}/{name}", views, data=name + boxes, **settings))
        VIEWS.to_csv(tmp_path / out / "views.csv", index=False)
    found = systems_of(runs)
    assert [len(system.runs) for system in found] == [2, 2]
    assert on_several_data_sets(found) == ""


def test_types_of_data_sets_with_and_without_a_test_split_are_apart(write):
    """Together, those of the one without would be reported by nobody."""
    views = {name: VIEWS[VIEWS.study_type == name] for name in ("elbow", "wrist")}
    elbow = write("elbow", views["elbow"], data="a" * 16, study_types=("elbow",))
    tested = views["wrist"].assign(split="test")
    wrist = write("wrist", tested, data="b" * 16, study_types=("wrist",))
    found = systems_of([elbow, wrist])
    assert sorted(system.split for system in found) == ["test", "valid"]


def test_types_of_one_data_set_are_one_system_whichever_has_unlabelled_test_views(write):
    elbow, wrist = (VIEWS[VIEWS.study_type == name] for name in ("elbow", "wrist"))
    both = pd.concat([elbow, elbow.assign(split="test")], ignore_index=True)
    runs = [
        write("elbow", both, study_types=("elbow",)),
        write("wrist", wrist, study_types=("wrist",)),
    ]
    table = pd.read_csv(runs[0] / "predictions.csv", dtype=str)
    unknown = table.label.where(table.split == "valid", "")
    table.assign(label=unknown).to_csv(runs[0] / "predictions.csv", index=False)
    (system,) = systems_of(runs)
    assert system.split == "valid" and len(system.runs) == 2


def test_what_predicts_the_same_as_the_same_member_is_told_apart_by_seed_and_start(write):
    seeds = [write("a", seed=1), write("b", seed=2)]
    assert names(seeds) == [f"{NAME}, seed 1", f"{NAME}, seed 2"]
    start = RECIPE.changed({"stage": "type", "study_types": ["elbow"]})
    starts = [write(one, recipe=start, initial=f"../{one}.keras") for one in "xy"]
    told = names(starts)
    assert [name.rpartition("/")[2] for name in told] == ["x.keras", "y.keras"]
    both = [write("all"), write("own", study_types=("elbow",))]
    assert names(both) == [f"{NAME}, trained on all", f"{NAME}, trained on each study type"]


def test_a_run_that_is_given_as_a_copy_is_refused(write):
    with pytest.raises(ValueError, match="Give each run once"):
        score_systems(predictions_of(systems_of([write("a"), write("b")])))


def test_of_several_systems_the_first_is_taken_and_others_as_good_are_named(write):
    whole, *types = (
        write("whole"),
        write("a", stage="type", study_types=("elbow",)),
        write("b", stage="type", study_types=("elbow",), learning_rate=0.01),
        write("c", stage="type", study_types=("elbow",), learning_rate=0.01, member=1),
    )
    with pytest.warns(
        Notice, match=r"of 3 systems .*_rate 0\.01 is taken\. .* one: .*_rate 0\.0001\."
    ):
        assert [run.path for run in the_first(systems_of([whole, *types])).runs] == types[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert the_first(systems_of([whole, types[0]])).recipe.stage == "type"


def test_another_run_beside_an_experiment_does_not_part_its_study_types(write, tmp_path):
    """As a reader of the documentation trains one of their own into `demo`."""
    runs = [write("all", data="all", stage="mura")]
    runs += [write(one, data=one, stage="type", study_types=(one,)) for one in ("elbow", "wrist")]
    VIEWS.to_csv(tmp_path / "views.csv", index=False)
    assert [len(system.runs) for system in systems_of(runs)] == [2, 1]
    mine = write("mine", data="mine", stage="mura", max_epochs=3)
    found = systems_of([*runs, mine])
    assert [len(system.runs) for system in found] == [2, 1, 1]
    assert sorted(set(found[0].predictions.study_type)) == ["elbow", "wrist"]
