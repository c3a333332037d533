"""A run whose first epochs are smaller, and the schedule that goes by step."""

import dataclasses

import numpy as np
import pytest
from trainings import RECIPE, STEPS, assert_same, interrupted

from mura_tf.training import train as training
from mura_tf.training.recipe import Recipe
from mura_tf.training.train import train

GROWING = dataclasses.replace(
    RECIPE,
    image_size=40,
    first_sizes=("32:1",),
    max_epochs=3,
    schedule="cosine:0.6",
    averaging=0.5,
    mirrored=True,
)


@pytest.fixture(scope="module")
def growing(views, tmp_path_factory):
    """The run, and the sides that its batches had."""
    sides = []
    original = training.make_dataset

    def make_dataset(*args, **settings):
        sides.append((settings["image_size"], settings["training"]))
        return original(*args, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "make_dataset", make_dataset)
        run = train(GROWING, views, tmp_path_factory.mktemp("growing") / "run", verbose=0)
    return run, sides


def test_the_first_epochs_are_smaller(growing):
    run, sides = growing
    assert sides == [(side, whether) for side in (32, 40) for whether in (True, False)]
    assert run.history.epoch.tolist() == [1, 2, 3]
    assert run.model().input_shape == (None, 40, 40, 3)


def test_only_epochs_at_the_last_size_are_selected_from(growing):
    run, _ = growing
    last = run.history[run.history.epoch > 1]
    assert run.info["best_epoch"] == last.epoch[last.val_kappa.idxmax()]


def test_a_first_epoch_that_is_better_is_not_selected(views, folder, eagerly):
    class Better(training._StopOnNonFiniteLoss):
        def on_epoch_end(self, epoch, logs):
            super().on_epoch_end(epoch, logs)
            logs["val_kappa"] = (0.99, 0.1)[epoch]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_StopOnNonFiniteLoss", Better)
        recipe = dataclasses.replace(GROWING, max_epochs=2)
        run = train(recipe, views, folder, verbose=0)
    assert run.history.val_kappa.tolist() == [0.99, 0.1]
    assert run.info["best_epoch"] == 2


@pytest.mark.parametrize(("side", "first_sizes"), [(36, ("32:1",)), (40, ("32:1", "36:1"))])
def test_a_later_size_that_cannot_be_is_told_before_training(views, folder, side, first_sizes):
    recipe = dataclasses.replace(
        GROWING, image_size=side, first_sizes=first_sizes, head=("map:8:0", "pool")
    )
    with pytest.raises(ValueError, match=r"STRIDE must be that of feature maps .* at 36 px"):
        train(recipe, views, folder, verbose=0)
    assert not (folder / "history.csv").exists() and not (folder / "recipe.json").exists()


def test_the_squares_of_all_sizes_are_there_before_training(views, tmp_path, monkeypatch):
    def stop(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_train_and_predict", stop)
    with pytest.raises(KeyboardInterrupt):
        train(GROWING, views, tmp_path / "run", cache_dir=tmp_path / "cache", verbose=0)
    assert {path.name for path in (tmp_path / "cache").iterdir()} >= {"32px", "40px"}


@pytest.mark.parametrize("step", [STEPS, STEPS + 2])
def test_a_stopped_run_ends_as_if_nothing_had_happened(growing, views, folder, step):
    interrupted(views, folder, ("step", step), GROWING)
    assert_same(train(GROWING, views, folder, verbose=0), growing[0])


def test_the_rate_rises_and_falls_along_a_cosine(growing):
    """What the history tells is the rate that the next step would have."""
    rising, steps = 3, 3 * STEPS  # 0.6 of 5 steps
    done = STEPS * growing[0].history.epoch.to_numpy()
    fallen = (done - rising) / (steps - rising)
    expected = RECIPE.learning_rate * (1 + np.cos(np.pi * fallen)) / 2
    np.testing.assert_allclose(growing[0].history.learning_rate, expected, atol=1e-9, rtol=1e-4)


def test_a_probability_is_the_mean_of_a_view_and_its_mirror_image(growing, views):
    run, _ = growing
    valid = views[views.split == "valid"]
    batches = training.make_dataset(valid, image_size=40, batch_size=32)
    images = np.concatenate([images for images, *_ in batches.as_numpy_iterator()])
    model = run.model()
    both = [np.asarray(model(one))[:, 0] for one in (images, images[:, :, ::-1])]
    np.testing.assert_allclose(run.predictions.probability, np.mean(both, axis=0), atol=1e-5)
    assert np.abs(both[0] - both[1]).max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"first_sizes": ("256",)}, "must be PIXELS:EPOCHS, .* such as '256:3'. Received: '256'"),
        ({"first_sizes": ("16:1",)}, "from 32 pixels and 1 epoch up"),
        ({"first_sizes": ("256:0",)}, "from 32 pixels and 1 epoch up"),
        ({"first_sizes": "256:1"}, "must be a tuple such as"),
        ({"first_sizes": ("256:3",), "max_epochs": 3}, "3 of 3 epochs"),
        ({"first_sizes": ("256:1",), "head": ("flatten",)}, "a head with 'flatten' has one size"),
        ({"first_sizes": ("256:3",), "image_size": 192}, "rise, to below image_size.* before 192"),
        ({"first_sizes": ("96:1", "64:1"), "image_size": 128}, "first_sizes must rise"),
        ({"batch_size": 1, "augment": ("mixup:0.2",)}, "several views at a time"),
        ({"batch_size": 1, "head": ("pool", "views:8")}, "several views at a time"),
        ({"averaging": 1}, "averaging must be a number from 0 to below 1"),
        ({"mirrored": 1}, "mirrored must be one of True, False"),
    ],
)
def test_what_cannot_be(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**settings)
