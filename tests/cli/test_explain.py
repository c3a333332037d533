import pandas as pd
import pytest
from command_line import assert_sentence, assert_wrong_usage, call

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run")


def test_a_trained_run_is_shown_and_scored(lesions, members, tmp_path, eagerly, bars):
    explain = ["explain", members, "--data", lesions.parent, "--out", tmp_path / "out"]
    result = call(*explain, "--study", "elbow/valid00001/study1")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [
        str(tmp_path / "out/valid-elbow-valid00001-study1.png"),
        str(tmp_path / "out/index.html"),
    ]
    assert "Explaining" in bars.getvalue() and "Drawing" in bars.getvalue()

    result = call(*explain, "--top", "confident:2", "--methods", "grad_cam")
    assert result.exit_code == 0
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("<h2>") == 2
    assert "grad_cam" in page

    bars.truncate(0)
    result = call(*explain, "--score", "--methods", "cam, saliency")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "better than the centred blob" in result.stdout
    scores = pd.read_csv(tmp_path / "out/heatmap_scores.csv")
    assert set(scores.method) == {"cam", "saliency", "uniform", "centred_blob"}
    assert "Explaining" in bars.getvalue()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--top", "wrong"], "--top must be ORDER:COUNT with a count from 1 up"),
        (["--top", "best:3"], "order must be one of wrong, confident, disagreement"),
        (["--top", "wrong:3", "--score"], "exclude each other"),
        (["--sanity"], "--sanity goes with --score"),
        (["--score", "--of", "predicted"], "--score goes with --of abnormal"),
        (["--methods", "cam,saliency"], "a figure shows one method. Received: --methods cam,sal"),
        (["--top", "confident:1", "--methods", "gradcam"], "method must be one of cam, grad_cam"),
        (["--score", "--methods", "cam,gradcam"], "method must be one of cam, grad_cam"),
    ],
)
def test_wrong_usage(lesions, members, tmp_path, options, sentence):
    explain = ["explain", members, "--data", lesions, "--out", tmp_path / "out"]
    assert_wrong_usage(call(*explain, *options), sentence)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--study", "knee/p1/study1"], "a study is named split/study_type/patient/study"),
        (
            ["--top", "confident:1", "--methods", "grad_cam", "--layer", "x"],
            "layer must be the name",
        ),
    ],
)
def test_what_the_runs_lack(lesions, members, tmp_path, eagerly, options, sentence):
    explain = ["explain", members, "--data", lesions, "--out", tmp_path / "out"]
    assert_sentence(call(*explain, *options), sentence)
    assert not list(tmp_path.glob("out/*"))


def test_another_data_set(mura, members, tmp_path):
    assert_sentence(call("explain", members, "--data", mura), "must be the one of the runs")
