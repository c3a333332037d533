"""The script of the tries: what it refuses at once, what it compares, what it keeps."""

import dataclasses
import sys

import numpy as np
import pandas as pd
import pytest
from eager import run_eagerly
from prediction_tables import predictions_of
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from mura_tf import Recipe, Run, load_fracatlas, load_mura, study_probabilities, train
from mura_tf.experiments import modern
from mura_tf.grid.plan import plan_runs
from mura_tf.training.recipe import find_settings


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--only", "stride_9"], "--only must name some of modern, .* Received: 'stride_9'"),
        (["--only", "stride_8"], "compared with 'modern', which is not trained"),
        (["--test"], "Train modern, member_1, member_2 first"),
        (["--beside", "nowhere/before"], "no run.json below nowhere/before"),
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
    assert not modern.TOGETHER.keys() & (modern.TRIES | modern.ABLATIONS).keys()


def test_members_are_those_of_the_command(tmp_path):
    recipe = Recipe.from_dict(find_settings("modern"))
    planned = plan_runs(recipe, tmp_path, [], scheme="whole", members=3)
    tried = [modern.recipe_of(name, recipe.weights) for name in modern.MEMBERS]
    assert [run.recipe.hash for run in planned] == [one.hash for one in tried]


def test_a_gain_is_of_the_same_studies_in_any_order(tmp_path):
    table = predictions_of()
    worse = table.assign(probability=table.probability[::-1].to_numpy())
    first = run_of(table, tmp_path / "first")
    second = run_of(worse.sort_values("label", ignore_index=True), tmp_path / "second")
    found = modern.gain([first], [second], "valid")
    ours, theirs = (study_probabilities(one) for one in (table, worse))
    areas = [roc_auc_score(one.label, one.probability) for one in (ours, theirs)]
    kappas = [best_kappa(one) for one in (ours, theirs)]
    assert found["gain"] == pytest.approx(areas[0] - areas[1])
    assert found["kappa_gain"] == pytest.approx(kappas[0] - kappas[1])
    assert 0 < found["gain_low"] < found["gain"] < found["gain_high"]
    assert 0 < found["kappa_gain_low"] < found["kappa_gain"] < found["kappa_gain_high"]
    back = modern.gain([second], [first], "valid")
    assert back["gain"] == pytest.approx(-found["gain"])
    assert back["kappa_gain"] == pytest.approx(-found["kappa_gain"])


def test_a_gain_on_a_part_of_the_studies_is_refused(tmp_path):
    table = predictions_of()
    whole = run_of(table, tmp_path / "whole")
    part = run_of(table[table.patient != table.patient[0]], tmp_path / "part")
    for pair in ((whole, part), (part, whole)):
        with pytest.raises(ValueError, match="is compared on the same studies"):
            modern.gain([pair[0]], [pair[1]], "valid")


def best_kappa(studies):
    cuts = [0, *studies.probability]
    return max(cohen_kappa_score(studies.label, studies.probability > cut) for cut in cuts)


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
    valid = run.predictions[run.predictions.split == "valid"]
    assert run.info["auroc"] == pytest.approx(roc_auc_score(valid.label, valid.probability))
    assert run.info["constant"] in (True, False)


def test_a_try_is_left_until_it_has_its_line(members, tmp_path, monkeypatch):
    monkeypatch.setattr(modern, "RESULTS", tmp_path)
    run = Run(members / "member0")
    recipes = dict.fromkeys(modern.TRIES, run.recipe)
    monkeypatch.setattr(modern, "recipe_of", lambda name, weights: recipes[name])
    modern.keep(run, tmp_path / "modern")
    assert not modern.is_told("modern", None)
    line = {"try": "modern", "recipe": run.recipe.hash, "auroc": 0.5}
    line["against"] = f"modern {run.recipe.hash}"
    modern.write_tries([line | {"recipe": "other"}], tmp_path / modern.TRIED)
    assert not modern.is_told("modern", None)
    modern.write_tries([line], tmp_path / modern.TRIED)
    assert modern.is_told("modern", None)
    modern.keep(run, tmp_path / "member_2")
    modern.write_tries([line | {"try": "member_2"}], tmp_path / modern.TRIED)
    assert not modern.is_told("member_2", None)  # the members together have none
    modern.write_tries([line | {"try": "members"}], tmp_path / modern.TRIED)
    assert modern.is_told("member_2", None)
    recipes["modern"] = run.recipe.changed({"seed": 7})
    assert not modern.is_told("member_2", None)  # it is compared with another recipe


def test_what_is_kept_can_stand_beside(members, tmp_path):
    kept = modern.keep(Run(members / "member0"), tmp_path / "before")
    before = (kept.path / "predictions.csv").read_bytes()
    assert (modern.keep(kept, tmp_path / "before").path / "predictions.csv").read_bytes() == before


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The script with a small recipe, three members alone and a folder of results of its own."""
    recipe = Recipe(
        backbone="small_cnn",
        weights=None,
        image_size=32,
        preprocessing="native",
        head=("map:8:0.5", "pool"),
        max_epochs=1,
        stage="mura",
    )
    tries = {name: modern.TRIES[name] for name in modern.MEMBERS}
    monkeypatch.setattr(modern, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(modern, "TRIES", tries)
    monkeypatch.setattr(modern, "ABLATIONS", {})
    monkeypatch.setattr(modern, "recipe_of", lambda name, weights: recipe.changed(tries[name]))
    return recipe


def test_each_system_is_opened_on_test_once(small, fracatlas_tree, tmp_path, monkeypatch, capsys):
    def call(*options):
        line = ["modern.py", str(fracatlas_tree), "w.h5", str(tmp_path / "runs"), *options]
        monkeypatch.setattr(sys, "argv", line)
        with run_eagerly():
            modern.main()

    before = tmp_path / "before"
    call()
    tried = pd.read_csv(modern.RESULTS / modern.TRIED, index_col="try")
    assert list(tried.index) == [*modern.MEMBERS, "members"]
    assert not (modern.RESULTS / modern.OPENED).exists()
    call("--test")
    path = modern.RESULTS / modern.OPENED
    opened = pd.read_csv(path, index_col="try")
    for name, row in opened.iterrows():
        runs = [Run(modern.RESULTS / one) for one in modern.TOGETHER.get(name, [name])]
        test = modern.studies_of(runs).query("split == 'test'")
        assert row.auroc == pytest.approx(roc_auc_score(test.label, test.probability))
    assert opened.pointing.between(0, 1).all()
    with pytest.raises(SystemExit):
        call("--test")
    assert "test is opened once, and was" in capsys.readouterr().err

    recipe = dataclasses.replace(small, head=("pool",), seed=5)
    with run_eagerly():
        train(recipe, load_fracatlas(fracatlas_tree), before / "member0", verbose=0)
    call("--test", "--beside", str(before))
    again = pd.read_csv(path, index_col="try")
    pd.testing.assert_frame_equal(again.loc[list(opened.index), list(opened)], opened)
    assert list(again.index) == [*opened.index, "before"] and pd.isna(again.pointing["before"])
    for refused in (["--beside", str(before)], []):
        with pytest.raises(SystemExit):
            call("--test", *refused)


def test_test_needs_the_models_for_where_they_point(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(modern, "is_kept", lambda name, weights: True)
    monkeypatch.setattr(sys, "argv", ["modern.py", "nowhere", "w.h5", str(tmp_path), "--test"])
    with pytest.raises(SystemExit):
        modern.main()
    assert "has no model of modern, member_1, member_2: run this" in capsys.readouterr().err
