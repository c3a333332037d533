"""Scores of a model whose maps are known, from run folders and boxes on disk."""

import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from mura_tf.explain.ensemble import Ensemble
from mura_tf.explain.localization import SCORES
from mura_tf.explain.scores import KEY, score_detections, score_heatmaps, write_scores

pytestmark = pytest.mark.usefixtures("eagerly")


def brightness_model():
    """Its features are brightness: on `lesions` every map is the bright square, the box."""
    images = keras.Input((32, 32, 3))
    features = layers.Conv2D(1, 1, name="brightness")(images)
    output = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(features))
    model = keras.Model(images, output)
    model.get_layer("brightness").set_weights([np.full((1, 1, 3, 1), 1 / 3), np.full(1, -0.5)])
    # the mean feature of `lesions` is about -1.17
    model.layers[-1].set_weights([np.full((1, 1), 50.0), np.array([58.0])])
    return model


@pytest.fixture(scope="module")
def bright(members, lesions, tmp_path_factory):
    folder = shutil.copytree(members / "member0", tmp_path_factory.mktemp("bright") / "run")
    brightness_model().save(folder / "best.keras")
    return Ensemble([folder], lesions)


@pytest.fixture(scope="module")
def scores(bright, lesions):
    return score_heatmaps(bright, lesions, ["cam", "grad_cam"], sanity=True)


def test_maps_of_the_lesion_find_the_lesion(scores):
    overall = scores[scores.study_type == "overall"].set_index(["method", "score"])
    assert overall.loc["cam", "pointing"].value == 1
    assert overall.loc["cam", "energy"].value > 0.9  # the edge is interpolated
    assert overall.loc["cam", "iou_best"].value > 0.8
    # what the model sums up is what is deleted first, so the probability falls at once
    assert overall.loc["cam", "deletion"].value < overall.loc["centred_blob", "deletion"].value
    assert overall.loc["cam", "insertion"].value > overall.loc["uniform", "insertion"].value
    assert overall.gain_low["cam", "pointing"] > 0
    assert overall.gain_low["cam", "energy"] > 0
    assert not overall.gain_low["uniform", "pointing"] > 0


def test_scores_do_not_depend_on_how_many_views_are_held(bright, lesions, monkeypatch):
    settings = bright, lesions, ["cam", "saliency"]
    whole = score_heatmaps(*settings, sanity=True), score_detections(*settings)
    monkeypatch.setattr("mura_tf.explain.scores.AT_ONCE", 2)
    parts = score_heatmaps(*settings, sanity=True), score_detections(*settings)
    for one, other in zip(whole, parts, strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-4)


def test_boxes_of_maps_of_the_lesion_are_the_lesions(bright, lesions, monkeypatch):
    """Normal views, whose maps are empty, have none; made hot, they cost precision."""
    found = score_detections(bright, lesions, ["cam"]).set_index("iou")
    assert found.average_precision[[0.1, 0.3]].tolist() == [1, 1]
    assert found.average_precision[0.5] > 0.5
    assert (found.views == len(bright.reported)).all()
    abnormal = bright.reported.label == 1
    assert (found.true == abnormal.sum()).all() and (found.found == abnormal.sum()).all()

    def hot_everywhere(views, method):
        hotter = 1e6 * (views.label == 0)  # than any lesion, however sure the view's probability
        return heatmaps(views, method) + hotter.to_numpy()[:, None, None]

    heatmaps = bright.heatmaps
    monkeypatch.setattr(bright, "heatmaps", hot_everywhere)
    worse = score_detections(bright, lesions, ["cam"]).set_index("iou")
    assert (worse.found == len(bright.reported)).all()
    assert worse.average_precision[0.3] < 1


def test_every_method_and_study_type_has_every_score(scores, bright):
    counts = scores.groupby(["study_type", "method"]).score.agg(set)
    assert set(counts.index.get_level_values(0)) == {"elbow", "wrist", "overall"}
    for (_, method), found in counts.items():
        chance = method in ("uniform", "centred_blob")
        assert found == set(SCORES) - ({"randomized"} if chance else set())
    boxed = bright.reported[bright.reported.label == 1]
    assert (scores[scores.study_type == "overall"].views == len(boxed)).all()
    assert (scores[scores.study_type == "wrist"].patients == 3).all()


def test_cam_and_grad_cam_score_the_same(scores):
    columns = ["study_type", "score", "value", "low", "high"]
    one, two = (
        scores[(scores.method == name) & (scores.score != "randomized")][columns]
        for name in ("cam", "grad_cam")
    )
    pd.testing.assert_frame_equal(one.reset_index(drop=True), two.reset_index(drop=True), rtol=1e-3)


def test_the_file_keeps_what_it_has_of_others(bright, lesions, tmp_path):
    write_scores(bright, lesions, tmp_path, ["cam"])
    write_scores(bright, lesions, tmp_path, ["saliency"])
    write_scores(bright, lesions, tmp_path, ["grad_cam"], layer="brightness")
    write_scores(bright, lesions, tmp_path, ["cam"])
    table = pd.read_csv(tmp_path / "heatmap_scores.csv").fillna({"layer": ""})
    assert set(table.system) == {bright.name} and set(table.split) == {"valid"}
    pairs = set(zip(table.layer, table.method, strict=True))
    chance = {("", name) for name in ("uniform", "centred_blob")}  # of no layer
    assert pairs == chance | {("", "cam"), ("", "saliency"), ("brightness", "grad_cam")}
    assert not table.duplicated(["layer", "method", "study_type", "score"]).any()
    with pytest.raises(ValueError, match=r"none of cam takes a layer.*'brightness'"):
        write_scores(bright, lesions, tmp_path, ["cam"], layer="brightness")
    facts = json.loads((tmp_path / "experiment.json").read_text())
    assert facts["runs"] == len(bright.runs) and facts["commands"]


def test_scores_without_sanity_leave_those_with(bright, lesions, tmp_path):
    write_scores(bright, lesions, tmp_path, ["cam", "cam"], sanity=True)
    before = pd.read_csv(tmp_path / "heatmap_scores.csv")
    assert {"deletion", "insertion", "randomized"} <= set(before.score)
    assert before[before.score == "randomized"].value.between(0, 1).all()
    write_scores(bright, lesions, tmp_path, ["cam"])
    after = pd.read_csv(tmp_path / "heatmap_scores.csv")
    pd.testing.assert_frame_equal(
        before.sort_values(KEY, ignore_index=True), after.sort_values(KEY, ignore_index=True)
    )


@pytest.mark.parametrize("content", ["", "system,value\nA,1\n"])
def test_a_file_of_other_scores_is_named_before_anything_is_scored(
    bright, lesions, tmp_path, content, monkeypatch
):
    monkeypatch.setattr("mura_tf.explain.scores.score_heatmaps", None)
    (tmp_path / "heatmap_scores.csv").write_text(content)
    with pytest.raises(ValueError, match=r"heatmap_scores\.csv must be a table .* Give another"):
        write_scores(bright, lesions, tmp_path, ["cam"])
    assert (tmp_path / "heatmap_scores.csv").read_text() == content


def test_no_view_with_a_box(bright, lesions, tmp_path):
    data = shutil.copytree(lesions, tmp_path / "MURA-v1.1")
    rows = (data / "lesions.csv").read_text().splitlines(keepends=True)
    (data / "lesions.csv").write_text("".join(row for row in rows if not row.startswith("valid")))
    with pytest.raises(ValueError, match="none of the 16 views of the valid split has a box"):
        score_heatmaps(bright, data)
