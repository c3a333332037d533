import shutil

import pytest
from command_line import assert_sentence, assert_wrong_usage, call


@pytest.fixture
def copied(bundle, tmp_path):
    return shutil.copy(bundle.path, tmp_path / "copy.mura")


def test_graphs_go_into_the_bundle_or_a_folder(copied, tmp_path):
    pytest.importorskip("tf2onnx")
    told = call("export", copied, "--to", "onnx")
    assert told.exit_code == 0 and f"{copied}: members/member0.onnx, differs" in told.stdout
    told = call("export", copied, "--to", "saved_model", "--out", tmp_path / "graphs")
    assert told.exit_code == 0 and (tmp_path / "graphs/member1").is_dir()


def test_wrong_usage(copied):
    assert_wrong_usage(call("export", copied, "--to", "saved_model"), "needs --out")
    assert_wrong_usage(call("export", copied, "--to", "torch"), "--to")


def test_a_missing_bundle(tmp_path):
    assert_sentence(call("export", tmp_path / "no.mura"), "there is no bundle")
