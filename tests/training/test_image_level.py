"""What is measured view by view while a run is trained: AUROC, constancy, the loss of the data."""

import dataclasses

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mura_tf.data.views import load_mura
from mura_tf.evaluation.predictions import predict_views
from mura_tf.training import train as training
from mura_tf.training.checkpoint import Checkpoint
from mura_tf.training.image_level import auroc
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run
from mura_tf.training.selection import selected_views, split_views
from mura_tf.training.train import train

pytestmark = [
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run"),
    pytest.mark.filterwarnings("ignore:.*the chosen epoch calls all views"),
]

SHORT = Recipe(
    backbone="small_cnn", weights=None, image_size=32, max_epochs=1, batch_size=8, seed=1
)


@pytest.fixture(scope="module")
def views(lesions):
    return load_mura(lesions)


def interrupted_after_an_epoch(recipe, views, folder):
    original = Checkpoint.write_history

    def write_history(self):
        original(self)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "write_history", write_history)
        train(recipe, views, folder, verbose=0)


def assert_same(run, reference):
    assert run.finished
    for name in ("history.csv", "predictions.csv"):
        assert (run.path / name).read_bytes() == (reference.path / name).read_bytes(), name
    told = ("best_epoch", "constant", "auroc")
    assert [run.info[key] for key in told] == [reference.info[key] for key in told]
    pairs = zip(run.model().get_weights(), reference.model().get_weights(), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


# AUROC


def share_of_pairs_in_order(labels, probability):
    """AUROC by its definition: of an abnormal and a normal view, ties counted half."""
    abnormal, normal = probability[labels == 1], probability[labels == 0]
    return (abnormal[:, None] > normal).mean() + (abnormal[:, None] == normal).mean() / 2


@pytest.mark.parametrize("spread", [1.0, 1e-6])
def test_auroc_is_exact_however_close_the_probabilities_are(spread):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    probability = 0.18 + spread * (rng.normal(0.3 * labels).round(1))  # with ties
    expected = share_of_pairs_in_order(labels, probability)
    assert 0.52 < expected < 0.75
    assert auroc(labels, probability) == pytest.approx(expected, abs=1e-12)


def test_auroc_of_one_label_is_not_defined():
    assert np.isnan(auroc(np.ones(3, int), np.array([0.1, 0.2, 0.3])))


@pytest.mark.parametrize("task", ["abnormality", "type_and_abnormality"])
def test_the_epoch_of_the_highest_auroc_is_chosen_and_goes_on_exactly(
    views, tmp_path, eagerly, task
):
    recipe = dataclasses.replace(
        SHORT, monitor="val_auroc", task=task, balance="none", max_epochs=4, learning_rate=3e-3
    )
    run = train(recipe, views, tmp_path / "whole", verbose=0)
    areas, best = run.history.val_auroc, run.info["best_epoch"]
    assert best == areas.idxmax() + 1
    table = run.predictions
    expected = share_of_pairs_in_order(table.label.to_numpy(), table.probability.to_numpy())
    assert areas[best - 1] == pytest.approx(expected, abs=1e-9)
    assert run.info["auroc"] == pytest.approx(expected, abs=1e-9)
    folder = tmp_path / "in parts"
    for _ in range(2):
        interrupted_after_an_epoch(recipe, views, folder)
    assert_same(train(recipe, views, folder, verbose=0), run)


def test_auroc_costs_nothing_where_it_selects_nothing(members):
    assert "val_auroc" not in Run(members / "member0").history


def test_auroc_of_one_label_cannot_select(views, tmp_path):
    recipe = dataclasses.replace(SHORT, monitor="val_auroc")
    normal = views[(views.split == "train") | (views.label == 0)]
    sentence = r"needs normal and abnormal views .*: the split valid with label 0 only\. Use"
    with pytest.raises(ValueError, match=sentence):
        train(recipe, normal, tmp_path)
    assert not (tmp_path / "recipe.json").exists()


# Constant decisions


def with_output(bias):
    """A `compiled_model` whose outputs are all close to the same."""

    def compiled_model(*arguments, **settings):
        model = original(*arguments, **settings)
        kernel, _ = model.layers[-1].get_weights()
        model.layers[-1].set_weights([kernel * 1e-4, np.asarray(bias, np.float32)])
        return model

    original = training.compiled_model
    return compiled_model


@pytest.mark.filterwarnings("default:.*the chosen epoch calls all views")
@pytest.mark.parametrize(
    ("settings", "bias", "ranks"),
    [
        ({}, [-2.0], True),
        ({"task": "type_and_abnormality", "balance": "none"}, [2.0, 0.0, 1.9, 0.0], True),
        ({"task": "study_type", "balance": "none"}, [2.0, 0.0], False),
    ],
    ids=["normal", "normal of either type", "one type"],
)
def test_a_run_that_decides_nothing_says_so(
    views, tmp_path, eagerly, monkeypatch, settings, bias, ranks
):
    monkeypatch.setattr(training, "compiled_model", with_output(bias))
    recipe = dataclasses.replace(SHORT, learning_rate=1e-9, **settings)
    with pytest.warns(UserWarning, match="calls all views that it was selected on the same"):
        run = train(recipe, views, tmp_path, verbose=0)
    assert run.info["constant"] is True
    table = run.predictions
    if ranks:
        expected = roc_auc_score(table.label, table.probability)
        assert run.info["auroc"] == pytest.approx(expected, abs=1e-9)
    else:
        assert run.info["auroc"] is None


def test_the_holdout_is_what_is_told_of_where_it_selects(views, tmp_path, eagerly):
    recipe = dataclasses.replace(SHORT, select_on="holdout", holdout=0.4, learning_rate=0.01)
    run = train(recipe, views, tmp_path, verbose=0)
    held = split_views(selected_views(views, recipe), recipe)["select"]
    assert set(held.split) == {"holdout"} and set(held.label) == {0, 1}
    table = predict_views(run.model(), held)
    expected = roc_auc_score(table.label, table.probability)
    assert run.info["auroc"] == pytest.approx(expected, abs=1e-9)
    assert run.info["constant"] == (len(set(table.probability > 0.5)) == 1)


# The loss without its penalty


@pytest.mark.parametrize("settings", [{}, {"task": "type_and_abnormality", "balance": "none"}])
def test_the_history_has_the_loss_of_the_data_where_there_is_a_penalty(
    views, tmp_path, eagerly, settings
):
    recipe = dataclasses.replace(SHORT, l1=0.01, l2=0.02, head=("pool", "dense:8"), **settings)
    run = train(recipe, views, tmp_path, verbose=0)
    history = run.history.iloc[0]
    penalty = float(sum(run.model().losses))
    assert penalty > 0.1
    assert history.val_loss - history.val_data_loss == pytest.approx(penalty, rel=1e-4)
    assert history.loss - history.data_loss == pytest.approx(penalty, rel=0.3)  # it falls
    if recipe.task == "abnormality":
        table = run.predictions
        weights = training._loss_weights(views[views.split == "train"], recipe.balance)
        losses = -np.log(np.where(table.label == 1, table.probability, 1 - table.probability))
        pairs = zip(table.study_type, table.label, strict=True)
        weighed = losses * [weights[study_type][label] for study_type, label in pairs]
        assert history.val_data_loss == pytest.approx(weighed.mean(), rel=1e-4)


def test_without_a_penalty_the_loss_stands_alone(members):
    assert not {"data_loss", "val_data_loss"} & set(Run(members / "member0").history)


# PyTorch's optimizers


@pytest.mark.parametrize(
    ("optimizer", "mixed_precision"),
    [("torch_sgd:0.9", False), ("torch_sgd:0.9", True), ("torch_adam", False)],
)
def test_pytorchs_optimizers_go_on_exactly(views, tmp_path, eagerly, optimizer, mixed_precision):
    recipe = dataclasses.replace(
        SHORT,
        optimizer=optimizer,
        weight_decay=0.01,
        batch_norm="torch",
        schedule="step:0.5:1",
        mixed_precision=mixed_precision,
        max_epochs=3,
    )
    whole = train(recipe, views, tmp_path / "whole", verbose=0)
    rates = whole.history.learning_rate / recipe.learning_rate
    np.testing.assert_allclose(rates, [1, 0.5, 0.25], rtol=1e-6)
    for _ in range(2):
        interrupted_after_an_epoch(recipe, views, tmp_path / "in parts")
    assert_same(train(recipe, views, tmp_path / "in parts", verbose=0), whole)
    norms = [
        layer
        for layer in whole.model().layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 1e-5)}
