"""What a training leaves behind, read without Keras."""

import csv
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mura_tf.data.cache import picture_marks
from mura_tf.evaluation.predictions import (
    SYSTEM_KEY,
    RunFolders,
    read_predictions,
    run_folders,
)
from mura_tf.training.recipe import Recipe

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, init=False)
class Run:
    """A run folder: `recipe.json`, `run.json`, `history.csv`, `best.keras`, `predictions.csv`.

    Attributes:
        path: the folder.

    Examples:
        >>> run = mt.Run("demo/small_cnn/mura/all/repeat0-member0")
        >>> run.finished, run.recipe.backbone, run.trained_on
        (True, 'small_cnn', 'all study types')
        >>> len(run.history) == len(run.info["seconds_per_epoch"])
        True
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]):
        object.__setattr__(self, "path", Path(path))

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe.load(self.path / "recipe.json")

    @property
    def info(self) -> dict[str, Any]:
        """Versions, device, seed, data fingerprint, seconds, whether it is finished."""
        path = self.path / "run.json"
        if not path.exists():
            return {}
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(info, dict):
                raise ValueError(f"an object is expected. Received: {info!r}")
            return info
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
            raise ValueError(
                f"{path} must be JSON: {error}. Delete the folder to train this run again."
            ) from None

    @property
    def finished(self) -> bool:
        """Whether it was trained to its end and its predictions are still there."""
        return self.info.get("finished", False) and (self.path / "predictions.csv").is_file()

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch, counted from 1."""
        path = self.path / "history.csv"
        try:
            with open(path, newline="", encoding="utf-8") as file:
                columns, *rows = csv.reader(file)
            values = np.array(rows, float).reshape(-1, len(columns))
            return pd.DataFrame(values, columns=columns).astype({"epoch": int})
        except (ValueError, KeyError, csv.Error) as error:
            raise ValueError(
                f"{path} must be a CSV with a row of numbers per epoch: {error}. Delete the folder "
                "to train this run again."
            ) from None

    @property
    def predictions(self) -> pd.DataFrame:
        """Predictions table of every view of the recipe's types that is not in the train split."""
        return read_predictions(self.path / "predictions.csv")

    @property
    def system(self) -> tuple[str, str, int]:
        """Its `SYSTEM_KEY`: backbone, stage, repeat."""
        return tuple(getattr(self.recipe, name) for name in SYSTEM_KEY)

    @property
    def warning(self) -> str:
        """A sentence where the chosen epoch calls everything the same; otherwise ""."""
        if not self.info.get("constant"):
            return ""
        area = self.info["auroc"]
        ranks = "" if area is None else f" Their AUROC at image level is {area:.3f}."
        return (
            f"{self.path}: the chosen epoch calls all views that it was selected on the same, so "
            f"no score of its decisions says anything.{ranks}"
        )

    @property
    def trained_on(self) -> str:
        """Its study types, in words."""
        return ", ".join(self.recipe.study_types or ["all study types"])

    def require_recipe(self, recipe: Recipe) -> None:
        """ValueError where the folder holds a run of another recipe; names what differs.

        A file of weights is known by its name, because paths are spelled in many ways.
        """
        if not (self.path / "recipe.json").exists():
            return
        there, asked = (
            one.to_dict() | {"weights": one.weights_name} for one in (self.recipe, recipe)
        )
        changed = [
            f"{name} is {there[name]!r}, asked for {asked[name]!r}"
            for name in asked
            if there[name] != asked[name]
        ]
        if changed:
            raise ValueError(
                f"{self.path} holds a run of another recipe: {'; '.join(changed)}. "
                "Use another folder, or delete this one."
            )

    def require_data(self, fingerprint: str) -> None:
        """ValueError where the run was trained on other data, see `data_fingerprint`."""
        before = self.info.get("data_fingerprint")
        if before not in (None, fingerprint):
            raise ValueError(
                f"{self.path} was trained on a data set with the fingerprint {before}. Received "
                f"one with {fingerprint}: files, labels or splits differ. Use another folder."
            )

    def require_backend(self, backend: str) -> None:
        """ValueError where the run was begun on another backend: no other goes on exactly."""
        before = self.info.get("backend", backend)
        if before != backend:
            raise ValueError(
                f"{self.path} was begun on Keras' backend {before!r}. Received: {backend!r}, which "
                f"computes other last bits. Set KERAS_BACKEND={before}, or use another folder."
            )

    def require_pictures(self, views: pd.DataFrame, digests: Iterable[str]) -> None:
        """ValueError where a view's file is not the one that was predicted.

        Args:
            views: rows of `predictions`, with `path` as it is now.
            digests: of each file's content, see `PreparedViews`.
        """
        marks = zip(picture_marks(views, digests), views.path, strict=True)
        changed = [path for mark, path in marks if mark not in self.pictures]
        if self.pictures and changed:
            raise ValueError(
                f"{len(changed)} of {len(views)} pictures are not those that {self.path} "
                f"predicted, the first: {changed[0]}. Expected the files of the data set it was "
                "trained with; their probabilities are of no other. Put them back, or train anew."
            )

    @cached_property
    def pictures(self) -> frozenset[str]:
        """`picture_marks` of the predicted views; empty of a run that did not note them."""
        return frozenset(self.info.get("pictures", "").split())

    def model(self) -> "keras.Model":
        """The `keras.Model` of the best epoch, not compiled."""
        import keras

        return keras.models.load_model(self.path / "best.keras", compile=False)


def folders_below(roots: RunFolders) -> list[Path]:
    """The run folders at and below `roots`, each once; FileNotFoundError where there is none."""
    roots = run_folders(roots)
    found = [path.parent for root in roots for path in sorted(root.rglob("run.json"))]
    folders = list({path.resolve(): path for path in found}.values())
    if not folders:
        raise FileNotFoundError(
            f"no run.json below {', '.join(map(str, roots))}, expected at least one run folder. "
            "`mura-tf train` makes them."
        )
    return folders


def finished_runs(run_dirs: RunFolders) -> list[Run]:
    """The runs of folders, all of which must be finished; ValueError names those that are not."""
    runs = [Run(folder) for folder in run_folders(run_dirs)]
    unfinished = [str(run.path) for run in runs if not run.finished]
    if unfinished or not runs:
        raise ValueError(
            "scores and reports are made of finished runs, whose run.json says so and which hold "
            f"predictions.csv. Received {len(unfinished)} of {len(runs)} run folders without: "
            f"{', '.join(unfinished) or 'no folder'}. Train them with the same command: it goes on "
            "where it stopped."
        )
    return runs
