import shutil

import pandas as pd
import pytest
from command_line import assert_sentence, assert_wrong_usage, call


def test_a_line_per_study_and_the_same_in_tables(bundle, lesions, tmp_path):
    out = tmp_path / "found"
    told = call("predict", bundle.path, lesions / "valid/XR_WRIST", "--out", out)
    assert (told.exit_code, told.stderr) == (0, "")
    table = pd.read_csv(out / "findings.csv")
    for row in table.itertuples():
        assert (
            f"{row.study}: wrist: {row.decision}, probability {row.probability:.2f}" in told.stdout
        )
    assert f"Page: {out / 'index.html'}" in told.stdout and "Not a medical device." in told.stdout


def test_run_folders_read_as_well(members, lesions):
    told = call("predict", members, lesions / "valid/XR_WRIST")
    assert told.exit_code == 0 and told.stdout.count(": wrist: ") == 6


def test_a_file_that_cannot_be_read_is_told_and_exits_with_1(bundle, lesions, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"x")
    told = call("predict", bundle.path, bad, lesions / "valid/XR_WRIST")
    assert told.exit_code == 1 and "1 file could not be read" in told.stderr
    assert "bad.png: unknown study type: not read" in told.stdout
    assert told.stdout.count(": wrist: ") == 6


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--point", "best"], "one of paper, kappa, doubt"),
        (["--type", "knee"], "one that the bundle reads"),
        (["--dicom"], "needs --out"),
        (["--engine", "ray"], "needs --out"),
        (["--ray-address", "head:6379"], "--ray-address is an option of Ray. Add --engine ray"),
        (["--gpus-per-shard", "1"], "--gpus-per-shard is an option of Ray"),
    ],
)
def test_wrong_usage(bundle, lesions, arguments, reason):
    assert_wrong_usage(call("predict", bundle.path, lesions / "valid", *arguments), reason)


def test_nothing_there(bundle, tmp_path):
    assert_sentence(call("predict", tmp_path / "no.mura", tmp_path), "there is no bundle")
    told = call("predict", bundle.path, tmp_path / "nowhere.png")
    assert_sentence(told, "there is no file or folder")


def test_no_study_that_is_read_exits_with_1(bundle, lesions, tmp_path):
    knee = tmp_path / "XR_KNEE"
    knee.mkdir()
    shutil.copy(next((lesions / "valid/XR_WRIST").rglob("*.png")), knee)
    for more in ([], ["--out", tmp_path / "found"]):
        told = call("predict", bundle.path, knee, *more)
        assert told.exit_code == 1 and "no study was read" in told.stderr
        assert "knee: not read" in told.stdout
