"""Recipe + views -> run folder. The only code that changes weights."""

import contextlib
import errno
import importlib.metadata
import importlib.util
import json
import os
import platform
import time
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from filelock import FileLock

from mura_tf.cache import BadViewsError, data_fingerprint, prepare
from mura_tf.dataset import class_weights, patient_split
from mura_tf.evaluate import EVALUATION_BATCH, predict_views
from mura_tf.files import remove_parts, write_json, written_whole
from mura_tf.keras_metrics import CohenKappa
from mura_tf.model import build_model
from mura_tf.pipeline import make_dataset
from mura_tf.recipe import Recipe
from mura_tf.run import Run

HISTORY_COLUMNS = ["epoch", "learning_rate", "loss", "kappa", "val_loss", "val_kappa"]
HOLDOUT_FRACTION = 0.1


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the message names the epoch and the step."""


def train(
    recipe: Recipe,
    views: pd.DataFrame,
    run_dir: str | os.PathLike,
    *,
    cache_dir: str | os.PathLike | None = None,
    skip_bad: bool = False,
    tensorboard: bool = False,
    verbose: str | int = "auto",
) -> Run:
    """Trains one model as its recipe says, and predicts the splits it did not train on.

    Called again on an unfinished run folder it goes on after the last whole epoch and ends, on the
    same machine's CPU, with the same files bit for bit as if it had never stopped. A finished run
    is returned as it is.

    Args:
        recipe: what to do.
        views: views table with a train split, and a valid split unless `recipe.select_on` is
            "holdout".
        run_dir: the run folder; made if it is missing.
        cache_dir: see `prepare`.
        skip_bad: whether to go on without unreadable files (listed in `skipped.csv`) instead of
            stopping before the start.
        tensorboard: whether to write logs into `run_dir/tensorboard`.
        verbose: Keras' progress display; "auto" is a bar on a terminal and a line per epoch
            elsewhere, 0 silent.

    Raises:
        ValueError: views the recipe cannot be trained on; a run folder of another recipe or data
            set; a damaged checkpoint.
        BadViewsError: unreadable files, unless `skip_bad`.
        FileNotFoundError, ConnectionError: `weights` or `initial` cannot be had.
        NonFiniteLossError: the loss became NaN.
        OSError: the disk is full; the last checkpoint is kept.
    """
    if tensorboard and not importlib.util.find_spec("tensorboard"):
        raise ImportError(
            "tensorboard=True needs the package tensorboard, which is not installed. "
            "Install the extra: pip install 'mura-tf[tensorboard]'."
        )
    run = Run(Path(run_dir))
    run.path.mkdir(parents=True, exist_ok=True)
    with FileLock(run.path / ".lock"):
        remove_parts(run.path)
        _require_same_recipe(run, recipe)
        views = selected_views(views, recipe)
        usable, fingerprint = _prepared(views, recipe, run, cache_dir, skip_bad)
        _require_same_data(run, fingerprint)
        if not run.finished:
            info = _info(recipe, usable, fingerprint) | {"skipped": len(views) - len(usable)}
            _train_and_predict(run, recipe, usable, info, cache_dir, tensorboard, verbose)
        _Checkpoint(run.path).path.unlink(missing_ok=True)
    return run


def _train_and_predict(run, recipe, views, info, cache_dir, tensorboard, verbose) -> None:
    splits = _splits(views, recipe)
    checkpoint = _Checkpoint(run.path)
    keras.utils.set_random_seed(recipe.run_seed)
    model = _compiled_model(recipe, run.path)
    checkpoint.attach(model, recipe)
    recipe.save(run.path / "recipe.json")  # only now, so that a mistake before can be mended
    write_json(run.path / "run.json", {"finished": False} | info)
    weights = class_weights(splits["train"]) if recipe.weighted else _equal_weights(views)
    batches = {
        "image_size": recipe.side,
        "preprocessing": recipe.preprocessing_mode,
        "class_weights": weights,
        "cache_dir": cache_dir,
    }
    if not checkpoint.stopped:
        callbacks = [_StopOnNonFiniteLoss(), checkpoint.stopping, checkpoint.plateau, checkpoint]
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(run.path / "tensorboard"))
        model.fit(
            make_dataset(
                splits["train"],
                batch_size=recipe.batch_size,
                training=True,
                seed=recipe.run_seed,
                augment=recipe.augment,
                first_epoch=checkpoint.epochs,
                **batches,
            ),
            validation_data=make_dataset(
                splits["select"], batch_size=EVALUATION_BATCH, training=False, **batches
            ),
            initial_epoch=checkpoint.epochs,
            epochs=recipe.max_epochs,
            callbacks=callbacks,
            shuffle=False,  # make_dataset has done it
            verbose=_verbosity(verbose),
        )
    model.set_weights(checkpoint.stopping.best_weights)

    with _full_disk_explained(run.path):
        with written_whole(run.path / "best.keras") as part:
            keras.Model(model.input, model.output, name=model.name).save(part)
        predictions = predict_views(
            model,
            splits["predict"],
            preprocessing=recipe.preprocessing_mode,
            cache_dir=cache_dir,
            backbone=recipe.backbone,
            stage=recipe.stage,
            repeat=recipe.repeat,
            member=recipe.member,
        )
        with written_whole(run.path / "predictions.csv") as part:
            predictions.to_csv(part, index=False)
        checkpoint.write_history()
        seconds = {
            "best_epoch": checkpoint.stopping.best_epoch + 1,
            "seconds_per_epoch": [round(seconds, 2) for seconds in checkpoint.seconds],
            "seconds": round(sum(checkpoint.seconds), 1),
        }
        write_json(run.path / "run.json", {"finished": True} | info | seconds)


_REMEMBERED = {"stopping": ("wait", "best", "best_epoch"), "plateau": ("wait", "best")}
"""The state of Keras' callbacks, which Keras does not keep over a restart."""


class _Checkpoint(keras.callbacks.Callback):
    """Everything that an epoch leaves behind, in one file that is replaced whole.

    That is: the model's and the optimizer's variables (dropout's random state and the learning
    rate among them), the best weights so far, what EarlyStopping and ReduceLROnPlateau remember,
    and the history. The order of the views and the flips need nothing: they are functions of the
    seed and the epoch.
    """

    def __init__(self, run_dir: Path):
        super().__init__()
        self.path = run_dir / "resume.npz"
        self.history_path = run_dir / "history.csv"
        self.history, self.seconds, self.stopped = [], [], False

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def attach(self, model: keras.Model, recipe: Recipe) -> None:
        """Makes the recipe's callbacks; sets model and memory back to the saved epoch, if any."""
        self.stopping = keras.callbacks.EarlyStopping(
            monitor="val_kappa",
            mode="max",
            patience=recipe.patience + 1,  # Keras stops at its patience, the paper beyond it
            restore_best_weights=True,
        )
        self.plateau = keras.callbacks.ReduceLROnPlateau(
            monitor="loss", mode="min", factor=0.1, patience=recipe.plateau_patience
        )
        self._remembered = {}
        if self.path.exists():
            self._restore(model)

    def on_train_begin(self, logs=None):
        for name, values in self._remembered.items():
            for key, value in values.items():
                setattr(getattr(self, name), key, value)

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1} | {key: float(logs[key]) for key in HISTORY_COLUMNS[1:]}
        self.history.append(row)
        self.seconds.append(time.perf_counter() - self._started)
        last = epoch + 1 == self.params["epochs"]
        self.stopped = bool(self.model.stop_training) or last
        with _full_disk_explained(self.path.parent):
            self._save()
            self.write_history()

    def write_history(self) -> None:
        with written_whole(self.history_path) as part:
            pd.DataFrame(self.history, columns=HISTORY_COLUMNS).to_csv(part, index=False)

    def _save(self) -> None:
        memory = {
            "stopped": self.stopped,
            "history": self.history,
            "seconds": self.seconds,
        }
        for name, keys in _REMEMBERED.items():
            values = {key: getattr(getattr(self, name), key) for key in keys}
            memory[name] = {key: np.asarray(value).item() for key, value in values.items()}
        arrays = {"memory": np.array(json.dumps(memory))}
        for index, variable in enumerate(_state(self.model)):
            arrays[f"state_{index}"] = np.asarray(variable)
        for index, array in enumerate(self.stopping.best_weights):
            arrays[f"best_{index}"] = array
        with written_whole(self.path) as part:
            np.savez(part, **arrays)

    def _restore(self, model: keras.Model) -> None:
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                memory = json.loads(str(arrays["memory"]))
                states = [arrays[f"state_{index}"] for index in range(len(_state(model)))]
                best = [arrays[f"best_{index}"] for index in range(len(model.weights))]
            for variable, value in zip(_state(model), states, strict=True):
                variable.assign(value)
        except Exception as error:
            raise ValueError(
                f"{self.path} is damaged or of another version: {error}. Expected the checkpoint "
                "of an unfinished run. Delete it to train this run from its beginning."
            ) from error
        self.history, self.seconds = memory["history"], memory["seconds"]
        self.stopped = memory["stopped"]
        self._remembered = {name: memory[name] for name in _REMEMBERED}
        self._remembered["stopping"]["best_weights"] = best
        self.on_train_begin()


class _StopOnNonFiniteLoss(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._require_finite(logs["loss"], f"the loss became {{}} at step {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        # the last step's weights, which no training loss has seen yet
        self._require_finite(logs["val_loss"], "the validation loss became {} at the end")

    def _require_finite(self, loss, sentence):
        if not np.isfinite(loss):
            raise NonFiniteLossError(
                f"{sentence.format(float(loss))} of epoch {self.epoch + 1}; expected a finite "
                "number. The epochs before are kept. Lower learning_rate, or turn mixed_precision "
                "off, and train into a new folder."
            )


def _state(model: keras.Model) -> list:
    """Every variable that training changes between epochs, in a fixed order."""
    return [*model.variables, *model.optimizer.variables]


def _compiled_model(recipe: Recipe, run_dir: Path) -> keras.Model:
    policy = keras.config.dtype_policy()
    if recipe.mixed_precision:
        keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build_model(
            recipe.backbone,
            None if recipe.initial else recipe.weights,
            image_size=recipe.side,
            dropout=recipe.dropout,
        )
    finally:
        keras.config.set_dtype_policy(policy)
    if recipe.initial:
        _load_initial(model, run_dir / recipe.initial)
    optimizer = keras.optimizers.Adam(recipe.learning_rate, beta_1=0.9, beta_2=0.999)
    if recipe.mixed_precision:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer=optimizer,
        loss="binary_crossentropy",
        metrics=[CohenKappa(name="kappa")],
        jit_compile="auto" if _accelerator() else False,  # XLA is slower for these nets on a CPU
    )
    return model


def _load_initial(model: keras.Model, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(
            f"initial must be the best.keras of a finished run. There is no file {path}."
        )
    if path.suffix != ".keras":
        raise ValueError(f"initial must be a .keras file. Received: {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a hundred lines before the one error
            model.load_weights(path)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"initial must hold a {model.name} with the paper's head. Received: {path}, of which "
            f"Keras says: {str(error).splitlines()[0]}"
        ) from error


def _require_same_recipe(run: Run, recipe: Recipe) -> None:
    if not (run.path / "recipe.json").exists():
        return
    there, asked = run.recipe.to_dict(), recipe.to_dict()
    changed = [
        f"{name} is {there[name]!r}, asked for {asked[name]!r}"
        for name in asked
        if there[name] != asked[name]
    ]
    if changed:
        raise ValueError(
            f"{run.path} holds a run of another recipe: {'; '.join(changed)}. "
            "Use another folder, or delete this one."
        )


def selected_views(views: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """The views of the recipe's study types, checked for what training needs.

    A holdout is drawn from the patients of all types, so that the stages of an experiment share it;
    its views get the split "holdout".
    """
    is_train = views.split == "train"
    if recipe.select_on == "holdout" and is_train.any():
        _, held = patient_split(views[is_train], HOLDOUT_FRACTION, seed=recipe.seed)
        is_held = is_train & views.patient.isin(held.patient)
        views = views.assign(split=views.split.mask(is_held, "holdout"))
    known = sorted(views.study_type.unique())
    unknown = sorted(set(recipe.study_types or ()) - set(known))
    if unknown:
        raise ValueError(
            f"study_types must be among those of the data set: {', '.join(known)}. "
            f"Received: {', '.join(unknown)}."
        )
    chosen = views[views.study_type.isin(recipe.study_types or known)].reset_index(drop=True)
    _require_trainable(chosen, recipe)
    return chosen


def _require_trainable(chosen: pd.DataFrame, recipe: Recipe) -> None:
    if set(chosen.split) <= {"train", "holdout"}:
        raise ValueError(
            "the data set needs a valid or a test split to report on. Received: train only. "
            "Split it by patient with mura_tf.patient_split, or move patients into a folder valid."
        )
    needed = ["train", recipe.select_on]
    lacking = [split for split in needed if split not in set(chosen.split)]
    if lacking:
        raise ValueError(
            f"the data set needs views in the splits {' and '.join(needed)}. Received: none in "
            f"{' and '.join(lacking)}."
            + (" Without a valid split, select on 'holdout'." if lacking == ["valid"] else "")
        )
    training = chosen[chosen.split == "train"]
    for study_type, labels in training.groupby("study_type").label:
        if set(labels) != {0, 1}:
            raise ValueError(
                f"every study type needs normal and abnormal training views. Received: "
                f"{study_type!r} with label {labels.iloc[0]} only, whose loss would weigh nothing. "
                "Leave this type out of study_types, or, where one model is trained on all types, "
                "out of the data set."
            )


def _prepared(views, recipe, run: Run, cache_dir, skip_bad) -> tuple[pd.DataFrame, str]:
    """The usable views and their fingerprint."""
    try:
        prepared = prepare(views, recipe.side, cache_dir)
    except BadViewsError as error:
        if not skip_bad:
            raise
        with written_whole(run.path / "skipped.csv") as part:
            error.problems.to_csv(part, index=False)
        views = views[~views.path.isin(error.problems.path)].reset_index(drop=True)
        _require_trainable(views, recipe)
        prepared = prepare(views, recipe.side, cache_dir)
    return views, data_fingerprint(views, prepared.digests)


def _require_same_data(run: Run, fingerprint: str) -> None:
    before = run.info.get("data_fingerprint")
    if before not in (None, fingerprint):
        raise ValueError(
            f"{run.path} was trained on a data set with the fingerprint {before}. Received one "
            f"with {fingerprint}: files, labels or splits differ. Use another folder."
        )


def _splits(views: pd.DataFrame, recipe: Recipe) -> dict[str, pd.DataFrame]:
    """What is trained on, selected on and predicted."""
    chosen = {
        "train": views.split == "train",
        "select": views.split == recipe.select_on,
        "predict": ~views.split.isin(["train", "holdout"]),
    }
    return {name: views[rows].reset_index(drop=True) for name, rows in chosen.items()}


def _equal_weights(views: pd.DataFrame) -> dict[str, tuple[float, float]]:
    return dict.fromkeys(views.study_type.unique(), (1.0, 1.0))


def _info(recipe: Recipe, views: pd.DataFrame, fingerprint: str) -> dict:
    libraries = ("mura-tf", "keras", "tensorflow", "numpy")
    versions = {name.replace("-", "_"): _version(name) for name in libraries}
    return {
        "recipe_hash": recipe.hash,
        "versions": versions | {"python": platform.python_version()},
        "backend": keras.backend.backend(),
        "device": _accelerator() or f"CPU, {os.cpu_count()} cores",
        "seed": recipe.run_seed,
        "data_fingerprint": fingerprint,
        "views": views.split.value_counts().to_dict(),
    }


def _version(library: str) -> str:
    for name in (library, f"{library}-cpu"):  # tensorflow-cpu is tensorflow, too
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "unknown"


def _accelerator() -> str:
    """The name of the GPU or TPU that Keras' backend computes on; "" on a CPU."""
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return "" if device.platform == "cpu" else device.device_kind
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return ""
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")


def _verbosity(verbose: str | int) -> int:
    if verbose == "auto":
        return 1 if os.isatty(1) else 2
    return int(verbose)


@contextlib.contextmanager
def _full_disk_explained(folder: Path):
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"the disk is full, and what was being written into {folder} is left out. The last "
            "whole epoch is kept: make room and repeat the command",
        ) from error
