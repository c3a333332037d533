"""Recipe + views -> run folder. The only code that trains."""

import contextlib
import dataclasses
import importlib.util
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import keras
import numpy as np
import pandas as pd

from mura_tf.data.counts import class_weights
from mura_tf.data.pipeline import input_statistics, make_dataset
from mura_tf.data.tasks import class_names, targets_of
from mura_tf.evaluation.predictions import EVALUATION_BATCH, write_predictions
from mura_tf.files import locked, remove_parts, write_json, written_whole
from mura_tf.models.backend import require_backend
from mura_tf.models.specs import parse_sizes, weighs_views
from mura_tf.terminal import Notice
from mura_tf.training.checkpoint import Checkpoint, full_disk_explained
from mura_tf.training.facts import run_facts
from mura_tf.training.failures import NonFiniteLossError, shortage_explained
from mura_tf.training.image_level import ValidationAuroc, decided
from mura_tf.training.model import compiled_model, save_model
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import RESUME, Run, predicted_by
from mura_tf.training.selection import (
    predicted_pictures,
    selected_views,
    split_views,
    usable_views,
)

_TIMED_STEPS = 5


def train(
    recipe: Recipe,
    views: pd.DataFrame,
    run_dir: str | os.PathLike[str],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    skip_bad: bool | float = False,
    tensorboard: bool = False,
    verbose: str | int = "auto",
) -> Run:
    """Trains one model as its recipe says, and predicts the splits it did not train on.

    Called again on an unfinished run folder it goes on after the last whole epoch and ends, on the
    same machine's CPU, as if it had never stopped: history.csv, predictions.csv and, of a process
    of its own, best.keras are the same bytes. A finished run is returned as it is. One whose
    predictions.csv is gone predicts again, or, if its best.keras is gone as well, is trained from
    the beginning.

    Args:
        recipe: what to do.
        views: views table with a train split, and a valid split unless `recipe.select_on` is
            "holdout".
        run_dir: the run folder; made if it is missing.
        cache_dir: see `prepare`.
        skip_bad: whether to go on without unreadable files (listed in `skipped.csv`) instead of
            stopping before the start; see `prepare_readable`.
        tensorboard: whether to write logs into `run_dir/tensorboard`.
        verbose: Keras' progress display; "auto" is a bar on a terminal and a line per epoch
            elsewhere, 0 silent.

    Raises:
        ValueError: views the recipe cannot be trained on; a run folder of another recipe, data set
            or backend; a damaged checkpoint; settings of Keras' that `require_backend` refuses.
        BadViewsError: unreadable files, unless `skip_bad`; more than it lets pass is a ValueError.
        FileNotFoundError, ConnectionError: `weights` or `initial` cannot be had.
        NonFiniteLossError: the loss became NaN.
        MemoryError: memory ran out; the message names a batch size to try.
        OSError: the disk is full; the last checkpoint is kept.
        ImportError: `tensorboard`, or weights of KerasHub, without their extras.

    Warns:
        UserWarning: the chosen epoch calls all views the same; `run.json` has it as `constant`,
            and `auroc` beside it.

    Examples:
        >>> views = mt.load_mura("demo/MURA-v1.1")
        >>> recipe = mt.Recipe("small_cnn", weights=None, image_size=32, max_epochs=1)
        >>> run = mt.train(recipe, views[views.study_type == "elbow"], "demo/elbow", verbose=0)
        >>> sorted(path.name for path in run.path.glob("[!.]*"))
        ['best.keras', 'history.csv', 'predictions.csv', 'recipe.json', 'run.json']
    """
    require_backend(training=True)
    if tensorboard and not importlib.util.find_spec("tensorboard"):
        raise ImportError(
            "tensorboard=True needs the package tensorboard, which is not installed. "
            "Install the extra: pip install 'mura-tf[tensorboard]'."
        )
    run = Run(Path(run_dir))
    run.path.mkdir(parents=True, exist_ok=True)
    with locked(run.path), shortage_explained(recipe):
        remove_parts(run.path)
        run.require_recipe(recipe)
        views = selected_views(views, recipe)
        usable, problems, boxes, fingerprint = usable_views(
            views, recipe, cache_dir, skip_bad=skip_bad
        )
        run.require_data(fingerprint)
        if len(problems):
            with written_whole(run.path / "skipped.csv") as part:
                problems.to_csv(part, index=False)
        elif not run.finished:
            (run.path / "skipped.csv").unlink(missing_ok=True)
        if not run.finished:
            info = run_facts(recipe, usable, fingerprint) | {
                "skipped": len(views) - len(usable),
                "pictures": " ".join(predicted_pictures(usable, recipe, cache_dir)),
            }
            best = run.path / "best.keras"
            if best.is_file() or (run.path / RESUME).exists():
                run.require_backend(info["backend"])
                info |= _earlier_places(run, info)
            if run.info.get("finished") and best.is_file():
                found = _predicted(run.model(), recipe, usable, cache_dir)
                said: dict[str, Any] = decided(found[found.split == recipe.select_on])
                if "earlier" in info:
                    said |= {name: info[name] for name in ("device", "versions", "earlier")}
                write_json(run.path / "run.json", run.info | said)
                write_predictions(found, run.path / "predictions.csv")  # last: it is finished then
            else:
                _train_and_predict(
                    run, recipe, usable, boxes, info, cache_dir, tensorboard, verbose
                )
            if run.warning:
                warnings.warn(run.warning, Notice, stacklevel=2)
        (run.path / RESUME).unlink(missing_ok=True)
    return run


def measure_step(recipe: Recipe) -> tuple[float, int]:
    """Images/s of the recipe's training step on this machine, on random images in memory.

    The first two steps, in which the graph is made, do not count. A task with classes is measured
    with one output in their place.

    Returns:
        Images/s, and the parameters of the model with its head.
    """
    recipe = dataclasses.replace(
        recipe, task="abnormality", monitor="val_loss", weights=None, initial=None
    )
    model = compiled_model(recipe, (), Path())
    rng = np.random.default_rng(0)
    shape = (recipe.batch_size, recipe.side, recipe.side, 3)
    images = rng.uniform(-120, 120, shape).astype("float32")
    labels = rng.integers(0, 2, (recipe.batch_size, 1)).astype("float32")
    for _ in range(2):
        model.train_on_batch(images, labels)
    started = time.perf_counter()
    for _ in range(_TIMED_STEPS):
        model.train_on_batch(images, labels)
    return _TIMED_STEPS * recipe.batch_size / (time.perf_counter() - started), model.count_params()


def _earlier_places(run: Run, info: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Where a run that goes on was before, if anywhere else; another place than the last is told.

    Returns:
        As `earlier`, the device and the versions of each, the first one first.
    """
    earlier = run.info.get("earlier", [])
    known = {"device": run.info.get("device"), **run.info.get("versions", {})}
    now = {"device": info["device"], **info["versions"]}
    changed = [
        f"{name} {known[name]} before, {value} now"
        for name, value in now.items()
        if known.get(name) not in (None, value)
    ]
    if changed:
        earlier = run.places
        warnings.warn(
            f"{run.path} goes on where it was not begun: {'; '.join(changed)}. Its last bits may "
            "be others than of a run that was never stopped.",
            Notice,
            stacklevel=3,
        )
    return {"earlier": earlier} if earlier else {}


class _Inputs(TypedDict):
    """What every data set of a run is made with."""

    image_size: int
    preprocessing: str
    cache_dir: str | os.PathLike[str] | None
    resize: str


def _train_and_predict(
    run: Run,
    recipe: Recipe,
    views: pd.DataFrame,
    boxes: pd.DataFrame | None,
    info: dict[str, Any],
    cache_dir: str | os.PathLike[str] | None,
    tensorboard: bool,
    verbose: str | int,
) -> None:
    splits = split_views(views, recipe)
    weighed = weighs_views(recipe.head)
    classes = class_names(views, recipe.task)
    first_sizes = parse_sizes(recipe.first_sizes)
    if first_sizes:  # a size that cannot be is told before another has trained
        blank = dataclasses.replace(recipe, weights=None, initial=None)
        for side in (*(side for side, _ in first_sizes), recipe.side):
            compiled_model(blank, classes, run.path, side=side)
    keras.utils.set_random_seed(recipe.run_seed)
    weights = _loss_weights(splits["train"], recipe.balance)
    steps = -(-len(splits["train"]) // recipe.batch_size)
    inputs: _Inputs = {
        "image_size": recipe.side,
        "preprocessing": recipe.preprocessing_mode,
        "cache_dir": cache_dir,
        "resize": recipe.resize,
    }
    info |= {"classes": list(classes), "inputs": input_statistics(splits["train"], **inputs)}

    def trained(side: int, end: int) -> tuple[keras.Model, Checkpoint]:
        """What is there after the epoch `end`, the last of those with squares of that side."""
        checkpoint = Checkpoint(run.path)
        model = compiled_model(recipe, classes, run.path, side=side, steps=steps)
        callbacks = checkpoint.attach(model, recipe)
        recipe.save(run.path / "recipe.json")  # only now, so that a mistake before can be mended
        write_json(run.path / "run.json", {"finished": False} | info)
        if checkpoint.stopped or checkpoint.epochs >= end:
            return model, checkpoint
        sized: _Inputs = {**inputs, "image_size": side}
        training = make_dataset(
            splits["train"],
            batch_size=recipe.batch_size,
            training=True,
            seed=recipe.run_seed,
            augment=recipe.augment,
            targets=targets_of(splits["train"], recipe.task, classes),
            boxes=boxes,
            studies=weighed,
            first_epoch=checkpoint.epochs,
            class_weights=weights,
            **sized,
        )
        selecting = make_dataset(
            splits["select"],
            batch_size=EVALUATION_BATCH,
            training=False,
            targets=targets_of(splits["select"], recipe.task, classes),
            studies=weighed,
            class_weights=weights,
            **sized,
        )
        if recipe.monitor == "val_auroc":
            ranked = ValidationAuroc(selecting, splits["select"], classes, weighed=weighed)
            callbacks = [ranked, *callbacks]
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(run.path / "tensorboard"))
        finite = _StopOnNonFiniteLoss()
        with finite.refused_by_torch():
            model.fit(
                training,
                validation_data=selecting,
                initial_epoch=checkpoint.epochs,
                epochs=end,
                callbacks=[finite, *callbacks],
                shuffle=False,  # make_dataset has done it
                verbose=_verbosity(verbose),
            )
        return model, checkpoint

    done = 0
    for side, epochs in first_sizes:
        done += epochs
        trained(side, done)
    model, checkpoint = trained(recipe.side, recipe.max_epochs)
    model.set_weights(checkpoint.stopping.best_weights)
    outputs = model.outputs[:2] if weighed else model.outputs[0]  # without what is learned by alone
    model = keras.Model(model.input, outputs, name=model.name)

    with full_disk_explained(run.path):
        with written_whole(run.path / "best.keras") as part:
            save_model(model, part)
        predictions = _predicted(model, recipe, views, cache_dir)
        write_predictions(predictions, run.path / "predictions.csv")
        checkpoint.write_history()
        seconds = {
            "best_epoch": checkpoint.stopping.best_epoch + 1,
            "seconds_per_epoch": [round(seconds, 2) for seconds in checkpoint.seconds],
            "seconds": round(sum(checkpoint.seconds), 1),
        }
        said = decided(predictions[predictions.split == recipe.select_on])
        write_json(run.path / "run.json", {"finished": True} | info | seconds | said)


def _predicted(
    model: keras.Model,
    recipe: Recipe,
    views: pd.DataFrame,
    cache_dir: str | os.PathLike[str] | None,
) -> pd.DataFrame:
    """The predictions table of a run."""
    predicted = split_views(views, recipe)["predict"]
    return predicted_by(recipe, model, predicted, class_names(views, recipe.task), cache_dir)


class _StopOnNonFiniteLoss(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.sentence = f"the loss became {{}} at step {batch + 1}"

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self._require_finite(logs["loss"])

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        # the last step's weights, which no training loss has seen yet
        self.sentence = "the validation loss became {} at the end"

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self._require_finite(logs["val_loss"])

    @contextlib.contextmanager
    def refused_by_torch(self) -> Iterator[None]:
        """torch's cross entropy gives no NaN back for a probability that is NaN, but raises: on a
        GPU that something asserted is false."""
        try:
            yield
        except RuntimeError as error:
            sentences = "all elements of input should be between 0 and 1", "device-side assert"
            if not any(sentence in str(error) for sentence in sentences):
                raise
            self._require_finite(np.nan)

    def _require_finite(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise NonFiniteLossError(
                f"{self.sentence.format(float(loss))} of epoch {self.epoch + 1}; expected a finite "
                "number. The epochs before are kept. Lower learning_rate, or turn mixed_precision "
                "off, and train into a new folder."
            )


def _loss_weights(views: pd.DataFrame, balance: str) -> dict[str, tuple[float, float]]:
    """Study type -> weights of a normal and an abnormal view, see `class_weights`."""
    if balance == "type":
        return class_weights(views)
    (together,) = class_weights(views.assign(study_type="all")).values()
    return dict.fromkeys(views.study_type, together if balance == "all" else (1.0, 1.0))


def _verbosity(verbose: str | int) -> int:
    if verbose == "auto":
        return 1 if os.isatty(1) else 2
    return int(verbose)
