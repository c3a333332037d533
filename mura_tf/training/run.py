"""What a training leaves behind, read without Keras."""

import csv
import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from mura_tf.data.cache import picture_marks
from mura_tf.data.findings import few
from mura_tf.data.text import read_object, read_text
from mura_tf.evaluation.predictions import PREDICT_AGAIN, predict_views, read_predictions
from mura_tf.files import walked
from mura_tf.models.specs import weighs_views
from mura_tf.training.recipe import Recipe

if TYPE_CHECKING:
    import keras

RESUME = "resume.npz"
"""In the folder of an unfinished run: what exact resume needs."""
RunFolders = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""The folder of a run, or of several."""
_KINDS: dict[str, type | tuple[type, ...]] = {
    "finished": bool,
    "versions": dict,
    "backend": str,
    "device": str,
    "earlier": list,
    "data_fingerprint": str,
    "views": dict,
    "classes": list,
    "pictures": str,
    "best_epoch": int,
    "seconds_per_epoch": list,
    "seconds": (int, float),
}
"""What `run.json` holds, as far as anything is computed with it."""


class _Info(dict[str, Any]):
    """What a `run.json` says; a sentence in place of a KeyError."""

    path: Path

    def __missing__(self, key: str) -> NoReturn:
        raise ValueError(f"{self.path} lacks {key!r}. {_TRAIN_AGAIN}")


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
        """The settings, of `recipe.json`."""
        path = self.path / "recipe.json"
        with _told(path, "hold the run's settings"):
            return Recipe.load(path)

    @property
    def info(self) -> dict[str, Any]:
        """Versions, device, seed, data fingerprint, seconds, whether it is finished."""
        info = _Info()
        info.path = path = self.path / "run.json"
        if not path.exists():
            return info
        with _told(path, "be JSON"):
            content = read_object(path)
            for name, kind in _KINDS.items():
                if name in content and not isinstance(content[name], kind):
                    raise ValueError(f"{name} cannot be {content[name]!r}")
        info.update(content)
        return info

    @property
    def finished(self) -> bool:
        """Whether it was trained to its end and its predictions are still there."""
        return self.info.get("finished", False) and (self.path / "predictions.csv").is_file()

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch, counted from 1."""
        path, epochs = self.path / "history.csv", self.info.get("seconds_per_epoch")
        with _told(path, "be a CSV with a row of numbers per epoch"):
            columns, *rows = csv.reader(io.StringIO(read_text(path)))
            values = np.array(rows, float).reshape(-1, len(columns))
            history = pd.DataFrame(values, columns=columns)
            history["epoch"] = history["epoch"].astype(int)
            if history.empty:
                raise ValueError("a header and no row")
            if epochs is not None and len(epochs) != len(history):
                raise ValueError(f"{len(history)} rows, and the run had {len(epochs)} epochs")
            return history

    @property
    def predictions(self) -> pd.DataFrame:
        """Predictions table of every view of the recipe's types that is not in the train split.

        Raises:
            ValueError: it is damaged, or has not as many rows as the run predicted views.
        """
        path = self.path / "predictions.csv"
        table = read_predictions(path)
        if self.predicted not in (None, len(table)):
            raise ValueError(
                f"{path} must have a row for each of the {self.predicted} views that the run "
                f"predicted, as its run.json counts them. Received: {len(table)}. {PREDICT_AGAIN}"
            )
        return table

    @property
    def predicted(self) -> int | None:
        """How many views it predicted; None where no run.json counts them."""
        views = self.info.get("views")
        if views is None:
            return None
        return sum(count for split, count in views.items() if split != "train")

    @property
    def warning(self) -> str:
        """A sentence where the chosen epoch calls everything the same; otherwise ""."""
        if not self.info.get("constant"):
            return ""
        area = self.info["auroc"]  # None where it is not defined
        what, level = "views", "image"
        if weighs_views(self.recipe.head):
            what, level = "studies", "study"
        ranks = "" if area is None else f"; their AUROC at {level} level is {area:.3f}"
        return (
            f"{self.path}: the chosen epoch calls all {what} that it was selected on the same, so "
            f"no score of its decisions says anything{ranks}."
        )

    @property
    def places(self) -> list[dict[str, Any]]:
        """`device` and `versions` of each place that it was begun or went on at, in order."""
        info = self.info
        return [*info.get("earlier", []), {name: info[name] for name in ("device", "versions")}]

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

    @property
    def model_path(self) -> Path:
        """Of `best.keras`; FileNotFoundError where it is gone."""
        path = self.path / "best.keras"
        with _told(path, "hold the model of the best epoch"):
            path.stat()
        return path

    def model(self) -> "keras.Model":
        """The `keras.Model` of the best epoch, not compiled."""
        import keras

        with _told(self.model_path, "hold the model of the best epoch"):
            return keras.models.load_model(self.path / "best.keras", compile=False)


_TRAIN_AGAIN = "Put back what was there, or delete the folder to train this run again."


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    """A file of a run folder that is gone or damaged is a sentence with the mend.

    Args:
        path: of the file.
        what: that it must do.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} must {what}, and is gone. {_TRAIN_AGAIN}") from None
    except (ValueError, KeyError, TypeError, OSError, csv.Error, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and error.filename is not None:  # not of what is in the file
            raise
        said = str(error).removeprefix(f"{path} ").removeprefix("must be JSON: ").rstrip(".")
        raise ValueError(f"{path} must {what}: {said}. {_TRAIN_AGAIN}") from error


def run_folders(run_dirs: RunFolders) -> list[Path]:
    """The folders, also where one is given alone."""
    if isinstance(run_dirs, str | os.PathLike):
        run_dirs = [run_dirs]
    return [Path(run_dir) for run_dir in run_dirs]


def load_predictions(run_dirs: RunFolders) -> pd.DataFrame:
    """The predictions tables of finished runs, one below the other.

    Raises:
        FileNotFoundError: a folder holds no `predictions.csv`; all such folders are named.
        ValueError: one is damaged, or has not as many rows as its run predicted views.

    Examples:
        >>> predictions = mt.load_predictions(Path("demo/small_cnn/type/wrist").iterdir())
        >>> sorted(predictions.member.unique().tolist())
        [0, 1]
    """
    runs = [Run(folder) for folder in run_folders(run_dirs)]
    paths = [run.path / "predictions.csv" for run in runs]
    missing = [str(path.parent) for path in paths if not path.is_file()]
    if missing or not paths:
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} run folders hold no predictions.csv, expected a "
            f"finished run in each. Received: {few(missing) or 'no folder'}. "
            "Repeat the command that trained them: it predicts again where best.keras is there, "
            "and trains where it is not."
        )
    contents = [path.read_bytes() for path in paths]
    header = contents[0].partition(b"\n")[0] + b"\n"
    if all(
        content.startswith(header)
        and content.endswith(b"\n")
        and run.predicted in (None, content.count(b"\n") - 1)
        for run, content in zip(runs, contents, strict=True)
    ):
        rows = (one.removeprefix(header) for one in contents)
        with suppress(ValueError):  # the files one by one say which is damaged
            # all at once, because hundreds of small tables take seconds to parse
            return read_predictions(io.BytesIO(header + b"".join(rows)))
    return pd.concat([run.predictions for run in runs], ignore_index=True)


def predicted_by(
    recipe: Recipe,
    model: "keras.Model",
    views: pd.DataFrame,
    classes: tuple[str, ...] = (),
    cache_dir: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """`predict_views` with a model that was trained as the recipe says."""
    return predict_views(
        model,
        views,
        preprocessing=recipe.preprocessing_mode,
        mirrored=recipe.mirrored,
        cache_dir=cache_dir,
        resize=recipe.resize,
        classes=classes,
        backbone=recipe.backbone,
        stage=recipe.stage,
        repeat=recipe.repeat,
        member=recipe.member,
    )


def folders_below(roots: RunFolders) -> list[Path]:
    """The run folders at and below `roots`, each once; FileNotFoundError of a root without any."""
    folders: dict[Path, Path] = {}
    given = [root for root in run_folders(roots) if not root.is_file()]  # as `runs/*` names, too
    for root in given:
        found = sorted(_run_folders_below(root)) if root.is_dir() else []
        if not found:
            raise FileNotFoundError(
                f"no run.json below {root}, expected at least one run folder. `mura-tf train` "
                "makes them."
            )
        folders |= {path.resolve(): path for path in found}
    if not given:
        raise FileNotFoundError("no run folder was given, expected at least one.")
    return list(folders.values())


def _run_folders_below(root: Path) -> Iterator[Path]:
    """Also where a link leads, once, and rather by its own name than by a link's."""
    seen: set[str] = set()
    for folder, folders, files in walked(root):
        folders.sort(key=lambda name: (os.path.islink(os.path.join(folder, name)), name))
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if "run.json" in files:
            yield Path(folder)


def finished_runs(run_dirs: RunFolders) -> list[Run]:
    """The runs of folders, all of which must be finished; ValueError names those that are not."""
    runs = [Run(folder) for folder in run_folders(run_dirs)]
    unfinished = [str(run.path) for run in runs if not run.finished]
    if unfinished or not runs:
        raise ValueError(
            "scores and reports are made of finished runs, whose run.json says so and which hold "
            f"predictions.csv. Received {len(unfinished)} of {len(runs)} run folders without: "
            f"{few(unfinished) or 'no folder'}. Train them with the same command: it goes on "
            "where it stopped."
        )
    return runs
