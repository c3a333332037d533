"""The script of the tries: what it refuses at once, what it compares, what it keeps."""

import sys

import numpy as np
import pandas as pd
import pytest
from prediction_tables import predictions_of
from sklearn.metrics import roc_auc_score

from mura_tf import Recipe, Run, load_mura, study_probabilities, train
from mura_tf.experiments import modern
from mura_tf.grid.plan import plan_runs
from mura_tf.training.recipe import find_settings


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--only", "stride_9"], "--only must name some of modern, .* Received: 'stride_9'"),
        (["--only", "stride_8"], "compared with 'modern', which is not trained"),
        (["--test"], "Train modern, member_1, member_2 first"),
        (["--test", "--only", "longer"], "--test is of .* Received: --only. Leave it out"),
    ],
)
def test_what_cannot_be_is_told_at_once(options, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["modern.py", "nowhere", "w.h5", str(tmp_path), *options])
    monkeypatch.setattr(modern, "RESULTS", tmp_path)
    with pytest.raises(SystemExit):
        modern.main()
    assert pd.Series([capsys.readouterr().err]).str.contains(sentence).all()


def test_tries_and_ablations_have_names_of_their_own():
    assert modern.TRIES[modern.MODERN] == {}
    assert not modern.TRIES.keys() & modern.ABLATIONS.keys()
    assert modern.TOGETHER not in modern.TRIES | modern.ABLATIONS


def test_members_are_those_of_the_command(tmp_path):
    recipe = Recipe.from_dict(find_settings("modern"))
    planned = plan_runs(recipe, tmp_path, [], scheme="whole", members=3)
    tried = [modern.recipe_of(name, recipe.weights) for name in modern.MEMBERS]
    assert [run.recipe.hash for run in planned] == [one.hash for one in tried]


def test_a_gain_is_of_the_same_studies_in_any_order(tmp_path):
    table = predictions_of()
    worse = table.assign(probability=table.probability[::-1].to_numpy())
    expected = 0.0
    for sign, one in ((1, table), (-1, worse)):
        studies = study_probabilities(one)
        expected += sign * roc_auc_score(studies.label, studies.probability)
    first = run_of(table, tmp_path / "first")
    second = run_of(worse.sort_values("label", ignore_index=True), tmp_path / "second")
    found = modern.gain([first], [second], "valid")
    assert found["gain"] == pytest.approx(expected)
    assert 0 < found["gain_low"] < found["gain"] < found["gain_high"]
    assert modern.gain([second], [first], "valid")["gain"] == pytest.approx(-expected)


def test_members_are_averaged_before_they_are_compared(tmp_path):
    table = predictions_of()
    other = table.assign(probability=table.probability[::-1].to_numpy(), member=1)
    mean = table.assign(probability=(table.probability + other.probability) / 2)
    one = run_of(table, tmp_path / "one")
    found = modern.gain([one, run_of(other, tmp_path / "other")], [one], "valid")
    expected = modern.gain([run_of(mean, tmp_path / "mean")], [one], "valid")
    assert found == pytest.approx(expected)
    studies = study_probabilities(mean)
    assert found["gain"] == pytest.approx(
        roc_auc_score(studies.label, studies.probability)
        - roc_auc_score(studies.label, study_probabilities(table).probability)
    )


def run_of(predictions, folder):
    folder.mkdir()
    predictions.to_csv(folder / "predictions.csv", index=False)
    return Run(folder)


def test_a_try_takes_the_place_of_its_earlier_line(tmp_path):
    path = tmp_path / "tries.csv"
    first = {"try": "modern", "recipe": "a", "auroc": 0.5, "pointing": 0.3}
    modern.write_tries([first, {"try": "member_1", "recipe": "b", "auroc": 0.6}], path)
    again = {"try": "modern", "recipe": "a", "auroc": 0.7}
    modern.write_tries([again, {"try": "member_2", "recipe": "c", "auroc": 0.8}], path)
    table = pd.read_csv(path).set_index("try")
    assert table.auroc.to_dict() == {"member_1": 0.6, "modern": 0.7, "member_2": 0.8}
    assert table.pointing["modern"] == 0.3  # of the same recipe, and not told anew
    modern.write_tries([again | {"recipe": "d"}], path)
    assert pd.isna(pd.read_csv(path).set_index("try").pointing["modern"])


def test_a_kept_try_needs_no_weights_and_is_not_left(members, tmp_path, monkeypatch):
    monkeypatch.setattr(modern, "RESULTS", tmp_path)
    run = Run(members / "member0")
    monkeypatch.setattr(modern, "recipe_of", lambda name, weights: run.recipe)
    assert not modern.is_kept("modern", None)
    kept = modern.keep(run, tmp_path / "modern")
    assert modern.is_kept("modern", None) and not (kept.path / "best.keras").exists()
    pd.testing.assert_frame_equal(kept.predictions, run.predictions)
    assert modern.scored([kept], "valid") == pytest.approx(modern.scored([run], "valid"))
    monkeypatch.setattr(
        modern, "recipe_of", lambda name, weights: run.recipe.changed({"member": 1})
    )
    assert not modern.is_kept("modern", None)


def test_what_predicts_otherwise_alone_is_not_trained_again(members, lesions, tmp_path):
    first = Run(members / "member0")
    recipe = first.recipe.changed({"mirrored": True})
    for _ in range(2):  # also where it was stopped in between
        modern.begin_from(first.path, recipe, tmp_path / "mirrored")
        assert not Run(tmp_path / "mirrored").finished
    run = train(recipe, load_mura(lesions), tmp_path / "mirrored", verbose=0)
    with pytest.raises(ValueError, match="another recipe: seed is 0, asked for 1"):
        modern.begin_from(first.path, recipe.changed({"seed": 1}), tmp_path / "mirrored")
    assert run.finished and run.info["recipe_hash"] == recipe.hash
    assert (run.path / "best.keras").read_bytes() == (first.path / "best.keras").read_bytes()
    before, after = first.predictions.probability, run.predictions.probability
    assert not np.allclose(before, after)
    assert before.corr(after) > 0.9


def test_a_try_is_left_until_it_has_its_line(members, tmp_path, monkeypatch):
    monkeypatch.setattr(modern, "RESULTS", tmp_path)
    run = Run(members / "member0")
    monkeypatch.setattr(modern, "recipe_of", lambda name, weights: run.recipe)
    modern.keep(run, tmp_path / "modern")
    assert not modern.is_told("modern", None)
    line = {"try": "modern", "recipe": run.recipe.hash, "auroc": 0.5}
    modern.write_tries([line | {"recipe": "other"}], tmp_path / modern.TRIED)
    assert not modern.is_told("modern", None)
    modern.write_tries([line], tmp_path / modern.TRIED)
    assert modern.is_told("modern", None)
    modern.keep(run, tmp_path / "member_2")
    modern.write_tries([line | {"try": "member_2"}], tmp_path / modern.TRIED)
    assert not modern.is_told("member_2", None)  # the members together have none
    modern.write_tries([line | {"try": "members"}], tmp_path / modern.TRIED)
    assert modern.is_told("member_2", None)


def test_what_is_kept_can_stand_beside(members, tmp_path):
    kept = modern.keep(Run(members / "member0"), tmp_path / "before")
    before = (kept.path / "predictions.csv").read_bytes()
    assert (modern.keep(kept, tmp_path / "before").path / "predictions.csv").read_bytes() == before


def test_test_is_opened_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["modern.py", "nowhere", "w.h5", str(tmp_path), "--test"])
    monkeypatch.setattr(modern, "RESULTS", tmp_path)
    monkeypatch.setattr(modern, "is_kept", lambda name, weights: True)
    (tmp_path / modern.OPENED).write_text("try\n")
    with pytest.raises(SystemExit):
        modern.main()
    assert "test is opened once, and was" in capsys.readouterr().err
