import pandas as pd
from command_line import assert_sentence, call

from mura_tf.experiment import report_runs


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


def test_runs_that_are_not_finished_are_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text('{"finished": false}')
    assert_sentence(call("evaluate", tmp_path), "made of finished runs")


def test_a_missing_folder(tmp_path):
    assert_sentence(call("evaluate", tmp_path / "nowhere"), "nowhere")
