"""Averaged weights: Keras' own EMA, which is what is validated, selected and kept."""

import dataclasses

import keras
import numpy as np
import pytest
from trainings import RECIPE, STEPS, assert_same, interrupted

from mura_tf.data.counts import class_weights
from mura_tf.training import train as training
from mura_tf.training.train import train

AVERAGED = dataclasses.replace(RECIPE, averaging=0.7, max_epochs=3, patience=5)


@pytest.fixture(scope="module")
def averaged(views, tmp_path_factory):
    """The run, and its trainable weights after each step."""
    after = []

    class Watch(training._StopOnNonFiniteLoss):
        def on_train_batch_end(self, batch, logs):
            super().on_train_batch_end(batch, logs)
            variables = self.model.trainable_variables
            after.append([np.array(keras.ops.convert_to_numpy(one)) for one in variables])

    folder = tmp_path_factory.mktemp("averaged") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_StopOnNonFiniteLoss", Watch)
        return train(AVERAGED, views, folder, verbose=0), after


def test_what_is_kept_is_the_average_over_the_steps(averaged):
    run, after = averaged
    steps = run.info["best_epoch"] * STEPS
    average = after[0]
    for weights in after[1:steps]:
        average = [0.7 * old + 0.3 * new for old, new in zip(average, weights, strict=True)]
    kept = [keras.ops.convert_to_numpy(one) for one in run.model().trainable_variables]
    for found, expected, last in zip(kept, average, after[steps - 1], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert not np.allclose(found, last, rtol=1e-4, atol=1e-5)


def test_what_is_validated_is_the_average(averaged, views):
    run, _ = averaged
    best = run.history.set_index("epoch").loc[run.info["best_epoch"]]
    table = run.predictions
    weights = class_weights(views[views.split == "train"])
    pairs = zip(table.study_type, table.label, strict=True)
    losses = -np.log(np.where(table.label == 1, table.probability, 1 - table.probability))
    losses *= [weights[study_type][label] for study_type, label in pairs]
    assert best.val_loss == pytest.approx(losses.mean(), rel=1e-4)


def test_a_stopped_run_ends_as_if_nothing_had_happened(averaged, views, folder):
    interrupted(views, folder, ("step", STEPS + 2), AVERAGED)
    assert_same(train(AVERAGED, views, folder, verbose=0), averaged[0])
