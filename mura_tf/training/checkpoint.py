"""What an epoch leaves behind, so that a killed training goes on exactly where it was."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from mura_tf.files import FULL, is_refusal, written_whole
from mura_tf.models.specs import Plateau, Step, parse_schedule, parse_sizes
from mura_tf.training.averaging import AveragedWeights
from mura_tf.training.failures import is_shortage
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import RESUME

_REMEMBERED = {"stopping": ("wait", "best", "best_epoch"), "schedule": ("wait", "best")}
"""The state of Keras' callbacks, which Keras does not keep over a restart."""


class Checkpoint(keras.callbacks.Callback):
    """Everything that an epoch leaves behind, in one file that is replaced whole.

    That is: the model's and the optimizer's variables (dropout's random state and the learning
    rate among them), torch's own generators, the best weights so far, what EarlyStopping and
    ReduceLROnPlateau remember, and the history. The order of the views and the flips need nothing:
    they are functions of the seed and the epoch.
    """

    def __init__(self, run_dir: Path):
        super().__init__()
        self.path = run_dir / RESUME
        self.history_path = run_dir / "history.csv"
        self.history: list[dict[str, float]] = []
        self.seconds: list[float] = []
        self.stopped = False

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def attach(self, model: keras.Model, recipe: Recipe) -> list[keras.callbacks.Callback]:
        """Makes the recipe's callbacks; sets model and memory back to the saved epoch, if any.

        Returns:
            The callbacks for `fit`, itself the last.
        """
        self.stopping = keras.callbacks.EarlyStopping(
            monitor=recipe.monitor,
            mode="min" if recipe.monitor == "val_loss" else "max",
            patience=recipe.patience + 1,  # Keras stops at its patience, the paper beyond it
            restore_best_weights=True,
            start_from_epoch=sum(epochs for _, epochs in parse_sizes(recipe.first_sizes)),
        )
        self.schedule = _schedule(recipe)
        averaged = AveragedWeights() if recipe.averaging else None
        self._remembered: dict[str, dict[str, Any]] = {}
        self._generators: list[np.ndarray] = []
        if self.path.exists():
            self._restore(model)
        callbacks = (self.stopping, self.schedule, averaged, self)
        return [callback for callback in callbacks if callback]

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        _set_generators(self._generators)
        for name, values in self._remembered.items():
            for key, value in values.items():
                setattr(getattr(self, name), key, value)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        rate = logs.pop("learning_rate", self.model.optimizer.learning_rate)
        row = {"epoch": epoch + 1, "learning_rate": float(rate)}
        self.history.append(row | {key: float(value) for key, value in logs.items()})
        self.seconds.append(time.perf_counter() - self._started)
        self.stopped = bool(self.model.stop_training)
        with full_disk_explained(self.path.parent):
            self._save()
            self.write_history()

    def write_history(self) -> None:
        with written_whole(self.history_path) as part:
            pd.DataFrame(self.history).to_csv(part, index=False)

    def _save(self) -> None:
        memory = {
            "stopped": self.stopped,
            "history": self.history,
            "seconds": self.seconds,
        }
        for name, keys in _REMEMBERED.items():
            callback = getattr(self, name)
            values = {key: getattr(callback, key) for key in keys if hasattr(callback, key)}
            memory[name] = {key: np.asarray(value).item() for key, value in values.items()}
        arrays = {"memory": np.array(json.dumps(memory))}
        parts = {
            "state": map(keras.ops.convert_to_numpy, _state(self.model)),
            "best": self.stopping.best_weights or (),
            "generator": _generators(),
        }
        for name, part in parts.items():
            arrays |= {f"{name}_{index}": array for index, array in enumerate(part)}
        with written_whole(self.path) as part:
            np.savez(part, **arrays)  # type: ignore[arg-type]  # "allow_pickle" is none of them

    def _restore(self, model: keras.Model) -> None:
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                memory = json.loads(str(arrays["memory"]))
                states = [arrays[f"state_{index}"] for index in range(len(_state(model)))]
                count = len(model.weights) if "best_0" in arrays else 0
                best = [arrays[f"best_{index}"] for index in range(count)]
                count = sum(name.startswith("generator_") for name in arrays.files)
                own = [arrays[f"generator_{index}"] for index in range(count)]
            for variable, value in zip(_state(model), states, strict=True):
                variable.assign(value)
        except Exception as error:
            if is_shortage(error) or is_refusal(error):
                raise
            raise ValueError(
                f"{self.path} is damaged or of another version: {error}. Expected the checkpoint "
                "of an unfinished run. Delete it to train this run from its beginning."
            ) from error
        self.history, self.seconds = memory["history"], memory["seconds"]
        self.stopped = memory["stopped"]
        self._remembered = {name: memory[name] for name in _REMEMBERED}
        self._remembered["stopping"]["best_weights"] = best or None
        self._generators = own
        self.on_train_begin()


def _schedule(recipe: Recipe) -> keras.callbacks.Callback | None:
    """What lowers the learning rate; all but a plateau is a function of the epoch alone."""
    match parse_schedule(recipe.schedule):
        case Plateau(monitor, factor, patience, least):
            return keras.callbacks.ReduceLROnPlateau(
                monitor=monitor, mode="min", factor=factor, patience=patience, min_lr=least
            )
        case Step(factor, every):
            return keras.callbacks.LearningRateScheduler(
                lambda epoch: recipe.learning_rate * factor ** (epoch // every)
            )
    return None


def _state(model: keras.Model) -> list[keras.Variable]:
    """Every variable that training changes between epochs, in a fixed order."""
    return [*model.variables, *model.optimizer.variables]


def _generators() -> list[np.ndarray]:
    """The states of torch's own random generators, which its dropout draws from."""
    if keras.config.backend() != "torch":
        return []
    import torch

    states = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    return [state.numpy() for state in states]


def _set_generators(states: list[np.ndarray]) -> None:
    """Sets back what `_generators` has given, if anything, of the devices that are here."""
    if states:
        import torch

        cpu, *gpus = map(torch.from_numpy, states)
        torch.set_rng_state(cpu)
        for device, state in zip(range(torch.cuda.device_count()), gpus, strict=False):
            torch.cuda.set_rng_state(state, device)


@contextlib.contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            error.errno,
            f"the disk is full, and what was being written into {folder} is left out. The last "
            "whole epoch is kept: make room and repeat the command",
        ) from error
