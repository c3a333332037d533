from command_line import assert_sentence, call

import mura_tf as mt


def test_runs_become_one_file(members, tmp_path, bars):
    path = tmp_path / "lesions.mura"
    packed = call("pack", members, path, "--licence", "CC0.", "--name", "Lesions")
    assert (packed.exit_code, packed.stderr) == (0, "")
    assert packed.stdout.splitlines() == [
        f"{path}: 2 models that read elbow, wrist.",
        f"Next: mura-tf predict {path} FILES --out found",
    ]
    facts = mt.Bundle(path).facts
    assert (facts["name"], facts["licence"]) == ("Lesions", "CC0.")
    assert "Packing" in bars.getvalue()


def test_a_missing_folder(tmp_path):
    assert_sentence(call("pack", tmp_path / "nowhere", tmp_path / "a.mura"), "nowhere")
    assert not list(tmp_path.iterdir())
