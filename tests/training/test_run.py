import json
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest

from mura_tf.models.build import build_model
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run, finished_runs

RECIPE = Recipe(backbone="small_cnn", weights=None, image_size=32, study_types=("elbow",))


@pytest.fixture
def run(tmp_path):
    """A finished run as `train` leaves it, made by hand."""
    folder = tmp_path / "run"
    RECIPE.save(folder / "recipe.json")
    (folder / "run.json").write_text(json.dumps({"finished": True, "best_epoch": 2}))
    (folder / "history.csv").write_text("epoch,loss,val_kappa\n1,0.1,0.0\n2,1e-07,0.5\n")
    pd.DataFrame(
        {"patient": ["007"], "study": ["study1"], "label": [1], "repeat": [0], "member": [3]}
        | {"probability": [0.1 + 0.2]}
    ).to_csv(folder / "predictions.csv", index=False)
    build_model("small_cnn", None, image_size=32).save(folder / "best.keras")
    return Run(folder)


def test_a_path_may_be_text(run):
    assert Run(str(run.path)) == run == finished_runs(str(run.path))[0]


def test_a_run_is_read_back(run):
    assert run.finished
    assert run.info["best_epoch"] == 2
    assert run.recipe == RECIPE
    assert run.history.to_dict("list") == {
        "epoch": [1, 2],
        "loss": [0.1, 1e-07],
        "val_kappa": [0.0, 0.5],
    }
    assert run.history.epoch.dtype == int


@pytest.mark.parametrize(
    ("said", "ending"),
    [
        ({}, None),
        ({"constant": False, "auroc": 0.9}, None),
        ({"constant": True, "auroc": 0.5}, "says anything. Their AUROC at image level is 0.500."),
        ({"constant": True, "auroc": None}, "says anything."),
    ],
)
def test_a_run_that_decides_nothing_warns(run, said, ending):
    (run.path / "run.json").write_text(json.dumps({"finished": True} | said))
    if ending is None:
        assert run.warning == ""
    else:
        assert run.warning.startswith(f"{run.path}: the chosen epoch calls all views")
        assert run.warning.endswith(ending)


def test_predictions_keep_every_bit_and_zeros_before_a_patients_number(run):
    row = run.predictions.iloc[0]
    assert row.probability == 0.1 + 0.2
    assert (row.patient, row.label, row.member) == ("007", 1, 3)


def test_the_model_predicts(run):
    model = run.model()
    assert isinstance(model, keras.Model)
    assert not model.compiled
    probability = model.predict(np.zeros((1, 32, 32, 3), np.float32), verbose=0)
    assert probability.shape == (1, 1)
    assert 0 < probability[0, 0] < 1


def test_a_moved_run_is_read(run, tmp_path):
    moved = Run(run.path.rename(tmp_path / "elsewhere"))
    assert moved.finished
    assert moved.recipe == RECIPE
    assert len(moved.predictions) == 1


def test_an_empty_folder_is_an_unfinished_run(tmp_path):
    assert Run(tmp_path).info == {}
    assert not Run(tmp_path).finished
    assert not Run(tmp_path / "missing").finished


def test_a_run_without_its_predictions_is_unfinished(run):
    (run.path / "predictions.csv").unlink()
    assert not run.finished
    with pytest.raises(ValueError, match=r"which hold predictions\.csv\. Received 1 of 1"):
        finished_runs(run.path)


@pytest.mark.parametrize(
    ("there", "asked", "fits"),
    [
        ("../weights/b3.h5", "/data/weights/b3.h5", True),
        ("b3.h5", "b0.h5", False),
        ("imagenet", None, False),
        ("imagenet", "imagenet", True),
        (None, "b3.h5", False),
    ],
)
def test_weights_are_known_by_their_files_name(tmp_path, there, asked, fits):
    recipes = [replace(RECIPE, backbone="efficientnet_b3", weights=one) for one in (there, asked)]
    recipes[0].save(tmp_path / "recipe.json")
    if fits:
        Run(tmp_path).require_recipe(recipes[1])
        return
    with pytest.raises(ValueError, match=r"another recipe: weights is .*, asked for .*\. Use"):
        Run(tmp_path).require_recipe(recipes[1])


@pytest.mark.parametrize("content", ["", "[]", '{"finished": tr'])
def test_run_json_cut_short_is_named(run, content):
    (run.path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run.json must be JSON: .*Delete the folder to train"):
        _ = run.finished


def test_recipe_json_with_an_unknown_setting_is_named(run):
    settings = RECIPE.to_dict() | {"batchsize": 8}
    (run.path / "recipe.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"Received: 'batchsize'. Did you mean 'batch_size'\?"):
        _ = run.recipe


def test_a_run_is_read_without_keras(run):
    code = (
        "import sys; from pathlib import Path; from mura_tf.training.run import Run; "
        f"run = Run(Path({str(run.path)!r})); run.recipe; run.history; run.predictions; "
        "sys.exit(run.finished and not {'keras', 'tensorflow'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
