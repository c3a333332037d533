import shutil

import pytest
from command_line import call, command, on_terminal


def test_a_good_data_set(mura):
    result = call("check", mura)
    assert result.exit_code == 0
    assert f"Nothing is wrong with {mura}." in result.stdout
    assert "All types" in result.stdout
    assert result.stderr == ""


def test_problems_are_listed(mura):
    bad = mura / "train/XR_ELBOW/patient00001/study1_positive/image2.png"
    bad.write_bytes(b"")
    result = call("check", mura)
    assert result.exit_code == 1
    assert f"unreadable: {bad}: the file is empty" in result.stdout
    assert f"1 problem in {mura}." in result.stdout
    assert result.stderr == ""


def test_every_wait_has_a_bar(mura, bars):
    for csv in mura.glob("*.csv"):
        csv.unlink()  # so that the folders are walked
    study = mura / "train/XR_ELBOW/patient00001/study1_positive"
    shutil.copy(study / "image1.png", study / "image3.png")  # as large as another, so compared
    assert "duplicate" in call("check", mura).stdout
    shown = bars.getvalue()
    for doing in ("Reading train", "Looking for others", "Checking", "Comparing files"):
        assert doing in shown


def test_a_terminal_shows_bars_and_a_pipe_does_not(mura):
    status, sent = on_terminal(command("check", mura))
    assert status == 0
    assert "Checking" in sent and "━" in sent
    assert f"Nothing is wrong with {mura}." in sent
    result = call("check", mura)
    assert "Checking" not in result.stdout and "━" not in result.stdout


def test_a_missing_folder(tmp_path):
    result = call("check", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "nowhere" in result.stdout


@pytest.mark.parametrize("option", ["--fast", "--image-size=3"])
def test_wrong_usage(mura, option):
    assert call("check", mura, option).exit_code == 2
