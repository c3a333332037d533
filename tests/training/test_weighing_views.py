"""A head that says how much each view counts: the study's loss, its resume, what is read by it."""

import dataclasses
from itertools import pairwise

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from trainings import RECIPE, assert_same, interrupted

from mura_tf.data.pipeline import load_images, make_dataset
from mura_tf.data.table import STUDY_KEY, VIEW_KEY
from mura_tf.data.views import load_mura
from mura_tf.evaluation.predictions import predict_views, read_predictions, write_predictions
from mura_tf.evaluation.scores import study_probabilities, view_probabilities
from mura_tf.explain.heatmaps import heatmaps
from mura_tf.inference.export import export_member
from mura_tf.inference.members import KerasMember, OnnxMember, read_all
from mura_tf.inference.pack import pack
from mura_tf.models.build import build_model
from mura_tf.reports.study_page import plot_study
from mura_tf.training.joint import JointModel, study_logits
from mura_tf.training.recipe import Recipe
from mura_tf.training.train import train

WEIGHED = dataclasses.replace(
    RECIPE, head=("pool", "dropout:0.5", "views:8"), monitor="val_auroc", max_epochs=3
)
LOCATED = dataclasses.replace(
    WEIGHED, head=("map:4:0.5", "pool", "views:8"), mirrored=True, preprocessing="native"
)


@pytest.fixture(scope="module")
def weighed(lesions, tmp_path_factory):
    return train(WEIGHED, load_mura(lesions), tmp_path_factory.mktemp("weighed"), verbose=0)


def test_the_weight_is_that_of_gated_attention():
    model = build_model("small_cnn", None, image_size=32, head=("pool", "views:6"))
    images = np.random.default_rng(0).normal(size=(5, 32, 32, 3)).astype(np.float32)
    inside = keras.Model(model.input, [model.get_layer("pool").output, *model.outputs])
    pooled, probability, weight = (np.asarray(one) for one in inside(images, training=False))
    (v, v0), (u, u0) = (
        model.get_layer(f"head1_views_{one}").get_weights() for one in ("content", "gate")
    )
    (w,) = model.get_layer("head1_views").get_weights()
    gated = np.tanh(pooled @ v + v0) / (1 + np.exp(-(pooled @ u + u0)))
    np.testing.assert_allclose(weight, np.exp(gated @ w), rtol=1e-4)
    assert probability.shape == weight.shape == (5, 1)


def test_a_study_is_the_weighed_mean_of_its_views():
    rng = np.random.default_rng(1)
    logit, weight = rng.normal(size=(7, 1)), rng.random((7, 1)) + 0.1
    studies = np.array([4, 4, 2, 9, 2, 2, 9])
    found = np.asarray(study_logits(*map(keras.ops.array, (logit, weight, studies))))
    for study in np.unique(studies):
        own = studies == study
        expected = np.average(expit(logit[own, 0]), weights=weight[own, 0])
        np.testing.assert_allclose(expit(found[own, 0]), expected, rtol=1e-5)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="others clip probabilities")
def test_a_study_that_is_wrong_beyond_doubt_still_learns():
    """One view, whose logit goes down by the rate as that of a view alone does."""
    model = build_model("small_cnn", None, image_size=32, head=("pool", "views:2"))
    output = model.get_layer("probability")
    output.set_weights([np.zeros_like(output.get_weights()[0]), np.array([30.0], np.float32)])
    joint = JointModel.around(model, 0)
    joint.compile(keras.optimizers.SGD(1.0), "binary_crossentropy")
    images = np.ones((1, 32, 32, 3), np.float32)
    y = {"labels": np.zeros(1, np.float32), "studies": np.zeros(1, np.int32)}
    loss = joint.train_on_batch(images, y, return_dict=True)["loss"]
    assert loss == pytest.approx(30, rel=1e-4)
    assert output.get_weights()[1][0] == pytest.approx(29, rel=1e-4)


def test_the_loss_is_the_studies():
    model = build_model("small_cnn", None, image_size=32, head=("pool", "views:6"))
    joint = JointModel.around(model, 0)
    joint.compile("sgd", "binary_crossentropy")
    rng = np.random.default_rng(2)
    images = rng.normal(size=(4, 32, 32, 3)).astype(np.float32)
    labels, sample = np.array([0, 0, 1, 1], np.float32), np.array([1, 1, 3, 3], np.float32)
    studies = np.array([0, 0, 1, 1], np.int32)
    said, weights, _ = (np.asarray(one)[:, 0] for one in joint(images, training=False))
    means = [np.average(said[rows], weights=weights[rows]) for rows in ([0, 1], [2, 3])]
    expected = np.mean([-np.log(1 - means[0]), -3 * np.log(means[1])])
    y = {"labels": labels, "studies": studies}
    found = joint.test_on_batch(images, y, sample_weight=sample, return_dict=True)
    assert found["loss"] == pytest.approx(expected, rel=1e-4)


def test_the_views_of_a_study_stand_beside_each_other(lesions):
    views = load_mura(lesions).query("split == 'train'").reset_index(drop=True)
    codes = views.groupby(STUDY_KEY, sort=False).ngroup().to_numpy()
    assert len(np.unique(codes)) < len(codes)
    orders = []
    batches = make_dataset(views, image_size=32, batch_size=4, training=True, studies=True)
    for _ in range(2):
        seen = np.concatenate([y["studies"] for _, y, _ in batches.as_numpy_iterator()])
        assert sorted(seen) == sorted(codes)
        assert np.count_nonzero(np.diff(seen)) == len(np.unique(codes)) - 1
        orders.append(seen)
    assert not np.array_equal(*orders)


def test_batches_that_are_not_trained_on_have_whole_studies(lesions):
    views = load_mura(lesions).query("split == 'train'").reset_index(drop=True)
    codes = views.groupby(STUDY_KEY, sort=False).ngroup().to_numpy()
    for size in (1, 3, 100):
        batches = make_dataset(views, image_size=32, batch_size=size, studies=True)
        seen = [y["studies"] for _, y, _ in batches.as_numpy_iterator()]
        assert np.array_equal(np.concatenate(seen), codes)
        for one, following in pairwise(seen):
            assert not set(one) & set(following)
            first = following[following == following[0]]
            assert len(one) + len(first) > size  # or it would be in the batch before
        assert all(len(one) <= size or len(set(one)) == 1 for one in seen)


def test_predictions_say_how_much_each_view_counts(weighed):
    table = weighed.predictions
    assert table.weight.min() > 0 and np.ptp(table.weight) > 0
    studies = study_probabilities(table)
    for row in studies.itertuples():
        own = table[(table.patient == row.patient) & (table.study == row.study)]
        assert row.probability == pytest.approx(np.average(own.probability, weights=own.weight))
    valid = studies[studies.split == "valid"]
    best = weighed.history.val_auroc[weighed.info["best_epoch"] - 1]
    assert best == pytest.approx(roc_auc_score(valid.label, valid.probability), abs=1e-6)


def test_pages_say_what_each_view_counts(weighed):
    table = weighed.predictions.query("split == 'valid'")
    views = view_probabilities(pd.concat([table, table.assign(member=1, weight=1.0)]))
    assert views.counts.groupby([views[name] for name in STUDY_KEY]).sum().to_numpy() == (
        pytest.approx(1)
    )
    study = max((one for _, one in views.groupby(STUDY_KEY, sort=False)), key=len)
    own = table.merge(study[VIEW_KEY])
    expected = (own.weight / own.weight.sum() + 1 / len(own)) / 2
    assert study.counts.to_numpy() == pytest.approx(expected.to_numpy())
    page = plot_study(study, np.zeros((len(study), 8, 8), np.float32))
    titles = " ".join(axes.get_title() for axes in page.axes)
    assert all(f"counts {share:.0%}" in " ".join(titles.split()) for share in study.counts)


def test_members_are_weighed_each_on_its_own():
    views = pd.DataFrame(
        {
            "split": "test", "study_type": "hand", "patient": "p", "study": "s", "label": 1,
            "backbone": "b", "stage": "mura", "repeat": 0,
            "view": ["1", "2"] * 3, "member": [0, 0, 1, 1, 2, 2],
            "probability": [0.2, 0.8, 0.4, 0.6, 0.1, 0.5],
            "weight": [1.0, 3.0, 30.0, 10.0, np.nan, np.nan],
        }
    )  # fmt: skip
    (found,) = study_probabilities(views).probability
    assert found == pytest.approx(np.mean([0.65, 0.45, 0.3]))


def test_certain_views_make_a_certain_study_and_no_more(weighed):
    rng = np.random.default_rng(4)
    table = weighed.predictions.assign(probability=1.0)
    for _ in range(20):
        studies = study_probabilities(table.assign(weight=rng.random(len(table)) + 0.1))
        assert studies.probability.max() <= 1


def test_validation_hangs_neither_on_the_order_of_the_views_nor_on_the_batch(
    lesions, weighed, folder, monkeypatch
):
    views = load_mura(lesions)
    monkeypatch.setattr("mura_tf.training.train.EVALUATION_BATCH", 5)
    mixed = pd.concat(
        [
            views[views.split == "train"],
            views[views.split == "valid"].sample(frac=1, random_state=0),
        ]
    )
    other = train(WEIGHED, mixed.reset_index(drop=True), folder, verbose=0)
    for name in ("val_loss", "val_kappa", "val_accuracy", "val_auroc"):
        np.testing.assert_allclose(other.history[name], weighed.history[name], atol=1e-4)


def test_a_weight_is_of_the_model_that_said_it(weighed):
    table = weighed.predictions
    model = build_model("small_cnn", None, image_size=32)
    assert "weight" not in predict_views(model, table[:3])
    pooled = keras.Model(model.input, [model.output, model.get_layer("pool").output])
    with pytest.raises(ValueError, match=r"further outputs of the shapes \[\(64,\)\]"):
        predict_views(pooled, table[:3])
    negative = keras.Model(model.input, [model.output, -model.output])
    with pytest.raises(ValueError, match="how much a view counts must be a positive number"):
        predict_views(negative, table[:3])


@pytest.mark.parametrize("weight", [0.0, -1.0, np.inf, np.nan])
def test_a_table_with_a_weight_that_is_none(weighed, tmp_path, weight):
    table = weighed.predictions
    table.loc[1, "weight"] = weight
    write_predictions(table, tmp_path / "predictions.csv")
    with pytest.raises(ValueError, match="how much a view counts must be a positive number"):
        read_predictions(tmp_path / "predictions.csv")


def test_another_head_is_no_start(lesions, tmp_path):
    views = load_mura(lesions)
    first = dataclasses.replace(WEIGHED, head=("pool", "views:1"), max_epochs=1)
    run = train(first, views, tmp_path / "first", verbose=0)
    initial = str(run.model_path)
    second = dataclasses.replace(first, head=("pool",), initial=initial)
    with pytest.raises(ValueError, match="heads has no head1_views, head1_views_content, head1_v"):
        train(second, views, tmp_path / "second", verbose=0)
    kept = dataclasses.replace(second, initial_part="backbone")
    assert train(kept, views, tmp_path / "kept", verbose=0).finished


def test_a_stopped_run_ends_as_if_nothing_had_happened(lesions, weighed, tmp_path):
    views = load_mura(lesions)
    interrupted(views, tmp_path / "run", ("history.csv", 2, "after"), recipe=WEIGHED)
    assert_same(train(WEIGHED, views, tmp_path / "run", verbose=0), weighed)


def test_a_map_beside_it_and_a_bundle_that_reads_as_the_run_predicted(lesions, tmp_path):
    views = load_mura(lesions)
    run = train(LOCATED, views, tmp_path / "run", verbose=0)
    bundle = pack([run.path], tmp_path / "weighed.mura")
    expected = study_probabilities(run.predictions)
    rows = run.predictions.groupby(STUDY_KEY, sort=False).path.apply(list)
    chosen = int(np.argmax([len(paths) for paths in rows]))
    folder = pd.Series(rows.iloc[chosen]).map(lambda path: path.rpartition("/")[0]).unique()
    found = bundle.read(list(folder), study_type=expected.study_type.iloc[chosen])
    assert len(found) == 1 and found.views[0] > 1
    assert found.probability[0] == pytest.approx(expected.probability.iloc[chosen], abs=1e-5)
    images = load_images(views[:2], image_size=32, preprocessing=LOCATED.preprocessing_mode)
    assert heatmaps(run, images, "learned").shape == (2, 32, 32)
    assert heatmaps(run, images, "grad_cam").shape == (2, 32, 32)


def test_an_exported_graph_has_the_weights(weighed, tmp_path):
    pytest.importorskip("tf2onnx", reason="needs the extra onnx")
    exported = export_member(weighed.model_path, "caffe", "onnx", tmp_path, "member0")
    squares = np.random.default_rng(3).integers(0, 256, (3, 32, 32), np.uint8)
    expected = read_all(KerasMember(weighed.model_path, "caffe"), squares, mirrored=True)
    found = read_all(OnnxMember(exported.path.read_bytes()), squares, mirrored=True)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-4)
    assert found.weights.shape == (3,)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"head": ("views:8", "pool")}, "'views:8' must stand after 'pool'"),
        ({"head": ("pool", "views:8", "views:8")}, "a head can have one 'views'"),
        ({"head": ("pool", "views:0")}, "a layer of a head must be one of"),
        ({"task": "study_type"}, "needs the task 'abnormality'"),
        ({"augment": ("mixup:0.2",)}, "are then of no one study"),
    ],
)
def test_what_cannot_be_is_told(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(backbone="small_cnn", **({"head": ("pool", "views:8")} | settings))


def test_a_table_without_studies_has_none(lesions):
    views = load_mura(lesions).drop(columns="patient")
    with pytest.raises(ValueError, match="Received one without patient"):
        make_dataset(views, image_size=32, studies=True)


def test_mixup_and_studies_do_not_go_together(lesions):
    views = load_mura(lesions)
    with pytest.raises(ValueError, match="'mixup' with studies"):
        make_dataset(views, image_size=32, training=True, augment=("mixup:0.2",), studies=True)
