"""`mura-tf pack`, `predict` and `export`, as a person types them."""

import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from mura_tf.cli import app


def call(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_pack_predict_and_read_the_tables(members, lesions, tmp_path):
    bundle, out = tmp_path / "wrist.mura", tmp_path / "found"
    packed = call("pack", members, bundle, "--licence", "CC0.")
    assert packed.exit_code == 0 and "2 models that read elbow, wrist" in packed.stdout
    told = call("predict", bundle, lesions / "valid/XR_WRIST", "--out", out)
    assert told.exit_code == 0, told.output
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
    ("arguments", "status", "reason"),
    [
        (["--point", "best"], 2, "one of paper, kappa, doubt"),
        (["--type", "knee"], 2, "one that the bundle reads"),
        (["--dicom"], 2, "needs --out"),
    ],
)
def test_wrong_usage_exits_with_2(bundle, lesions, arguments, status, reason):
    told = call("predict", bundle.path, lesions / "valid", *arguments)
    assert told.exit_code == status
    assert reason in " ".join(told.stderr.replace("│", " ").split())


def test_nothing_there_exits_with_1(bundle, tmp_path):
    assert "there is no bundle" in call("predict", tmp_path / "no.mura", tmp_path).stderr
    told = call("predict", bundle.path, tmp_path / "nowhere.png")
    assert told.exit_code == 1 and "there is no file or folder" in told.stderr


def test_export_goes_into_the_bundle_or_a_folder(bundle, tmp_path):
    pytest.importorskip("tf2onnx")
    path = tmp_path / "copy.mura"
    shutil.copy(bundle.path, path)
    told = call("export", path, "--to", "onnx")
    assert told.exit_code == 0 and f"{path}: members/member0.onnx, differs" in told.stdout
    told = call("export", path, "--to", "saved_model", "--out", tmp_path / "graphs")
    assert told.exit_code == 0 and (tmp_path / "graphs/member1").is_dir()
    assert call("export", path, "--to", "saved_model").exit_code == 1
