"""The systems of documents 001 to 004: what is planned for them; nothing is trained here."""

import re
from dataclasses import replace

import pandas as pd
import pytest
from experiment_names import DOCUMENTS
from run_folders import TWO_TYPES, TYPES, views_of

from mura_tf.papers.reproduce import find_experiment
from mura_tf.training.recipe import Recipe


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("freezing", 3 * 7 * 5),
        ("inputs", 3 * (5 + 7 * 5)),
        ("unified_vs_specialised", 9 * (1 + 7) + 7 + 1 + 2),
        ("densenet169", 3 * 7),
        ("fourteen_classes", 6),
        ("resnet18", 4 + 2 * 7),
    ],
)
def test_plans_are_the_documents(name, runs, tmp_path):
    experiment = find_experiment(name)
    plan = experiment.plan(tmp_path, TYPES)
    assert len(plan) == runs == len({run.folder for run in plan})
    assert {run.folder.parents[2] for run in plan} == {tmp_path / name}
    before = set()
    for run in plan:
        assert run.needs is None or run.needs in before
        before.add(run.folder)
    trained = {one.title for one in experiment.systems if not one.specialists}
    assert {experiment.system_of(run) for run in plan} == trained


def test_names_and_titles_tell_systems_apart():
    for name in DOCUMENTS:
        systems = find_experiment(name).systems
        assert len({one.name for one in systems}) == len({one.title for one in systems})
        assert len({one.title for one in systems}) == len(systems)


def test_a_chain_starts_from_the_model_before_it(tmp_path):
    plan = find_experiment("resnet18").plan(tmp_path, TYPES, members=2)
    by_folder = {str(run.folder.relative_to(tmp_path / "resnet18")): run for run in plan}
    second = by_folder["intermediate_task/all/member1"]
    assert second.needs == tmp_path / "resnet18/study_types/all/member1"
    assert (second.recipe.initial_part, second.recipe.trainable) == ("without_output", "none")
    assert by_folder["study_types/all/member1"].recipe.task == "study_type"
    humerus = by_folder["two_linear_humerus/humerus/member0"]
    assert humerus.needs == tmp_path / "resnet18/two_linear_humerus_first/humerus/member0"
    assert (humerus.recipe.stage, humerus.recipe.study_types) == ("type", ("humerus",))


def test_some_systems_bring_what_they_start_from(tmp_path):
    experiment = find_experiment("resnet18")
    plan = experiment.plan(tmp_path, TYPES, systems=["intermediate_task"])
    assert [run.folder.parent.parent.name for run in plan] == ["study_types", "intermediate_task"]
    with pytest.raises(ValueError, match=r"system of resnet18 must be one of .* Received: 'x'"):
        experiment.plan(tmp_path, TYPES, systems=["x"])


def test_types_are_the_users_the_documents_or_the_datas(tmp_path):
    experiment = find_experiment("resnet18")

    def types(*known, **options):
        plan = experiment.plan(tmp_path, known, systems=["two_linear_humerus"], **options)
        return [run.recipe.study_types for run in plan]

    assert types("humerus", "wrist") == [("humerus",)] * 2
    assert types("leg", "hip", study_types=["leg"]) == [("leg",)] * 2
    with pytest.raises(ValueError, match=r"Received: data without humerus; they have leg, hip\."):
        types("leg", "hip")
    with pytest.raises(ValueError, match=r"Received: data without wrist; they have humerus\."):
        types("humerus", study_types=["wrist"])


@pytest.mark.parametrize(
    ("name", "torch"),
    [
        ("unified_vs_specialised", True),  # 001 prints its layers
        ("densenet169", False),  # 002 prints its Keras code
        ("fourteen_classes", False),  # 003 lists TensorFlow 2.11 and Keras' layers
        ("resnet18", True),  # 004 has torchvision's transformations and Linear layers
    ],
)
def test_a_document_has_the_rules_of_what_it_trained_with(name, torch):
    for system in find_experiment(name).systems:
        recipe = system.recipe
        assert recipe.batch_norm == ("torch" if torch else "own"), system.name
        adamw = recipe.optimizer == "adam" and recipe.weight_decay > 0  # the same in both
        assert recipe.optimizer.startswith("torch_") == torch or (torch and adamw), system.name
        assert recipe.backbone != "resnet50"  # Keras' alone


def test_what_a_document_trains_from_scratch_stays_so(tmp_path):
    experiment = find_experiment("unified_vs_specialised")
    options = {"settings": {"weights": "w.h5", "image_size": 64}, "backbones": ["small_cnn"]}
    plan = experiment.plan(tmp_path, ["wrist"], **options)
    found = {run.folder.parent.parent.name: run.recipe for run in plan}
    assert (found["cnn_4_unified"].backbone, found["cnn_4_unified"].weights) == ("cnn_4", None)
    assert (found["resnet50_unified"].backbone, found["resnet50_unified"].weights) == (
        "small_cnn",
        "w.h5",
    )
    assert {recipe.image_size for recipe in found.values()} == {64}
    with pytest.raises(ValueError, match=r"one backbone takes .* Received: small_cnn, xception\."):
        experiment.plan(tmp_path, ["wrist"], backbones=["small_cnn", "xception"])
    with pytest.raises(ValueError, match=r"Received: 'sizes'\."):
        experiment.plan(tmp_path, ["wrist"], settings={"sizes": 3})


def test_only_a_system_of_abnormality_is_balanced(tmp_path):
    plan = find_experiment("resnet18").plan(tmp_path, ["humerus"], settings={"balance": "all"})
    found = {run.folder.parent.parent.name: run.recipe.balance for run in plan}
    assert found.pop("study_types") == "none"
    assert set(found.values()) == {"all"}


def test_the_split_of_003_is_of_all_views_by_patient_or_by_image():
    experiment = find_experiment("fourteen_classes")
    views = views_of(TWO_TYPES)
    split = experiment.views(views)
    assert split.drop(columns="split").equals(views.drop(columns="split"))
    assert split.groupby("patient").split.nunique().max() == 1
    shares = split.split.value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx({"train": 0.8, "valid": 0.1, "test": 0.1}, abs=0.04)
    views["path"] = [f"{number}.png" for number in range(len(views))]
    by_image = experiment.views(views, split_by="image")
    assert by_image.groupby("patient").split.nunique().max() > 1
    assert find_experiment("resnet18").views(views) is views


def test_the_split_that_the_numbers_of_003_are_of():
    """MURA's validation set is what is reported, and 85 % of the others are trained on."""
    experiment = find_experiment("fourteen_classes")
    valid = views_of(TWO_TYPES)
    train = views_of({"humerus": (60, 40), "wrist": (80, 60)}).assign(split="train")
    train["patient"] = "train" + train.patient
    views = pd.concat([valid, train], ignore_index=True)
    split = experiment.views(views, split="document")
    assert split.drop(columns="split").equals(views.drop(columns="split"))
    assert (split.split == "test").equals(views.split == "valid")
    shares = split.split[views.split == "train"].value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx({"train": 0.85, "valid": 0.15}, abs=0.02)
    assert split.groupby("patient").split.nunique().max() == 1
    with_test = views.assign(split=views.split.mask(views.patient == "patient00003", "test"))
    split = experiment.views(with_test, split="document")
    assert (split.split == "test").equals(with_test.split == "test")
    sentence = r"the split of fourteen_classes must be one of text, document\. Received: 'x'"
    with pytest.raises(ValueError, match=sentence):
        experiment.views(views, split="x")
    with pytest.raises(ValueError, match=r"split of resnet18 must be one of text\. Received: 'doc"):
        find_experiment("resnet18").plan("out", TYPES, split="document")
    with pytest.raises(ValueError, match=r"a valid or test split to report\. Received: train"):
        experiment.views(train, split="document")


def test_a_holdout_is_split_as_the_user_says(tmp_path):
    experiment = find_experiment("unified_vs_specialised")
    for options, expected in (({}, "patient"), ({"split_by": "image"}, "image")):
        plan = experiment.plan(tmp_path, ["wrist"], **options)
        assert {run.recipe.holdout_by for run in plan} == {expected}


def test_a_study_type_named_twice_has_one_model(tmp_path):
    experiment = find_experiment("densenet169")
    plan = experiment.plan(tmp_path, TYPES, study_types=["wrist", "wrist"], systems=["base"])
    assert [run.recipe.study_types for run in plan] == [("wrist",)]


def test_one_model_of_two_study_types(tmp_path):
    experiment = find_experiment("unified_vs_specialised")

    def planned(*known, **options):
        plan = experiment.plan(tmp_path, known, **options)
        together = [run for run in plan if run.folder.parents[1].name == "cnn_first_together"]
        return [(run.recipe.study_types, run.folder.parent.name) for run in together]

    pair = [(("finger", "wrist"), "finger+wrist")]
    assert planned(*TYPES) == planned(*TYPES, systems=["cnn_first_together"]) == pair
    assert planned("hip", "leg") == planned("hip", "wrist") == []
    assert planned(*TYPES, study_types=["elbow"]) == []
    asked = {"systems": ["cnn_first_together"]}
    assert planned("hip", "leg", study_types=["leg", "hip"], **asked) == [
        (("hip", "leg"), "hip+leg")
    ]
    with pytest.raises(ValueError, match=r"data without finger, wrist; they have hip, leg\."):
        planned("hip", "leg", **asked)
    with pytest.raises(ValueError, match=r"one model of several study types\. Received: leg alone"):
        planned("hip", "leg", study_types=["leg"], **asked)


def test_what_is_frozen_differs_and_nothing_else():
    recipes = [system.recipe for system in find_experiment("freezing").systems]
    assert [one.trainable for one in recipes] == ["none", "blocks:8", "all"]
    assert {replace(one, trainable="all") for one in recipes} == {Recipe()}


def test_each_way_of_inputs_has_its_two_stages(tmp_path):
    plan = find_experiment("inputs").plan(tmp_path, ["elbow"], members=2)
    by_folder = {run.folder: run for run in plan}
    for run in plan:
        system = run.folder.parents[1].name
        assert run.recipe.preprocessing == system.removesuffix("_whole")
        if run.needs:
            start = by_folder[run.needs]
            assert start.folder.parents[1].name == f"{system}_whole"
            assert start.recipe.member == run.recipe.member and start.recipe.study_types is None
    assert sum(run.needs is not None for run in plan) == 3 * 2


def test_a_routed_system_brings_what_it_is_made_of_for_all_study_types(tmp_path):
    experiment = find_experiment("resnet18")

    def planned(known=("humerus", "wrist"), **options):
        plan = experiment.plan(tmp_path, known, **options)
        return {(run.folder.parents[1].name, run.folder.parent.name) for run in plan}

    steps = {("study_types", "all"), ("frozen_two_linear", "all")}
    parts = ("two_linear_humerus_first", "two_linear_humerus")
    both = steps | {(name, each) for name in parts for each in ("humerus", "wrist")}
    one = steps | {(name, "humerus") for name in parts}
    assert planned(systems=["routed"]) == both
    assert planned(systems=["routed"], study_types=["wrist", "humerus"]) == both
    assert planned() == both | {("frozen_linear", "all"), ("intermediate_task", "all")}
    assert planned(study_types=["humerus"]) == one | {
        ("frozen_linear", "all"),
        ("intermediate_task", "all"),
    }
    assert planned(known=("leg", "hip"), systems=["routed"]) > steps
    sentence = r"routed hands views to models of all study types, humerus, wrist\. Received: wrist"
    with pytest.raises(ValueError, match=sentence):
        planned(systems=["routed"], study_types=["wrist"])


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "fourteen_classes",
            {"study_types": ["wrist"]},
            r"no system here of fourteen_classes has a model per study type\. Received: wrist\.",
        ),
        (
            "unified_vs_specialised",
            {"systems": ["cnn_2_unified"], "backbones": ["xception"]},
            r"no system here of unified_vs_specialised has a pretrained .* Received: xception\.",
        ),
        (
            "fourteen_classes",
            {"settings": {"task": "abnormality"}},
            r"exp_1 has the task type_and_abnormality\. Received a recipe with 'abnormality'\.",
        ),
        ("densenet169", {"members": 0}, r"members must be at least 1\. Received: 0\."),
    ],
)
def test_an_option_that_none_of_the_systems_heeds_is_refused(name, options, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        find_experiment(name).plan(tmp_path, TYPES, **options)


def test_no_systems_are_all_systems(tmp_path):
    experiment = find_experiment("densenet169")
    assert experiment.plan(tmp_path, TYPES, systems=()) == experiment.plan(tmp_path, TYPES)


def test_a_step_alone_is_refused_with_what_follows_it(tmp_path):
    experiment = find_experiment("resnet18")
    with pytest.raises(ValueError, match=r"study_types is a step.*Name intermediate_task too\."):
        experiment.plan(tmp_path, TYPES, systems=["study_types"])
    plan = experiment.plan(tmp_path, TYPES, systems=["study_types", "frozen_linear"])
    assert len(plan) == 2


def test_a_split_is_chosen_only_where_there_is_one(tmp_path):
    experiment = find_experiment("densenet169")
    with pytest.raises(ValueError, match=r"densenet169 keeps .* Leave --split-by out\."):
        experiment.plan(tmp_path, ["wrist"], split_by="image")
    assert experiment.plan(tmp_path, ["wrist"], split_by="patient")
    selected = {"settings": {"select_on": "holdout"}, "split_by": "image"}
    assert experiment.plan(tmp_path, ["wrist"], **selected)
    assert find_experiment("fourteen_classes").plan(tmp_path, TYPES, split_by="image")


def test_published_results_are_of_test_data_where_there_are_any():
    published = find_experiment("fourteen_classes").published_results()
    assert published["1: frozen"] == "accuracy 0.700, overall, validation"
    assert published["4: last 5, weaker L1 and L2, schedule"].startswith("accuracy 0.810, overall,")
    assert published["6: squeeze-and-excite, attention"] == "accuracy 0.790, overall"
    of_001 = find_experiment("unified_vs_specialised").published_results()
    assert of_001["DenseNet-121, unified"] == "accuracy 0.783, overall"
    assert of_001["4 convolutions, specialised"] == "accuracy 0.684, wrist"
    assert of_001["the first CNN, specialised"] == "accuracy 0.510, elbow"
    together = of_001["the first CNN, one for two study types"]
    assert together == "accuracy 0.550, finger and wrist"
    assert of_001["15 layers, specialised"] == "accuracy 0.464 to 0.589 by type"


@pytest.mark.parametrize(
    "settings",
    [
        {"study_types": ["wrist"]},
        {"member": 3},
        {"repeat": 1},
        {"stage": "type"},
        {"initial": "elsewhere/best.keras"},
        {"holdout_by": "image"},
    ],
)
def test_what_is_set_run_by_run_is_no_setting(tmp_path, settings):
    ((name, value),) = settings.items()
    sentence = (
        rf"{name} .* set run by run, .* Received: {re.escape(repr(value))}\. Take it out; .*--"
    )
    with pytest.raises(ValueError, match=sentence):
        find_experiment("resnet18").plan(tmp_path, sorted(TWO_TYPES), settings=settings)
