"""Learning rates by step and by layer, weight decay, smoothed labels."""

import dataclasses

import keras
import numpy as np
import pytest
from scipy.special import xlogy
from trainings import RECIPE, STEPS, assert_same, interrupted

from mura_tf.models.build import HEAD_NAMES, build_model
from mura_tf.models.specs import OPTIMIZERS
from mura_tf.training.model import compiled_model
from mura_tf.training.optimizer import _KINDS, layer_shares
from mura_tf.training.recipe import Recipe
from mura_tf.training.train import train

SMALL = Recipe("small_cnn", None, image_size=32)
MIXED = dataclasses.replace(
    RECIPE, first_rate=0.1, label_smoothing=0.1, augment=("flip", "mixup:0.4"), max_epochs=2
)


def test_adamw_decays_kernels_alone(tmp_path):
    """With gradients of zero, which leave Adam where it is."""
    recipe = Recipe(
        "small_cnn", None, image_size=32, optimizer="adamw", weight_decay=0.1, learning_rate=0.05
    )
    model = compiled_model(recipe, (), tmp_path)
    for variable in model.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    model.optimizer.apply([keras.ops.zeros_like(one) for one in model.trainable_variables])
    after = {
        variable.path: np.unique(np.round(variable.numpy(), 6)).tolist()
        for variable in model.trainable_variables
    }
    kernels = [path for path in after if path.endswith("kernel")]
    assert len(kernels) == 5 and len(after) > 10
    for path, values in after.items():
        assert values == [pytest.approx(1 - 0.05 * 0.1 if path in kernels else 1)], path


@pytest.mark.parametrize("warmup", [0, 0.5, 2])
def test_a_cosine_rises_in_a_line_and_falls_to_0(warmup, tmp_path):
    recipe = Recipe(
        "small_cnn",
        None,
        image_size=32,
        schedule=f"cosine:{warmup}",
        max_epochs=5,
        learning_rate=0.01,
    )
    rate = compiled_model(recipe, (), tmp_path, steps=20).optimizer._learning_rate
    found = [float(rate(step)) for step in range(101)]
    rising = round(20 * warmup)
    expected = [
        0.01 * step / rising
        if step < rising
        else 0.01 * (1 + np.cos(np.pi * (step - rising) / (100 - rising))) / 2
        for step in range(101)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_every_optimizer_is_made():
    assert {spec.partition(":")[0] for spec in OPTIMIZERS} == set(_KINDS)


def test_shares_rise_by_one_factor_from_the_first_layer_to_the_head():
    model = build_model("small_cnn", None, image_size=32, head=("pool", "dense:8"))
    shares = dict(
        zip(
            [weight.path for weight in model.trainable_variables],
            layer_shares(model, 0.01),
            strict=True,
        )
    )
    by_layer = {path.partition("/")[0]: share for path, share in shares.items()}
    below = [share for layer, share in by_layer.items() if not layer.startswith(HEAD_NAMES)]
    np.testing.assert_allclose(below, np.geomspace(0.01, 1, len(below) + 1)[:-1])
    head = [share for layer, share in by_layer.items() if layer.startswith(HEAD_NAMES)]
    assert len(head) == 2 and set(head) == {1.0}


def test_shares_are_of_the_layers_that_are_trained():
    model = build_model("mobilenet_v2_035", None, image_size=32, trainable="last:1")
    shares = layer_shares(model, 0.5)
    assert min(shares) == 0.5 and max(shares) == 1
    frozen = build_model("mobilenet_v2_035", None, image_size=32, trainable="none")
    assert set(layer_shares(frozen, 0.5)) == {1.0}


@pytest.mark.parametrize("optimizer", ["sgd:0.9", "adam", "adamw", "torch_sgd:0.9", "torch_adam"])
@pytest.mark.parametrize("mixed_precision", [False, True])
def test_each_layer_moves_by_its_share(optimizer, mixed_precision, tmp_path):
    """Of the way that it moves by the whole rate, in two steps of gradients of 1."""
    ways = []
    for first in (1.0, 0.1):
        recipe = dataclasses.replace(
            SMALL, optimizer=optimizer, first_rate=first, mixed_precision=mixed_precision
        )
        keras.utils.set_random_seed(0)
        model = compiled_model(recipe, (), tmp_path)
        before = [variable.numpy() for variable in model.trainable_variables]
        gradients = [keras.ops.ones_like(one) for one in model.trainable_variables]
        if mixed_precision:  # which are scaled, as the loss is
            scale = float(model.optimizer.dynamic_scale)
            gradients = [scale * one for one in gradients]
        for _ in range(2):
            model.optimizer.apply(gradients, model.trainable_variables)
        pairs = zip(model.trainable_variables, before, strict=True)
        ways.append([float((after.numpy() - old).mean()) for after, old in pairs])
    np.testing.assert_allclose(ways[1], np.multiply(layer_shares(model, 0.1), ways[0]), rtol=0.02)


@pytest.mark.parametrize("classes", [(), ("a", "b", "c")])
def test_smoothed_labels_are_between_the_label_and_all_alike(classes, tmp_path):
    task = {"task": "type_and_abnormality", "balance": "none"} if classes else {}
    recipe = dataclasses.replace(SMALL, label_smoothing=0.2, **task)
    model = compiled_model(recipe, classes, tmp_path)
    width = len(classes) or 2
    truth = np.arange(6) % width
    one_hot = np.eye(width)[truth]
    # of small numbers: Keras clips probabilities that a model is too sure of
    images = np.random.default_rng(0).uniform(-1, 1, (6, 32, 32, 3)).astype("float32")
    targets = (one_hot if classes else truth[:, None]).astype("float32")
    found = model.test_on_batch(images, targets, return_dict=True)["loss"]
    said = np.asarray(model.predict_on_batch(images), float)
    said = said if classes else np.hstack([1 - said, said])
    expected = -xlogy(0.8 * one_hot + 0.2 / width, said).sum(axis=1).mean()
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def whole(views, tmp_path_factory):
    return train(MIXED, views, tmp_path_factory.mktemp("mixed") / "run", verbose=0)


def test_a_stopped_run_ends_as_if_nothing_had_happened(whole, views, folder):
    interrupted(views, folder, ("step", STEPS + 2), MIXED)
    assert_same(train(MIXED, views, folder, verbose=0), whole)
