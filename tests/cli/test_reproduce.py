import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from command_line import assert_sentence, assert_wrong_usage, call
from experiment_names import DOCUMENTS, TABLES
from run_folders import FEW_STUDIES, finish, views_of

from mura_tf.papers import reproduce as lib
from mura_tf.training.recipe import find_settings

SMALL = ["--backbones", "small_cnn", "--members", "2", "--repeats", "1"]


# ------------------------------------------------------------------------------------------------
# Usage


def test_an_unknown_table_lists_the_known_ones():
    assert_wrong_usage(
        call("reproduce", "table_vii"),
        "an experiment must be one of densenet169, fourteen_classes, freezing, inputs, resnet18, "
        "table_iii, table_iv, table_v, table_vi, tables_v_vi, unified_vs_specialised. Received: "
        "'table_vii'.",
    )


def test_an_experiment_must_be_named():
    assert_wrong_usage(call("reproduce"), "an experiment must be named, one of densenet169")


def test_every_system_of_every_document_is_listed():
    result = call("reproduce", "--list")
    assert result.exit_code == 0
    for name in TABLES + DOCUMENTS:
        assert re.search(rf"^{name} \(document 00[0-4]\)$", result.stdout, re.MULTILINE)
    for name in DOCUMENTS:
        for system in lib.find_experiment(name).systems:
            assert re.search(rf"  {system.name} +{re.escape(system.title)} ", result.stdout)
    assert re.search(r"efficientnet_b3, trained directly +35 runs .* kappa 0\.6890", result.stdout)
    assert re.search(r"ResNet-18, unified +1 runs .* accuracy 0\.785, overall", result.stdout)
    listed = lib.listing().set_index(["command", "system"])
    b3 = listed.loc["table_vi", "efficientnet_b3, fine-tuned per study type"]
    # MURA's 36,808 training images once for the whole model and 15 times by type; 7 to 100 epochs
    assert (b3.runs, b3.images) == ("106", f"{36808 * 16 * 7 / 1e6:.1f}\u2013{58.9:.0f}")


@pytest.mark.parametrize(
    ("name", "option"),
    [("table_v", "--systems"), ("resnet18", "--repeats"), ("table_v", "--split-by")],
)
def test_options_that_an_experiment_has_not(name, option, tmp_path):
    value = {"--systems": "base", "--repeats": "2", "--split-by": "image"}[option]
    result = call("reproduce", name, "--out", tmp_path, "--dry-run", option, value)
    field = option[2:].replace("-", "_")
    assert_wrong_usage(result, f"{name} has the options backbones, members, ")
    assert_wrong_usage(result, f"Received: {field}.")


def test_options_are_checked_before_the_data_are_read(tmp_path):
    result = call(
        "reproduce", "table_v", "--out", tmp_path, "--data", tmp_path, "--split-by", "image"
    )
    assert_wrong_usage(result, "table_v has the options backbones, members, ")


@pytest.mark.parametrize("mode", [["--report-only"], ["--dry-run"], ["--data", "nowhere"]])
def test_an_unknown_backbone_is_named(begun, steps, mode):
    mode = ["--data", begun / "views.csv"] if mode[-1] == "nowhere" else mode
    result = call("reproduce", "table_v", "--out", begun, "--backbones", "knee_net", *mode)
    assert_wrong_usage(result, "Received: 'knee_net'.")
    assert steps == []


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("table_iv", ["--members", "0"], "--members"),
        ("table_iv", ["--repeats", "x"], "--repeats"),
        ("table_iv", ["--engine", "slurm"], "--engine"),
        ("table_iv", ["--select-on", "train"], "--select-on"),
        ("table_iv", ["--image-size", "8"], "--image-size"),
        ("table_iv", ["--unknown"], "--unknown"),
        ("table_iv", ["--recipe", "fracatlas"], "or the path of a JSON file."),
        ("resnet18", ["--systems", "base"], "a system of resnet18 must be one of"),
        ("densenet169", ["--split-by", "image"], "nothing is split by image"),
        ("resnet18", ["--systems", "frozen_two_linear", "--types", "wrist"], "model per study"),
    ],
)
def test_wrong_usage(name, options, sentence):
    """It is refused before any data are asked for."""
    assert_wrong_usage(call("reproduce", name, *options), sentence)


def test_a_recipe_of_the_package_is_taken_by_name(tmp_path, steps, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = ["--backbones", "mobilenet_v2_035", "--recipe", "fracatlas_tables"]
    assert call("reproduce", "table_v", "--out", tmp_path, "--dry-run", *named).exit_code == 0
    settings = find_settings("fracatlas_tables")
    (measured,) = steps
    assert {name: measured.to_dict()[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--ray-address", "auto"], "--ray-address is an option of Ray. Add --engine ray"),
        (["--cpus-per-run", "2"], "--cpus-per-run is an option of Ray. Add --engine ray"),
        (["--gpus-per-run", "0.5"], "--gpus-per-run is an option of Ray. Add --engine ray"),
        (["--engine", "ray", "--jobs", "2"], "--jobs is of this machine. With --engine ray give"),
    ],
)
@pytest.mark.parametrize("mode", [[], ["--dry-run"]])
def test_options_of_the_other_engine_are_refused(options, sentence, mode, tmp_path, steps):
    result = call("reproduce", "table_v", "--out", tmp_path, "--data", tmp_path, *options, *mode)
    assert_wrong_usage(result, sentence)
    assert steps == []


# ------------------------------------------------------------------------------------------------
# Reports


def test_report_only_needs_no_data(begun, bars):
    result = call("reproduce", "table_v", "--out", begun, "--report-only", *SMALL)
    assert result.exit_code == 0
    assert f"Table: {begun}/table_v/table.md" in result.stdout
    assert f"Report: {begun}/table_v/report.html" in result.stdout
    assert "Missing" not in result.stdout
    assert "Writing the report" in bars.getvalue()
    assert (begun / "table_v/report.html").is_file()
    assert pd.read_csv(begun / "table_v/table.csv").study_type.tolist() == [*FEW_STUDIES, "overall"]


def test_a_report_alone_names_its_command_where_no_other_did(begun, monkeypatch):
    path = begun / "table_v/experiment.json"

    def report(command):
        monkeypatch.setattr(sys, "argv", [command])
        assert call("reproduce", "table_v", "--out", begun, "--report-only", *SMALL).exit_code == 0
        return json.loads(path.read_text())["commands"]

    path.unlink(missing_ok=True)
    assert report("bin/first") == report("second") == ["first"]


def test_report_only_tells_what_is_missing(begun):
    more = ["--backbones", "small_cnn,xception", "--members", "2", "--repeats", "1"]
    result = call("reproduce", "table_v", "--out", begun, "--report-only", *more)
    assert result.exit_code == 0
    for study_type in FEW_STUDIES:
        folder = begun / "xception/type" / study_type
        assert f"Missing: {folder}: repeat 0 lacks 2 of 2 members" in result.stdout


def test_report_only_of_tables_trained_by_another_recipe(begun):
    """As where each backbone had its own file of weights: folders tell them apart."""
    for path in begun.rglob("recipe.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"batch_size": 16}))
    result = call("reproduce", "table_v", "--out", begun, "--report-only", *SMALL)
    assert result.exit_code == 0 and "Missing" not in result.stdout
    other = ["--image-size", "64"]
    result = call("reproduce", "table_v", "--out", begun, "--report-only", *SMALL, *other)
    assert_sentence(result, "holds a run of another recipe")


def test_report_only_of_some_types(begun):
    result = call(
        "reproduce", "table_v", "--out", begun, "--report-only", *SMALL, "--types", "wrist"
    )
    assert result.exit_code == 0
    assert pd.read_csv(begun / "table_v/table.csv").study_type.tolist() == ["wrist", "overall"]


def test_report_only_where_nothing_was_begun(tmp_path):
    result = call("reproduce", "table_iv", "--out", tmp_path / "nowhere", "--report-only")
    assert_sentence(result, f"{tmp_path}/nowhere/views.csv is not there")
    assert not (tmp_path / "nowhere").exists()


def test_report_only_of_what_was_not_trained(begun):
    result = call("reproduce", "table_vi", "--out", begun, "--report-only")
    assert_sentence(result, "no ensemble of table_vi is complete")
    knee = call("reproduce", "table_v", "--out", begun, "--report-only", *SMALL, "--types", "knee")
    assert_sentence(knee, "no ensemble of table_v is complete")


# ------------------------------------------------------------------------------------------------
# Training, up to the plan


def test_training_needs_data(tmp_path):
    result = call("reproduce", "table_iv", "--out", tmp_path)
    assert_wrong_usage(result, "--data is needed to train")
    result = call("reproduce", "table_iv", "--out", tmp_path, "--data", tmp_path / "nowhere")
    assert_sentence(result, "nowhere")


def test_runs_that_failed_are_told(tmp_path, monkeypatch):
    views = views_of(FEW_STUDIES)

    def run_plan(plan, views, out, **settings):
        for run in plan[:-1]:
            finish(run, views)
        return {plan[-1].folder: "out of memory"}

    monkeypatch.setattr(lib, "load_views", lambda data, progress: views)
    monkeypatch.setattr(lib, "run_plan", run_plan)
    result = call("reproduce", "table_iv", "--out", tmp_path / "cli", "--data", "data", *SMALL)
    assert_sentence(result, "1 run failed; see above. Repeat the command.")
    assert "Missing: " in result.stdout and "Report: " in result.stdout


# ------------------------------------------------------------------------------------------------
# Cost


def test_a_dry_run_says_what_would_be_done(tmp_path, steps, bars):
    arguments = ["--out", tmp_path, "--dry-run", "--backbones", "mobilenet_v2_035,efficientnet_b3"]
    result = call("reproduce", "table_vi", *arguments, "--types", "elbow,wrist", "--members", "2")
    assert result.exit_code == 0
    for backbone, side in (
        ("mobilenet_v2_035", 224),
        ("efficientnet_b3", 300),
    ):  # whole, on 80 columns
        assert re.search(rf"{backbone}\W+mura\W+{side}\W+0/1\W", result.stdout)
        assert re.search(
            rf"{backbone}\W+type\W+{side}\W+0/12\W+0\.6.8\.8\W+17.245\W", result.stdout
        )
    assert "26 runs, 0 of them finished; 24 start from 2 others." in result.stdout
    assert "Measuring" in bars.getvalue()
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_a_documents_systems(tmp_path, steps):
    """Steps are measured once for each size, batch and head."""
    result = call("reproduce", "densenet169", "--out", tmp_path, "--dry-run", "--types", "wrist")
    assert result.exit_code == 0
    assert [(recipe.side, recipe.batch_size) for recipe in steps] == [(224, 8), (320, 8)]
    assert "3 runs, 0 of them finished; 0 start from 0 others." in result.stdout


@pytest.mark.parametrize("mode", ["--dry-run", "--report-only"])
def test_settings_that_the_finished_runs_have_not_are_refused(begun, steps, mode):
    types = ["--types", "elbow,wrist"]
    arguments = ["table_v", "--out", begun, mode, *SMALL, *types]
    result = call("reproduce", *arguments, "--image-size", "96")
    assert_sentence(result, "holds a run of another recipe: image_size is None, asked for 96.")
    assert steps == []
    assert call("reproduce", *arguments, "--max-epochs", "100").exit_code == 0  # as it was


def test_a_dry_run_of_an_unknown_study_type(tmp_path, steps):
    result = call("reproduce", "table_iv", "--out", tmp_path, "--dry-run", "--types", "elbow,knee")
    assert_sentence(result, "study_types must be among elbow, finger, forearm, hand, humerus,")
    assert "Received: knee." in result.stderr
    assert steps == []


# ------------------------------------------------------------------------------------------------
# Table III


def test_what_trains_nothing_takes_no_options_of_a_training(tmp_path):
    options = ("--members", "3", "--image-size", "96", "--report-only")
    result = call("reproduce", "table_iii", "--out", tmp_path, *options)
    assert_wrong_usage(result, "takes backbones alone. Received: settings, members, report_only")
    result = call("reproduce", "table_iv", "--out", tmp_path, "--dry-run", "--report-only")
    assert_wrong_usage(result, "--dry-run and --report-only exclude each other")


def test_table_iii_is_counted(tmp_path, bars):
    """With TensorFlow, for the smallest of the pretrained backbones."""
    result = call("reproduce", "table_iii", "--out", tmp_path, "--backbones", "mobilenet_v2_035")
    assert result.exit_code == 0
    assert "416,609" in result.stdout
    assert result.stderr == ""
    assert "Building" in bars.getvalue()
    assert f"Table: {tmp_path}/table_iii" in result.stdout
    text = (tmp_path / "table_iii/table.md").read_text(encoding="utf-8")
    assert "| mobilenet_v2_035 | 224 x 224 | n/a | 416,609 | n/a | n/a |" in text


def test_a_dry_run_of_table_iii_builds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("mura_tf.papers.parameters.report_parameters", None)
    result = call("reproduce", "table_iii", "--out", tmp_path, "--dry-run")
    assert result.exit_code == 0
    assert "table_iii builds 7 models and counts their parameters; nothing is" in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_file_of_experiments_is_its_command():
    file = Path(__file__).parents[2] / "experiments/table_iii.py"
    process = subprocess.run(
        [sys.executable, file, "--dry-run"], capture_output=True, text=True, check=True
    )
    assert process.stdout.startswith("table_iii builds 7 models")


def test_table_iii_of_an_unknown_backbone(tmp_path):
    result = call("reproduce", "table_iii", "--out", tmp_path, "--backbones", "mobilenet_v2,vgg")
    assert_wrong_usage(result, "Received: 'vgg'.")
    assert not list(tmp_path.iterdir())
