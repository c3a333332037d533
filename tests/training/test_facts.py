"""What a run says of itself, and what a report is traced back to."""

import json
import re
import sys

import keras
import pytest
import tensorflow as tf
from run_folders import finish, views_of
from trainings import RECIPE

from mura_tf.data.pipeline import input_statistics
from mura_tf.grid.plan import plan_runs
from mura_tf.terminal import Notice
from mura_tf.training.facts import write_facts
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run


def test_run_json_says_what_was_run(reference, views):
    info = reference.info
    assert info["recipe_hash"] == RECIPE.hash == reference.recipe.hash
    assert info["versions"]["keras"] == keras.__version__
    assert info["versions"]["tensorflow"].split("-")[0] == tf.__version__
    assert set(info["versions"]) == {"mura_tf", "keras", "tensorflow", "numpy", "python"}
    assert info["backend"] == "tensorflow"
    assert info["device"]
    assert info["seed"] == RECIPE.run_seed
    assert re.fullmatch("[0-9a-f]{16}", info["data_fingerprint"])
    assert info["views"] == {"train": 40, "valid": 16}
    assert info["skipped"] == 0
    training = views[views.split == "train"]
    found = input_statistics(training, image_size=32, preprocessing="caffe")
    assert info["inputs"].pop("preprocessing") == found.pop("preprocessing")
    assert info["inputs"] == pytest.approx(found)
    assert info["seconds"] == pytest.approx(sum(info["seconds_per_epoch"]), abs=0.1)


@pytest.fixture
def runs(tmp_path):
    views = views_of({"elbow": (4, 4), "wrist": (4, 4)})
    plan = plan_runs(Recipe(backbone="small_cnn"), tmp_path, ["elbow", "wrist"], members=2)
    for run in plan:
        finish(run, views)
    return [Run(run.folder) for run in plan]


def test_the_facts_name_every_command_that_trained(runs, tmp_path, monkeypatch):
    def write(*arguments, report_only=False):
        monkeypatch.setattr(sys, "argv", ["bin/mura-tf", "reproduce", *arguments])
        write_facts(runs, tmp_path, report_only=report_only)
        return json.loads((tmp_path / "experiment.json").read_text())["commands"]

    one, two = "mura-tf reproduce --data 'my MURA'", "mura-tf reproduce --jobs 2"
    assert write("--data", "my MURA") == [one]
    assert write("--anything", report_only=True) == [one]
    assert write("--jobs", "2") == write("--jobs", "2") == [one, two]
    assert write("--anything", report_only=True) == [one, two]


@pytest.mark.parametrize("content", ["", '{"commands": ["mura', "[]", '{"commands": 5}'])
def test_damaged_facts_are_written_anew_with_a_warning(runs, tmp_path, content):
    path = tmp_path / "experiment.json"
    path.write_text(content)
    with pytest.warns(Notice, match=f"{path} is damaged and written anew, without the commands"):
        write_facts(runs, tmp_path)
    assert len(json.loads(path.read_text())["commands"]) == 1


def test_a_recipe_is_listed_once_for_the_runs_of_a_stage(runs, tmp_path):
    write_facts(runs, tmp_path)
    facts = json.loads((tmp_path / "experiment.json").read_text())
    assert [recipe["stage"] for recipe in facts["recipes"]] == ["mura", "type"]
    assert facts["runs"] == 5 and facts["epochs"] == 5 * 8
