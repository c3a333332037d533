import codecs
import json
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from prediction_tables import predictions_of

from mura_tf.evaluation.predictions import read_predictions
from mura_tf.models.build import build_model
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run, finished_runs, folders_below, load_predictions

RECIPE = Recipe(backbone="small_cnn", weights=None, image_size=32, study_types=("elbow",))


@pytest.fixture
def run(tmp_path):
    """A finished run as `train` leaves it, made by hand."""
    folder = tmp_path / "run"
    RECIPE.save(folder / "recipe.json")
    (folder / "run.json").write_text(json.dumps({"finished": True, "best_epoch": 2}))
    (folder / "history.csv").write_text("epoch,loss,val_kappa\n1,0.1,0.0\n2,1e-07,0.5\n")
    pd.DataFrame(
        {"split": ["valid"], "study_type": ["elbow"], "patient": ["007"], "study": ["study1"]}
        | {"view": ["image1.png"], "label": [1], "backbone": ["small_cnn"], "stage": ["mura"]}
        | {"repeat": [0], "member": [3], "probability": [0.1 + 0.2]}
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
        ({"constant": True, "auroc": 0.5}, "says anything; their AUROC at image level is 0.500."),
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
    with pytest.raises(ValueError, match=r"run.json must be JSON: .*delete the folder to train"):
        _ = run.finished


def lose_a_line(path, number=1):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:number] + lines[number + 1 :]))


def test_predictions_that_lost_whole_lines_are_refused(run):
    """With them went whole studies, and the others were scored."""
    path = run.path / "predictions.csv"
    predictions_of(6).to_csv(path, index=False)
    rows = len(read_predictions(path))
    info = {"finished": True, "views": {"train": 100, "valid": rows}}
    (run.path / "run.json").write_text(json.dumps(info))
    assert len(load_predictions(run.path)) == len(run.predictions) == run.predicted == rows
    lose_a_line(path)
    sentence = (
        rf"{path} must have a row for each of the {rows} views that the run predicted, as its "
        rf"run.json counts them\. Received: {rows - 1}\. Delete the file and repeat the command"
    )
    for read in (lambda: run.predictions, lambda: load_predictions([run.path, run.path])):
        with pytest.raises(ValueError, match=sentence):
            read()


def test_a_history_that_lost_lines_is_refused(run):
    (run.path / "run.json").write_text('{"finished": true, "seconds_per_epoch": [1.5, 1.5]}')
    assert len(Run(run.path).history) == 2
    lose_a_line(run.path / "history.csv")
    with pytest.raises(ValueError, match=r"epoch: 1 rows, and the run had 2 epochs\. Put back"):
        _ = Run(run.path).history


READERS = {
    "recipe.json": lambda run: run.recipe,
    "run.json": lambda run: run.info,
    "history.csv": lambda run: run.history,
    "predictions.csv": lambda run: run.predictions,
    "best.keras": lambda run: run.model(),
}


@pytest.mark.parametrize("content", ["", "half", "[1]", "binary", "gone"])
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_named_with_the_mend(run, name, content):
    path = run.path / name
    whole = path.read_bytes()
    texts = {"half": whole[: len(whole) // 2], "binary": b"\xff\xfe\x00\x01\x02"}
    path.write_bytes(texts.get(content, content.encode()))
    if content == "gone":
        path.unlink()
    if name == "run.json" and content == "gone":
        assert not Run(run.path).finished
        return
    with pytest.raises(FileNotFoundError if content == "gone" else ValueError) as caught:
        READERS[name](Run(run.path))
    message = str(caught.value)
    assert message.startswith(f"{path} must ")
    assert "to train this run again" in message or "it predicts again" in message


@pytest.mark.parametrize("name", ["recipe.json", "run.json", "history.csv", "predictions.csv"])
def test_a_file_that_an_editor_gave_a_mark_is_read(run, name):
    path = run.path / name
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    READERS[name](Run(run.path))


def test_run_json_that_lacks_what_is_asked_for_or_has_another_kind(run):
    path = run.path / "run.json"
    with pytest.raises(ValueError, match=r"run.json lacks 'seconds'\. Put back what was there"):
        _ = run.info["seconds"]
    path.write_text('{"finished": true, "views": 5}')
    with pytest.raises(ValueError, match=r"run.json must be JSON.*: views cannot be 5\. Put back"):
        _ = run.info


def test_recipe_json_with_an_unknown_setting_is_named(run):
    settings = RECIPE.to_dict() | {"batchsize": 8}
    (run.path / "recipe.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"Received: 'batchsize'. Did you mean 'batch_size'\?"):
        _ = run.recipe


def test_a_run_is_read_without_keras(run):
    code = (
        "import sys; from pathlib import Path; from mura_tf.training.run import Run; "
        f"run = Run(Path({str(run.path)!r})); run.recipe; run.history; run.predictions; "
        "sys.exit(not run.finished or bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_load_predictions_puts_tables_below_each_other(tmp_path):
    tables = [predictions_of(3, seed=seed, member=seed) for seed in range(3)]
    for seed, table in enumerate(tables):
        (tmp_path / f"run{seed}").mkdir()
        table.to_csv(tmp_path / f"run{seed}" / "predictions.csv", index=False)
    loaded = load_predictions([tmp_path / "run0", str(tmp_path / "run1"), tmp_path / "run2"])
    assert loaded.to_dict("list") == pd.concat(tables).to_dict("list")
    assert loaded.index.equals(pd.RangeIndex(len(loaded)))


def test_load_predictions_of_tasks_with_other_columns(tmp_path):
    plain = predictions_of(2, seed=0)
    classes = plain.assign(**{"p:elbow": 0.25}, member=1)
    for name, table in (("plain", plain), ("classes", classes)):
        (tmp_path / name).mkdir()
        table.to_csv(tmp_path / name / "predictions.csv", index=False)
    loaded = load_predictions([tmp_path / "plain", tmp_path / "classes"])
    pd.testing.assert_frame_equal(
        loaded, pd.concat([plain, classes], ignore_index=True), check_dtype=False
    )


def test_load_predictions_names_the_folders_that_lack_them(tmp_path):
    (tmp_path / "run0").mkdir()
    predictions_of(2).to_csv(tmp_path / "run0" / "predictions.csv", index=False)
    (tmp_path / "run1").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        load_predictions([tmp_path / f"run{number}" for number in range(3)])
    assert str(caught.value) == (
        "2 of 3 run folders hold no predictions.csv, expected a finished run in each. "
        f"Received: {tmp_path / 'run1'}, {tmp_path / 'run2'}. "
        "Repeat the command that trained them: it predicts again where best.keras is there, "
        "and trains where it is not."
    )


@pytest.mark.parametrize("length", [0, 40, -30])
def test_a_predictions_table_cut_short_gets_a_sentence(tmp_path, length):
    path = tmp_path / "predictions.csv"
    predictions_of(2).to_csv(path, index=False)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"predictions.csv must be a predictions table, and is"):
        load_predictions([tmp_path])


def test_load_predictions_of_no_folder():
    with pytest.raises(FileNotFoundError, match=r"Received: no folder\."):
        load_predictions([])


def test_each_root_must_hold_a_run(tmp_path):
    """One that is misspelt would make the ensemble smaller without a word."""
    for name in ("one/a", "one/b", "elsewhere/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")
    (tmp_path / "one/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "one/loop").symlink_to(tmp_path / "one")
    found = folders_below(tmp_path / "one")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "one/a", "one/b", "one/linked/c"
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"no run.json below .*typo, expected at least one"):
        folders_below([tmp_path / "one", tmp_path / "typo"])
