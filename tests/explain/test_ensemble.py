"""Runs as one ensemble: its views, its maps, and which of its studies come first."""

import json
import os
import shutil
import warnings
from itertools import zip_longest

import numpy as np
import pandas as pd
import pytest

from mura_tf.data.boxes import load_boxes
from mura_tf.data.pipeline import make_dataset
from mura_tf.data.table import STUDY_KEY, VIEW_KEY
from mura_tf.data.tasks import class_names
from mura_tf.data.views import load_mura
from mura_tf.evaluation.scores import study_probabilities, view_probabilities
from mura_tf.explain.ensemble import Ensemble
from mura_tf.explain.heatmaps import cam
from mura_tf.terminal import Notice
from mura_tf.training.run import Run, load_predictions

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def copies(members, tmp_path):
    """The two run folders, to be changed."""
    return [shutil.copytree(folder, tmp_path / folder.name) for folder in sorted(members.iterdir())]


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_its_views_are_the_predicted_ones_where_they_lie_now(members, lesions, tmp_path):
    moved = shutil.copytree(lesions, tmp_path / "moved" / "MURA-v1.1")
    ensemble = Ensemble(sorted(members.iterdir()), moved.parent)
    valid = load_mura(moved).query("split == 'valid'").reset_index(drop=True)
    pd.testing.assert_frame_equal(ensemble.views[valid.columns], valid)
    assert ensemble.split == "valid"
    assert len(ensemble.reported) == len(valid)


def test_views_that_a_document_dealt_anew(copies, lesions):
    for copy in copies:
        table = pd.read_csv(copy / "predictions.csv", dtype=str)
        table.assign(split="test").to_csv(copy / "predictions.csv", index=False)
    ensemble = Ensemble(copies, lesions)
    valid = load_mura(lesions).query("split == 'valid'")
    assert set(ensemble.views.split) == {"test"}
    assert set(ensemble.views.path) == set(valid.path)
    boxes = load_boxes(lesions, ensemble.views)
    assert len(boxes) == (valid.label == 1).sum()


@pytest.mark.filterwarnings("ignore::mura_tf.terminal.Notice")
def test_views_held_out_of_a_data_set_whose_splits_share_names(copies, lesions, tmp_path):
    views = load_mura(lesions).query("split == 'valid'")
    data = tmp_path / "views.csv"
    shutil.copytree(lesions / "valid", tmp_path / "others")
    others = views.path.str.replace(str(lesions / "valid"), str(tmp_path / "others"))
    pd.concat([views, views.assign(split="train", path=others)]).to_csv(data, index=False)
    for copy in copies:
        table = pd.read_csv(copy / "predictions.csv", dtype=str)
        both = pd.concat([table, table.assign(split="holdout")])
        both.to_csv(copy / "predictions.csv", index=False)
        info = json.loads((copy / "run.json").read_text())
        change_json(copy / "run.json", views=info["views"] | {"holdout": len(table)})
    ensemble = Ensemble(copies, data)
    assert set(ensemble.views.split) == {"valid", "holdout"}
    assert ensemble.views.groupby("split").path.agg(set).to_dict() == {
        "valid": {*views.path},
        "holdout": {*others},
    }


def test_its_probabilities_are_the_means_of_the_predictions(members, ensemble):
    predictions = load_predictions(sorted(members.iterdir()))
    studies = study_probabilities(predictions).set_index(STUDY_KEY).probability
    by_member = [
        study_probabilities(predictions[predictions.member == member])
        .set_index(STUDY_KEY)
        .probability
        for member in range(2)
    ]
    for view in view_probabilities(predictions).to_dict("records"):
        key = tuple(view[name] for name in STUDY_KEY)
        rows = predictions[(predictions[VIEW_KEY] == pd.Series(view)[VIEW_KEY]).all(axis=1)]
        assert view["probability"] == pytest.approx(rows.probability.mean())
        assert view["probability_study"] == pytest.approx(studies[key])
        apart = abs(by_member[0][key] - by_member[1][key])
        assert view["disagreement"] == pytest.approx(apart / 2)


def test_its_inputs_are_those_of_training(ensemble):
    views = ensemble.reported
    images, frames = ensemble.inputs(views)
    batches = make_dataset(views, image_size=32, batch_size=len(views), preprocessing="tf")
    np.testing.assert_array_equal(images, next(iter(batches))[0])
    for image, (top, left, height, width) in zip(images, frames, strict=True):
        inside = np.zeros((32, 32), bool)
        inside[top : top + height, left : left + width] = True
        assert (image[~inside] == -1).all()
        assert image[inside].min() > -1


def test_its_heatmaps_are_the_mean_of_the_members(members, ensemble):
    views = ensemble.reported.iloc[::-1]
    images, frames = ensemble.inputs(views)
    expected = [
        cam(Run(folder).model(), images, frames=frames) for folder in sorted(members.iterdir())
    ]
    np.testing.assert_allclose(ensemble.heatmaps(views), np.mean(expected, axis=0), atol=1e-6)


def test_what_it_has_prepared_itself_is_not_told_to_be_unlike(copies, lesions):
    """However unlike the training images it is: its preprocessing is the members'."""
    inputs = Run(copies[0]).info["inputs"]
    for folder in copies:
        change_json(folder / "run.json", inputs=inputs | {"mean": inputs["high"], "deviation": 0.0})
    ensemble = Ensemble(copies, lesions)
    views = ensemble.reported[:1]
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        ensemble.heatmaps(views)
    with pytest.warns(Notice, match="unlike those the run was trained on"):
        cam(Run(copies[0]), ensemble.inputs(views)[0])


def test_each_study_type_has_its_own_members(copies, lesions):
    for folder, study_type in zip(copies, ("elbow", "wrist"), strict=True):
        change_json(folder / "recipe.json", study_types=[study_type], member=0)
        path = folder / "predictions.csv"
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = rows[rows.study_type == study_type].assign(member=0)
        rows.to_csv(path, index=False)
        change_json(folder / "run.json", views={"valid": len(rows)})
    ensemble = Ensemble(copies, lesions)
    views = ensemble.reported
    images, frames = ensemble.inputs(views)
    heat = ensemble.heatmaps(views)
    for folder, study_type in zip(copies, ("elbow", "wrist"), strict=True):
        rows = np.flatnonzero(views.study_type == study_type)
        expected = cam(Run(folder), images[rows], frames=frames[rows])
        np.testing.assert_allclose(heat[rows], expected, atol=1e-6)


def test_of_several_systems_the_one_per_study_type_is_taken(copies, lesions):
    change_json(copies[1] / "recipe.json", stage="type")
    path = copies[1] / "predictions.csv"
    pd.read_csv(path, dtype=str).assign(stage="type").to_csv(path, index=False)
    ensemble = Ensemble(copies, lesions)
    assert [run.path for run in ensemble.runs] == copies[1:]
    assert ensemble.name == "small_cnn, fine-tuned per study type"


def test_a_model_with_classes_explains_the_abnormal_one(copies, lesions):
    classes = class_names(load_mura(lesions), "type_and_abnormality")
    change_json(copies[0] / "run.json", classes=classes)
    groups = list(Ensemble(copies[:1], lesions).groups(Ensemble(copies, lesions).reported))
    assert [classes[index] for _, _, index in groups] == ["abnormal elbow", "abnormal wrist"]


@pytest.fixture
def classified(copies, lesions):
    """One run as if it told study types and labels apart, and its classes; some views wrong."""
    classes = class_names(load_mura(lesions), "type_and_abnormality")
    change_json(copies[0] / "run.json", classes=classes)
    path = copies[0] / "predictions.csv"
    table = pd.read_csv(path, dtype={"patient": str})
    shares = np.random.default_rng(3).dirichlet(np.ones(len(classes)), len(table))
    table[[f"p:{name}" for name in classes]] = shares
    table.assign(probability=shares[:, [1, 3]].sum(axis=1)).to_csv(path, index=False)
    return copies[:1], classes


def test_the_predicted_class_is_explained_where_it_is_asked_for(classified, lesions):
    runs, classes = classified
    ensemble = Ensemble(runs, lesions, of="predicted")
    views = ensemble.views
    table = pd.read_csv(runs[0] / "predictions.csv")
    decided = table[[f"p:{name}" for name in classes]].idxmax(axis=1).str[2:]
    shares = table[[f"p:{name}" for name in classes]].max(axis=1)
    assert views.decided.tolist() == decided.tolist()
    assert views.share.tolist() == pytest.approx(shares.tolist())
    words = views.label.map({0: "normal ", 1: "abnormal "})
    assert views.true_class.tolist() == (words + views.study_type).tolist()
    told = {}
    for rows, members, index in ensemble.groups(views):
        assert [run.path for run in members] == runs
        told |= dict.fromkeys(rows, classes[index])
    assert [told[row] for row in range(len(views))] == decided.tolist()
    with pytest.raises(ValueError, match=r"of must be one of abnormal, predicted\. Received: 'x'"):
        Ensemble(runs, lesions, of="x")


def test_one_output_has_no_predicted_class(members, lesions):
    with pytest.raises(ValueError, match="one output, abnormality, and no classes to explain"):
        Ensemble([members / "member0"], lesions, of="predicted")


# Which studies


def test_a_study_by_its_name(ensemble):
    key = "valid/elbow/valid00001/study1"
    views = ensemble.study(key)
    assert views.view.tolist() == ["image1.png", "image2.png"]
    pd.testing.assert_frame_equal(ensemble.study("elbow/valid00001/study1"), views)
    folder = "valid/XR_ELBOW/valid00001/study1_positive/"
    whole = os.path.dirname(views.path[0])
    for spelled in (folder, f"./{folder}", whole, os.path.relpath(whole, "/")):
        pd.testing.assert_frame_equal(ensemble.study(spelled), views)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("valid00001/study1", "which names 2. Such as: valid/elbow/valid00001/study1, valid/wrist"),
        ("train/elbow/train00001/study1", "must be one the runs predicted, not trained on"),
        ("tudy1", "which names 0"),
    ],
)
def test_a_study_that_is_not_there(ensemble, key, sentence):
    with pytest.raises(ValueError, match=sentence):
        ensemble.study(key)


def study_of(views):
    return "/".join(views.iloc[0][STUDY_KEY])


@pytest.mark.parametrize("order", ["wrong", "confident", "disagreement"])
def test_the_first_studies(members, ensemble, order):
    predictions = load_predictions(sorted(members.iterdir()))
    expected = []
    for key, rows in predictions.groupby(STUDY_KEY):
        probability, label = rows.probability.mean(), rows.label.iloc[0]
        spread = rows.groupby("member").probability.mean().std(ddof=0)
        if order == "wrong" and (probability > 0.5) == label:
            continue
        rank = {"wrong": abs(probability - label), "confident": abs(probability - 0.5)}
        expected.append((rank.get(order, spread), "/".join(key)))
    expected = [key for _, key in sorted(expected, reverse=True)]
    assert expected
    assert [study_of(views) for views in ensemble.top(order, 99)] == expected
    first = ensemble.top(order, 1)
    assert [study_of(views) for views in first] == expected[:1]
    pd.testing.assert_frame_equal(first[0], ensemble.study(expected[0]))


def test_right_and_wrong_decisions_take_turns(classified, ensemble, lesions):
    """Of classes by view, without classes by study."""
    for one, classes in ((Ensemble(classified[0], lesions), True), (ensemble, False)):
        views = one.reported
        if classes:
            right, sure = views.decided == views.true_class, views.share
        else:
            right = (views.probability_study > 0.5) == views.label
            sure = (views.probability_study - 0.5).abs()
        ranked = views.assign(right=right, sure=sure).sort_values("sure", ascending=False)
        ranked = ranked.drop_duplicates(STUDY_KEY)  # a study has one turn
        sides = [
            ["/".join(key) for key in ranked[ranked.right == side][STUDY_KEY].to_numpy()]
            for side in (True, False)
        ]
        assert all(sides)
        turns = [key for pair in zip_longest(*sides) for key in pair if key]
        assert [study_of(rows) for rows in one.top("pairs", 99)] == list(dict.fromkeys(turns))


def test_orders_that_cannot_be(ensemble, members, lesions):
    with pytest.raises(
        ValueError, match=r"wrong, confident, disagreement, pairs. Received: 'best'"
    ):
        ensemble.top("best", 3)
    with pytest.raises(ValueError, match=r"needs two members or more. Received: one"):
        Ensemble([members / "member0"], lesions).top("disagreement", 3)


# Errors


def test_another_data_set(members, mura):
    with pytest.raises(
        ValueError, match=r"which lacks 16 of the 16 views.* valid/elbow/valid00000"
    ):
        Ensemble(sorted(members.iterdir()), mura)


def test_of_two_recipes_one_is_taken_and_the_other_named(copies, lesions):
    change_json(copies[0] / "recipe.json", image_size=64)
    with pytest.warns(Notice, match=r"image_size 32 is taken\. .* that one: .*image_size 64\."):
        ensemble = Ensemble(copies, lesions)
    assert [run.path for run in ensemble.runs] == copies[1:]
    assert ensemble.name == "small_cnn, whole-data model, image_size 32"


def test_of_two_data_sets_the_one_that_is_given_is_explained(copies, lesions):
    path = copies[0] / "predictions.csv"
    table = pd.read_csv(path, dtype=str)
    table.assign(patient="another" + table.patient).to_csv(path, index=False)
    change_json(copies[0] / "run.json", data_fingerprint="another")
    ensemble = Ensemble(copies, lesions)
    assert [run.path for run in ensemble.runs] == copies[1:]


def test_runs_that_say_nothing_about_abnormality(copies, lesions):
    for folder in copies:
        change_json(folder / "recipe.json", task="study_type", balance="none")
        path = folder / "predictions.csv"
        pd.read_csv(path, dtype=str).assign(probability="nan").to_csv(path, index=False)
    with pytest.raises(
        ValueError, match="says nothing about abnormality: its task is 'study_type'"
    ):
        Ensemble(copies, lesions)
