import json

import pandas as pd
import pytest
from command_line import SMALL, assert_sentence, assert_wrong_usage, call

from mura_tf.grid.plan import SCHEMES
from mura_tf.training.recipe import PREPROCESSINGS, SELECT_ON, Recipe, find_settings


@pytest.mark.parametrize(
    ("option", "values"),
    [("scheme", SCHEMES), ("preprocessing", PREPROCESSINGS), ("select-on", SELECT_ON)],
)
def test_the_choices_are_those_of_the_package(option, values):
    for value in values:
        assert call("train", "nowhere", "out", f"--{option}", value).exit_code == 1
    assert call("train", "nowhere", "out", f"--{option}", "other").exit_code == 2


def test_from_radiographs_to_the_report(lesions, tmp_path, bars):
    out = tmp_path / "out"
    train = ["train", lesions.parent, out, "--scheme", "whole", *SMALL, "--augment", "none"]
    result = call(*train, "--preprocessing", "native", "--batch-size", 32, "--seed", 3)
    assert result.exit_code == 0
    assert "overall" in result.stdout
    assert f"Report: {out / 'report.html'}" in result.stdout
    assert result.stderr == ""
    folder = out / "small_cnn/mura/all/repeat0-member0"
    recipe = json.loads((folder / "recipe.json").read_text())
    assert (recipe["weights"], recipe["augment"], recipe["seed"]) == (None, [], 3)
    assert recipe["batch_size"] == 32
    scores = pd.read_csv(out / "scores.csv")
    assert scores.study_type.tolist() == ["elbow", "wrist", "overall"]
    assert scores.kappa.between(-1, 1).all()
    assert "medical device" in (out / "report.html").read_text()
    for doing in ("Checking the runs", "Scoring", "Writing the report"):
        assert doing in bars.getvalue()


def test_a_recipe_is_read_and_overridden(mura, tmp_path):
    (tmp_path / "recipe.json").write_text(
        json.dumps({"backbone": "small_cnn", "weights": None, "max_epochs": 9, "l2": 0.1})
    )
    given = ["--recipe", tmp_path / "recipe.json", "--max-epochs", 1, "--image-size", 32]
    given += ["--types", "wrist", "--scheme", "direct", "--members", 1]
    result = call("train", mura, tmp_path / "out", *given)
    assert result.exit_code == 0
    (path,) = (tmp_path / "out").rglob("recipe.json")
    assert path.parent == tmp_path / "out/small_cnn/imagenet/wrist/repeat0-member0"
    recipe = json.loads(path.read_text())
    assert (recipe["max_epochs"], recipe["l2"]) == (1, 0.1)


def test_a_recipe_of_the_package_is_taken_by_name(mura, tmp_path, monkeypatch):
    seen = {}

    def run_experiment(recipe, data, out, **settings):
        seen["recipe"] = recipe
        raise RuntimeError("enough")

    monkeypatch.setattr("mura_tf.experiment.run_experiment", run_experiment)
    monkeypatch.chdir(tmp_path)
    train = ["train", mura, tmp_path / "out", "--recipe", "fracatlas_efficientnet", "--seed", 5]
    assert_sentence(call(*train), "enough")
    settings = find_settings("fracatlas_efficientnet")
    assert seen["recipe"] == Recipe.from_dict(settings | {"seed": 5})
    assert seen["recipe"].backbone == "efficientnet_v2_b0"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--backbone", "resnet19"], "resnet18"),
        (["--types", "knee", "--scheme", "whole"], "has no models per study type"),
        (["--recipe", "."], "Is a directory. Give another path"),
        (["--recipe", "missing.json"], "'missing.json', and there is no such file."),
        (["--recipe", "fracatlas"], "a recipe must be one of fracatlas_efficientnet, frac"),
        (["--augment", "mirror"], "an augmentation must be one of flip"),
        (["--learning-rate", "0"], "learning_rate must be a number above 0. Received: 0.0."),
        (["--image-size", "16"], "--image-size"),
        (["--batch-size", "0"], "--batch-size"),
        (["--max-epochs", "0"], "--max-epochs"),
        (["--seed", "-1"], "--seed"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_wrong_usage(mura, tmp_path, options, sentence):
    assert_wrong_usage(call("train", mura, tmp_path / "out", *SMALL, *options), sentence)
    assert not list(tmp_path.glob("out/**/recipe.json"))


def test_settings_that_a_plan_makes_are_wrong_in_a_recipe(mura, tmp_path):
    (tmp_path / "recipe.json").write_text('{"member": 1}')
    result = call("train", mura, tmp_path / "out", "--recipe", tmp_path / "recipe.json")
    assert_wrong_usage(result, "member of an experiment's recipe is set run by run")


def test_study_types_that_the_data_lack(mura, tmp_path):
    assert_sentence(
        call("train", mura, tmp_path / "out", *SMALL, "--types", "knee, elbow"), "Received: knee."
    )


def test_bad_files_are_a_sentence(mura, tmp_path):
    (mura / "train/XR_ELBOW/patient00001/study1_positive/image2.png").write_bytes(b"")
    result = call("train", mura, tmp_path / "out", *SMALL)
    assert_sentence(result, "or go on without them (--skip-bad)")


def test_a_missing_folder(tmp_path):
    assert_sentence(call("train", tmp_path / "nowhere", tmp_path), "nowhere")


def test_a_file_in_the_place_of_a_folder(mura, tmp_path):
    (tmp_path / "out").write_text("")
    result = call("train", mura, tmp_path / "out", *SMALL)
    assert_sentence(result, "File exists. Give another path")


def test_an_interrupted_training_says_how_to_go_on(mura, tmp_path, monkeypatch):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("mura_tf.grid.plan.wait", interrupt)
    result = call("train", mura, tmp_path / "out", *SMALL)
    assert result.exit_code == 130
    assert "Stopped. What is finished is kept; the same command does the rest." in result.stderr


def test_a_split_that_cannot_be_is_told_before_the_data_are_read(tmp_path):
    told = call("train", tmp_path / "nowhere", tmp_path / "out", "--split", "patient")
    assert_wrong_usage(told, "patient:0.15")
