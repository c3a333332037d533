import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from mura_tf.cli import app
from mura_tf.grid.plan import SCHEMES
from mura_tf.training.recipe import PREPROCESSINGS, SELECT_ON

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run")

COMMANDS = ["check", "prepare", "study", "synthesize", "train", "evaluate", "explain", "demo"]
SMALL = ["--backbone", "small_cnn", "--weights", "none", "--image-size", "32"]
SMALL += ["--max-epochs", "1", "--members", "1"]


def call(*arguments):
    """A result with `exit_code`, `stdout` and `stderr`; an unexpected exception passes through."""
    return CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


def assert_sentence(result, sentence):
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_help_lists_the_commands_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from mura_tf.cli import app\n"
        "try:\n    app(['--help'])\n"
        "except SystemExit as done:\n    assert done.code == 0\n"
        "print('imported', *sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, imported = run.stdout.split("imported ")
    assert all(command in shown for command in COMMANDS)
    assert "Not a medical device" in shown
    heavy = {"tensorflow", "keras", "pandas", "numpy", "sklearn", "matplotlib", "cv2"}
    assert not heavy & set(imported.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["diagnose"],
        ["check"],
        ["check", ".", "--fast"],
        ["train", ".", "out", "--members", "0"],
        ["train", ".", "out", "--image-size", "large"],
    ],
)
def test_wrong_usage_exits_2(arguments):
    assert call(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("option", "values"),
    [("scheme", SCHEMES), ("preprocessing", PREPROCESSINGS), ("select-on", SELECT_ON)],
)
def test_the_choices_are_those_of_the_package(option, values):
    for value in values:
        assert call("train", "nowhere", "out", f"--{option}", value).exit_code == 1
    assert call("train", "nowhere", "out", f"--{option}", "other").exit_code == 2


def test_check_of_a_good_data_set_exits_0(mura):
    result = call("check", mura)
    assert result.exit_code == 0
    assert f"Nothing is wrong with {mura}." in result.stdout
    assert "All types" in result.stdout


def test_check_lists_the_problems_and_exits_1(mura):
    bad = mura / "train/XR_ELBOW/patient00001/study1_positive/image2.png"
    bad.write_bytes(b"")
    result = call("check", mura)
    assert result.exit_code == 1
    assert f"unreadable: {bad}: the file is empty" in result.stdout
    assert f"1 problems in {mura}." in result.stdout
    assert "Error" not in result.stderr


def test_prepare_fills_the_cache(mura, tmp_path):
    result = call("prepare", mura, "--image-size", 40, "--cache-dir", tmp_path / "cache")
    assert result.exit_code == 0
    assert "11 views are ready at 40 px." in result.stdout
    assert (tmp_path / "cache/40px/images.u8").stat().st_size == 11 * 40 * 40


def test_study_writes_its_page(mura, tmp_path):
    result = call(
        "study", mura, "--out", tmp_path / "out", "--image-size", 16, "--per-class", "2,1"
    )
    assert result.exit_code == 0
    assert f"Page: {tmp_path / 'out/report.html'}" in result.stdout
    table = pd.read_csv(tmp_path / "out/study.csv")
    assert table.query("system == 'ipca_2' and metric == 'total_images'").value.item() == 5
    images = table.query("split == 'train' and metric == 'images'")
    assert images.value.sum() == 7


@pytest.mark.parametrize("numbers", ["ten", "1,,2", "2.5", ""])
def test_study_of_no_numbers_is_a_sentence(mura, tmp_path, numbers):
    result = call("study", mura, "--out", tmp_path / "out", "--per-class", numbers)
    assert_sentence(result, "--per-class must be whole numbers such as 10,1000.")


def test_from_synthetic_radiographs_to_the_report(tmp_path, eagerly):
    result = call("synthesize", tmp_path, "--studies-per-type", 8)
    assert result.exit_code == 0
    assert f"Written to {tmp_path / 'MURA-v1.1'}." in result.stdout

    out = tmp_path / "out"
    train = ["train", tmp_path, out, "--scheme", "whole", *SMALL, "--augment", "none"]
    result = call(*train, "--preprocessing", "native", "--batch-size", 32, "--seed", 3)
    assert result.exit_code == 0
    assert "overall" in result.stdout
    assert f"Report: {out / 'report.html'}" in result.stdout
    folder = out / "small_cnn/mura/all/repeat0-member0"
    recipe = json.loads((folder / "recipe.json").read_text())
    assert (recipe["weights"], recipe["augment"], recipe["seed"]) == (None, [], 3)
    assert recipe["batch_size"] == 32
    scores = pd.read_csv(out / "scores.csv")
    assert len(scores) == 8
    assert scores.study_type.iloc[-1] == "overall"
    assert scores.kappa.between(-1, 1).all()
    assert "medical device" in (out / "report.html").read_text()

    result = call("evaluate", out, folder, "--out", tmp_path / "again")  # one run, named twice
    assert result.exit_code == 0
    again = pd.read_csv(tmp_path / "again/scores.csv")
    pd.testing.assert_frame_equal(again, scores)
    assert (tmp_path / "again/report.html").exists()


def test_train_reads_a_recipe_and_overrides_it(mura, tmp_path, eagerly):
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


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--backbone", "resnet19"], "resnet18"),
        (["--types", "knee, elbow"], "Received: knee."),
        (["--types", "knee", "--scheme", "whole"], "has no models per study type"),
        (["--recipe", "."], "Is a directory. Give another path"),
        (["--augment", "mirror"], "an augmentation must be one of flip"),
        (["--recipe", "missing.json"], "missing.json"),
    ],
)
def test_a_wrong_setting_is_a_sentence(mura, tmp_path, options, sentence):
    assert_sentence(call("train", mura, tmp_path / "out", *SMALL, *options), sentence)
    assert not list(tmp_path.glob("out/**/recipe.json"))


def test_bad_files_are_a_sentence(mura, tmp_path):
    (mura / "train/XR_ELBOW/patient00001/study1_positive/image2.png").write_bytes(b"")
    result = call("train", mura, tmp_path / "out", *SMALL)
    assert_sentence(result, "or go on without them (--skip-bad)")


@pytest.mark.parametrize("command", ["check", "prepare", "train", "evaluate"])
def test_a_missing_folder_exits_1(tmp_path, command):
    result = call(command, tmp_path / "nowhere", *[tmp_path] * (command == "train"))
    assert result.exit_code == 1
    assert "nowhere" in result.stdout + result.stderr


def test_a_file_in_the_place_of_a_folder(mura, tmp_path):
    (tmp_path / "out").write_text("")
    result = call("train", mura, tmp_path / "out", *SMALL)
    assert_sentence(result, "File exists. Give another path")


def test_evaluate_names_runs_that_are_not_finished(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text('{"finished": false}')
    assert_sentence(call("evaluate", tmp_path), "made of finished runs")


def test_nothing_is_overwritten_by_synthesize(mura):
    assert_sentence(call("synthesize", mura.parent, "--studies-per-type", 8), "nothing is")


def test_an_error_has_no_traceback_in_a_real_process(tmp_path):
    code = "from mura_tf.cli import app; app()"
    command = [sys.executable, "-c", code, "evaluate", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith(f"Error: no run.json below {tmp_path}")
    assert len(run.stderr.splitlines()) == 1


def test_an_interrupted_training_says_how_to_go_on(mura, tmp_path, monkeypatch):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("mura_tf.grid.plan.wait", interrupt)
    result = call("train", mura, tmp_path / "out", *SMALL)
    assert result.exit_code == 130
    assert "Stopped. The same command goes on from here." in result.stderr


def test_the_installed_command_is_this_one():
    command = os.path.join(os.path.dirname(sys.executable), "mura-tf")
    if not os.path.exists(command):
        pytest.skip("mura-tf is not installed beside this Python")
    run = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "synthesize" in run.stdout


def test_explain_shows_and_scores_a_trained_run(lesions, members, tmp_path, eagerly):
    explain = ["explain", members, "--data", lesions.parent, "--out", tmp_path / "out"]
    result = call(*explain, "--study", "elbow/valid00001/study1")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [
        str(tmp_path / "out/valid-elbow-valid00001-study1.png"),
        str(tmp_path / "out/index.html"),
    ]

    result = call(*explain, "--top", "confident:2", "--methods", "grad_cam")
    assert result.exit_code == 0
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("<h2>") == 2
    assert "grad_cam" in page

    result = call(*explain, "--score", "--methods", "cam, saliency")
    assert result.exit_code == 0
    assert "better than the centred blob" in result.stdout
    scores = pd.read_csv(tmp_path / "out/heatmap_scores.csv")
    assert set(scores.method) == {"cam", "saliency", "uniform", "centred_blob"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--top", "wrong"], "--top must be ORDER:COUNT with a count from 1 up"),
        (["--top", "best:3"], "order must be one of wrong, confident, disagreement"),
        (["--study", "knee/p1/study1"], "a study is named split/study_type/patient/study"),
        (["--top", "wrong:3", "--score"], "exclude each other"),
        (["--sanity"], "--sanity goes with --score"),
        (["--score", "--of", "predicted"], "--score goes with abnormal"),
        (["--methods", "cam,saliency"], "a figure shows one method. Received: --methods cam,sal"),
        (["--top", "confident:1", "--methods", "gradcam"], "method must be one of cam, grad_cam"),
        (["--score", "--methods", "cam,gradcam"], "method must be one of cam, grad_cam"),
        (
            ["--top", "confident:1", "--methods", "grad_cam", "--layer", "x"],
            "layer must be the name",
        ),
    ],
)
def test_explain_says_what_is_wrong(lesions, members, tmp_path, eagerly, options, sentence):
    explain = ["explain", members, "--data", lesions, "--out", tmp_path / "out"]
    assert_sentence(call(*explain, *options), sentence)
    assert not list(tmp_path.glob("out/*"))


def test_explain_of_another_data_set(mura, members, tmp_path):
    assert_sentence(call("explain", members, "--data", mura), "must be the one of the runs")
