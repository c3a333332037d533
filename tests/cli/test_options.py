import json
from pathlib import Path

import pytest

from mura_tf.cli.options import listed, run_folders, settings_of
from mura_tf.training.recipe import find_settings


@pytest.mark.parametrize(
    ("text", "parts"), [("a, b,c", ("a", "b", "c")), ("a", ("a",)), (None, None)]
)
def test_what_stands_between_commas(text, parts):
    assert listed(text) == parts


def test_options_come_before_the_recipe(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"seed": 1, "batch_size": 4}))
    assert settings_of(str(path), {"seed": 2, "backbone": None}) == {"seed": 2, "batch_size": 4}
    named = settings_of("fracatlas_scratch", {})
    assert named == find_settings("fracatlas_scratch")
    assert settings_of(None, {}) == {}


def test_none_is_a_word_here():
    assert settings_of(None, {"weights": "none", "augment": "none"}) == {
        "weights": None,
        "augment": (),
    }
    assert settings_of(None, {"augment": "flip, zoom:0.1"})["augment"] == ("flip", "zoom:0.1")


def test_run_folders_are_found_once(tmp_path):
    for name in ("a/b", "a/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").touch()
    above, one = tmp_path / "a", tmp_path / "a/b"
    found = run_folders([above, one, Path(f"{one}/../b")])
    assert [path.resolve() for path in found] == [above / "b", above / "c"]
    with pytest.raises(FileNotFoundError, match=r"no run\.json below"):
        run_folders([tmp_path / "none"])
