import json
import shutil

from command_line import assert_sentence, assert_wrong_usage, call

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


def test_of_two_recipes_one_is_packed_and_the_other_named(members, tmp_path):
    runs = shutil.copytree(members, tmp_path / "runs")
    path = runs / "member1/recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"learning_rate": 0.5}))
    packed = call("pack", runs, tmp_path / "one.mura")
    assert packed.exit_code == 0
    assert "of 2 systems small_cnn, whole-data model, learning_rate 0.01 is taken." in packed.stderr
    assert "for that one: small_cnn, whole-data model, learning_rate 0.5." in packed.stderr
    (member,) = mt.Bundle(tmp_path / "one.mura").facts["members"]
    assert member["recipe_hash"] == mt.Run(runs / "member0").recipe.hash


def test_a_missing_folder(tmp_path):
    assert_sentence(call("pack", tmp_path / "nowhere", tmp_path / "a.mura"), "nowhere")
    assert not list(tmp_path.iterdir())


def test_a_bundle_has_its_suffix(tmp_path):
    assert_wrong_usage(call("pack", tmp_path, tmp_path / "a.zip"), "a bundle is a .mura file")
