import shutil

import pandas as pd
import pytest
from command_line import assert_sentence, call
from pages import Page
from run_folders import finish, views_of

from mura_tf.experiment import report_runs
from mura_tf.grid.plan import PlannedRun
from mura_tf.training.recipe import Recipe


def test_runs_are_scored_and_reported(members, tmp_path, bars):
    folder = members / "member0"
    result = call("evaluate", members, folder, "--out", tmp_path)  # one run, named twice
    assert result.exit_code == 0
    assert result.stderr == ""
    assert f"Report: {tmp_path / 'report.html'}" in result.stdout
    expected = report_runs([folder, members / "member1"], tmp_path / "again")
    scores = pd.read_csv(tmp_path / "scores.csv")
    pd.testing.assert_frame_equal(scores, expected)
    assert (tmp_path / "report.html").exists()
    assert "Scoring" in bars.getvalue() and "Writing the report" in bars.getvalue()


def test_files_beside_the_runs_are_no_place_for_the_report(members, tmp_path):
    """As `runs/*` names them."""
    folder = shutil.copytree(members / "member0", tmp_path / "runs/small_cnn")
    (tmp_path / "runs/experiment.json").write_text("{}")
    result = call("evaluate", *sorted((tmp_path / "runs").iterdir()))
    assert result.exit_code == 0, result.stderr
    assert (folder / "scores.csv").is_file()


@pytest.fixture
def write(tmp_path):
    """Writes a finished run on synthetic studies and returns its folder."""

    def run(name, split="valid", data="a", **settings):
        views = views_of({"elbow": (8, 6), "wrist": (6, 8)}).assign(split=split)
        views = views.assign(path=f"/x/{data}/{split}/1.png")
        recipe = Recipe("small_cnn", weights=None, stage="mura", **settings)
        finish(PlannedRun(recipe, tmp_path / name), views, data=data)
        return tmp_path / name

    return run


def test_two_learning_rates_are_compared(write, tmp_path):
    write("runs/slow")
    write("runs/fast", learning_rate=0.01)
    result = call("evaluate", tmp_path / "runs", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    told = [f"small_cnn, whole-data model, learning_rate {one}" for one in ("0.0001", "0.01")]
    for name in told:
        assert f"{name}: 1 member, valid split\n" in result.stdout
    for file in ("scores.csv", "operating_points.csv"):
        assert list(dict.fromkeys(pd.read_csv(tmp_path / file).system)) == told
    page = Page(tmp_path / "report.html")
    assert list(page.table("System")) == told
    assert list(page.table("Setting")["learning_rate"].values())[-2:] == ["0.0001", "0.01"]
    assert page.source.count("Kappa per study type with intervals") == 1
    assert "one data set" not in result.stdout + page.text


def test_two_data_sets_are_not_compared(write, tmp_path):
    write("runs/mura", data="MURA")
    write("runs/fracatlas", data="FracAtlas", split="test")
    result = call("evaluate", tmp_path / "runs", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    sentence = "Compare systems of one data set only: these are of 2, FracAtlas, MURA."
    assert result.stdout.count(sentence) == 1
    rows = Page(tmp_path / "report.html").table("System")
    assert {name.rpartition(", on ")[2]: row["Split"] for name, row in rows.items()} == {
        "MURA": "valid",
        "FracAtlas": "test",
    }
    page = Page(tmp_path / "report.html")
    assert sentence in page.text
    assert page.source.count("Kappa per study type with intervals") == 2
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "FracAtlas: Epochs were selected on the valid split. The test split is" in page.text


def test_predictions_that_lost_a_line_are_refused(write, tmp_path):
    path = write("runs/one") / "predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    result = call("evaluate", tmp_path / "runs", "--out", tmp_path)
    assert_sentence(result, f"{path} must have a row for each of the 28 views")
    assert not (tmp_path / "scores.csv").exists()


def test_runs_that_are_not_finished_are_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text('{"finished": false}')
    assert_sentence(call("evaluate", tmp_path), "made of finished runs")


def test_a_missing_folder(tmp_path):
    assert_sentence(call("evaluate", tmp_path / "nowhere"), "nowhere")
