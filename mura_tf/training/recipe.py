"""Everything fixed before a run. The only configuration system."""

import dataclasses
import difflib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from mura_tf.data.radiograph import RESIZES
from mura_tf.data.splits import SPLIT_BY
from mura_tf.data.text import read_object
from mura_tf.files import write_json
from mura_tf.models.backbones import find_backbone
from mura_tf.models.specs import (
    PAPER_HEAD,
    Cosine,
    boxes_weight,
    parse_augmentations,
    parse_head,
    parse_optimizer,
    parse_schedule,
    parse_sizes,
    parse_trainable,
    require_batch_norm,
    weighs_views,
)

PREPROCESSINGS = ("caffe", "caffe_rgb", "native", "unit")

STAGES = ("imagenet", "mura", "type")

SELECT_ON = ("valid", "holdout")

TASKS = ("abnormality", "study_type", "type_and_abnormality")

MONITORS = ("val_kappa", "val_loss", "val_accuracy", "val_f1", "val_auroc")
"""`val_f1` is the macro F1 of the tasks with classes; `val_auroc` is of abnormal against normal."""

_LATER = (
    "first_sizes",
    "resize",
    "batch_norm",
    "label_smoothing",
    "first_rate",
    "averaging",
    "mirrored",
)
"""Settings that came after recipes had been written and hashed: told only where they are set."""


@dataclass(frozen=True)
class Recipe:
    """A training run, before it is run. The defaults are the paper's (sections IV and V).

    Attributes:
        backbone: a key of `BACKBONES`.
        weights: what the backbone starts from: "imagenet", None (random) or a path to backbone
            weights (`.h5`, `.weights.h5`).
        initial: the `best.keras` of an earlier run that the whole model starts from, instead of
            `weights`: the paper's mura checkpoint for the type stage. An absolute path, or one
            relative to the run folder, so that an experiment can be moved as a whole.
        initial_part: "model", "backbone" (the head is new) or "without_output" (of the head the
            output layer alone is).
        study_types: what it trains on; None for all types of the data set together.
        image_size: side of the square, pixels; None for the backbone's own (Table III).
        first_sizes: sides of the first epochs, "PIXELS:EPOCHS" each, such as ("256:3",); the rest
            of `max_epochs` has `image_size`, and only it is selected from.
        resize: "bilinear", the paper's, or "area", antialiased; see `resize_with_pad`.
        preprocessing: "caffe", the paper's sentence (zero-centred with the ImageNet mean, not
            scaled) as Keras has it, which is in the order BGR, "caffe_rgb", the same in RGB,
            "native", what the backbone was pretrained with, or "unit", [0, 1] (003).
        augment: augmentations of the training views: see `specs.AUGMENTATIONS`.
        task: what the output says: "abnormality" (one probability), "study_type", or
            "type_and_abnormality" (a class for each pair; 003's fourteen on MURA).
        head: specs of the layers between backbone and output, see `specs.HEAD_LAYERS`; by default
            the paper's.
        trainable: which backbone layers are trained, see `specs.TRAINABLE`. The head always is.
        batch_norm: whose momentum and epsilon it has, of `specs.BATCH_NORMS`.
        l1: regularization of the head's dense kernels by their absolute values.
        l2: the same by their squares.
        label_smoothing: the share of a label that is taken off it and given to all classes alike:
            with 0.1 the loss has 0.95 for abnormal and 0.05 for normal.
        batch_size: views per step.
        optimizer: of `specs.OPTIMIZERS`.
        learning_rate: at the start.
        weight_decay: the share of every weight that each step takes off it, times the learning
            rate, or adds to its gradient: see `specs.OPTIMIZERS`.
        first_rate: the share of the learning rate that the first trained layer has; from there to
            the head, which has all of it, it grows by the same factor from layer to layer.
        averaging: of the trained weights over the steps: the share of itself that the average keeps
            at each (Keras' `ema_momentum`), 0 for none. The average is what is validated, selected
            and kept.
        schedule: how the learning rate falls, see `specs.SCHEDULES`. The paper says "each time the
            training loss has stopped improving" and names no number of epochs: 1 is its literal
            reading.
        monitor: what selects the epoch and stops the run: "val_kappa", "val_loss", "val_accuracy",
            "val_f1" (macro F1, of a task with classes) or "val_auroc" (abnormal against normal), at
            image level; where the head weighs views, each view has its study's probability, and
            "val_auroc" is of studies, each once.
        patience: epochs without a better `monitor` that are tolerated; one more ends the run.
        max_epochs: the run ends here if it did not before. The paper has no such limit.
        mirrored: whether a view's probability is the mean of its own and its mirror image's.
        balance: what the loss weighs so that abnormal and normal count the same: "type", each study
            type (the paper's); "all", all views together, which leaves the types their shares;
            "none". A task with classes has "none".
        select_on: where the epoch is selected: "valid", as in the paper, or "holdout", a part of
            the training split that is then not trained on.
        holdout: that part, a fraction.
        holdout_by: "patient" or "image". By image, what is selected looks better than it is.
        mixed_precision: whether layers compute in float16 (GPU) with float32 weights.
        seed: of everything random, together with `repeat` and `member`.
        stage: what the run starts from and trains on: "imagenet", "mura" or "type".
        repeat: which of the ensembles.
        member: which model of it.

    Raises:
        ValueError: a value that cannot be, in one sentence.

    Examples:
        >>> recipe = mt.Recipe(backbone="efficientnet_b0", augment=("flip", "rotation:10"))
        >>> recipe.side
        224
        >>> recipe.changed({"member": 1}).run_seed == recipe.run_seed
        False
    """

    backbone: str = "efficientnet_b3"
    weights: str | None = "imagenet"
    initial: str | None = None
    initial_part: str = "model"
    study_types: tuple[str, ...] | None = None
    image_size: int | None = None
    first_sizes: tuple[str, ...] = ()
    resize: str = "bilinear"
    preprocessing: str = "caffe"
    augment: tuple[str, ...] = ("flip",)
    task: str = "abnormality"
    head: tuple[str, ...] = PAPER_HEAD
    trainable: str = "all"
    batch_norm: str = "own"
    l1: float = 0.0
    l2: float = 0.0
    label_smoothing: float = 0.0
    batch_size: int = 8
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    first_rate: float = 1.0
    averaging: float = 0.0
    schedule: str = "plateau:loss:0.1:1"
    monitor: str = "val_kappa"
    patience: int = 5
    max_epochs: int = 100
    mirrored: bool = False
    balance: str = "type"
    select_on: str = "valid"
    holdout: float = 0.1
    holdout_by: str = "patient"
    mixed_precision: bool = False
    seed: int = 0
    stage: str = "imagenet"
    repeat: int = 0
    member: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.backbone, str):
            raise ValueError(f"backbone must be text. Received: {self.backbone!r}.")
        find_backbone(self.backbone)
        for name in ("study_types", "first_sizes", "augment", "head"):  # JSON has lists only
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("weights", "initial"):
            if isinstance(getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"{name} must be text or None. Received: {getattr(self, name)!r}.")
        _require(self, "preprocessing", PREPROCESSINGS)
        _require(self, "resize", RESIZES)
        _require(self, "task", TASKS)
        _require(self, "monitor", MONITORS)
        _require(self, "balance", ("type", "all", "none"))
        _require(self, "select_on", SELECT_ON)
        _require(self, "holdout_by", SPLIT_BY)
        _require(self, "initial_part", ("model", "backbone", "without_output"))
        _require(self, "stage", STAGES)
        for name in ("batch_size", "patience", "max_epochs"):
            _require_whole(self, name, least=1)
        for name in ("seed", "repeat", "member"):
            _require_whole(self, name, least=0)
        if self.seed >= 2**32:
            raise ValueError(f"seed must be below 2**32. Received: {self.seed}.")
        if self.image_size is not None:
            _require_whole(self, "image_size", least=32)
        _require_number(self, "learning_rate", "above 0", lambda rate: 0 < rate < float("inf"))
        for name in ("l1", "l2", "weight_decay"):
            _require_number(self, name, "from 0 up", lambda rate: 0 <= rate < float("inf"))
        _require_number(self, "holdout", "above 0 and below 1", lambda part: 0 < part < 1)
        for name in ("label_smoothing", "averaging"):
            _require_number(self, name, "from 0 to below 1", lambda share: 0 <= share < 1)
        _require_number(self, "first_rate", "above 0 and up to 1", lambda share: 0 < share <= 1)
        for name in ("mixed_precision", "mirrored"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"{name} must be one of True, False. Received: {getattr(self, name)!r}."
                )
        types = self.study_types
        if types is not None and not (
            isinstance(types, tuple) and types and all(map(_names_a_folder, types))
        ):
            raise ValueError(
                "study_types must be a tuple of names such as ('elbow', 'wrist'), or None for all. "
                f"Received: {types!r}."
            )
        for name, what in (
            ("augment", "such as ('flip',)"),
            ("head", "of specs"),
            ("first_sizes", "such as ('256:3',)"),
        ):
            if not isinstance(getattr(self, name), tuple):
                raise ValueError(
                    f"{name} must be a tuple {what}. Received: {getattr(self, name)!r}."
                )
        augmentations = parse_augmentations(self.augment)
        parse_head(self.head)
        if "mixup" in augmentations and boxes_weight(self.head):
            raise ValueError(
                "'mixup' lays two views over each other, and the boxes that a head's map learns "
                f"from are of one. Received: head {self.head!r}. Give the map the weight 0, or "
                "leave 'mixup' out."
            )
        if weighs_views(self.head):
            self._require_studies(augmentations)
        if self.batch_size == 1 and ("mixup" in augmentations or weighs_views(self.head)):
            raise ValueError(
                "'mixup' and a head's 'views' are of several views at a time. Received: a "
                "batch_size of 1. Use 2 or more."
            )
        parse_trainable(self.trainable)
        require_batch_norm(self.batch_norm)
        parse_optimizer(self.optimizer)
        schedule = parse_schedule(self.schedule)
        if isinstance(schedule, Cosine) and schedule.warmup >= self.max_epochs:
            raise ValueError(
                "the schedule 'cosine:WARMUP' must leave epochs of max_epochs to fall in. "
                f"Received: {self.schedule!r} with {self.max_epochs} epochs."
            )
        self._require_first_sizes()
        if self.monitor == "val_f1" and self.task == "abnormality":
            raise ValueError(
                "the monitor 'val_f1' needs a task with classes. Received: task 'abnormality'."
            )
        if self.monitor == "val_auroc" and self.task == "study_type":
            raise ValueError(
                "the monitor 'val_auroc' needs a task that tells abnormal from normal. Received: "
                "task 'study_type'."
            )
        if self.balance != "none" and self.task != "abnormality":
            raise ValueError(
                "only the task 'abnormality' has two labels to balance. Received: task "
                f"{self.task!r} and balance {self.balance!r}. Use balance='none'."
            )

    def _require_studies(self, augmentations: Container[str]) -> None:
        if self.task != "abnormality":
            raise ValueError(
                "a head with 'views' needs the task 'abnormality', whose label is the study's. "
                f"Received: task {self.task!r}."
            )
        if "mixup" in augmentations:
            raise ValueError(
                "'mixup' lays two views over each other, which are then of no one study. Received: "
                f"head {self.head!r}. Leave 'views' or 'mixup' out."
            )

    def _require_first_sizes(self) -> None:
        sizes = parse_sizes(self.first_sizes)
        sides = [side for side, _ in sizes] + [self.side]
        if any(side >= larger for side, larger in itertools.pairwise(sides)):
            raise ValueError(
                "first_sizes must rise, to below image_size. Received: "
                f"{self.first_sizes!r} before {self.side} pixels."
            )
        epochs = sum(epochs for _, epochs in sizes)
        if epochs >= self.max_epochs:
            raise ValueError(
                "first_sizes must leave epochs of max_epochs to image_size. Received: "
                f"{self.first_sizes!r}, {epochs} of {self.max_epochs} epochs."
            )
        if self.first_sizes and "flatten" in self.head:
            raise ValueError(
                "a head with 'flatten' has one size; first_sizes need one that pools. Received: "
                f"{self.head!r}."
            )

    @property
    def side(self) -> int:
        """Side of the square input, pixels: `image_size`, or the backbone's own."""
        return self.image_size or find_backbone(self.backbone).image_size

    @property
    def weights_name(self) -> str | None:
        """`weights`, or the file's name alone: where it lies makes no other recipe."""
        return self.weights and PureWindowsPath(self.weights).name  # which knows both separators

    @property
    def preprocessing_mode(self) -> str:
        """The preprocessing by Keras' names, see `make_dataset`."""
        if self.preprocessing == "native":
            return find_backbone(self.backbone).preprocessing
        return self.preprocessing

    @property
    def run_seed(self) -> int:
        """A seed of this run alone, so that members and repeats of one seed differ."""
        return int(
            np.random.SeedSequence([self.seed, self.repeat, self.member]).generate_state(1)[0]
        )

    def initial_path(self, run_dir: str | os.PathLike[str]) -> Path | None:
        """The model that a run in that folder starts from, if any.

        `initial` goes up by the folders' names, wherever a link among them leads.
        """
        if self.initial is None:
            return None
        return Path(os.path.normpath(os.path.join(run_dir, self.initial)))

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that name these settings, wherever the weights' file lies."""
        text = json.dumps(self.written() | {"weights": self.weights_name}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON knows them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Recipe":
        """A recipe from `to_dict`'s result; settings left out keep their defaults.

        Raises:
            ValueError: an unknown setting, with the nearest known one.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"a recipe has the settings {', '.join(known)}. Received: {name!r}.{hint}"
                )
        return cls(**settings)

    def changed(self, settings: Mapping[str, Any]) -> "Recipe":
        """The recipe with other settings.

        Raises:
            ValueError: an unknown setting, or a value that cannot be.
        """
        return type(self).from_dict(self.to_dict() | dict(settings))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the settings as JSON, see `from_dict`."""
        write_json(path, self.written())

    def written(self) -> dict[str, Any]:
        """`to_dict` as files have it: as it was before the settings of `_LATER`, unless set."""
        settings = self.to_dict()
        for name in _LATER:
            if getattr(self, name) == getattr(type(self), name):
                del settings[name]
        return settings

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Recipe":
        """Reads a JSON file of settings; see `from_dict`."""
        return cls.from_dict(read_settings(path))


def find_settings(recipe: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings of a recipe that ships with the package, by its name, or of a JSON file.

    Args:
        recipe: the name of a file in `experiments/recipes`, such as "fracatlas_efficientnet", or
            the path of any.

    Raises:
        FileNotFoundError: neither; the names are listed.
        ValueError: see `read_settings`.
    """
    folder = files("mura_tf.experiments") / "recipes"
    named = {path.name.removesuffix(".json"): path for path in folder.iterdir()}
    if isinstance(recipe, str) and recipe in named:
        with as_file(named[recipe]) as path:
            return read_settings(path)
    if not os.path.exists(recipe):
        raise FileNotFoundError(
            f"a recipe must be one of {', '.join(sorted(named))}, or the path of a JSON file. "
            f"Received: {os.fspath(recipe)!r}, and there is no such file."
        )
    return read_settings(recipe)


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a JSON file of a recipe's settings, any of them.

    Raises:
        ValueError: see `read_object`; or a value that no setting has.
    """
    settings = read_object(path)
    for name, value in settings.items():
        inner = value if isinstance(value, list) else [value]
        if any(isinstance(one, list | dict) for one in inner):
            raise ValueError(
                f"{path} must have text, numbers and lists of text as its settings. Received: "
                f"{name!r}, whose value is nested deeper."
            )
    return settings


def setting_text(value: object) -> str:
    """A setting's value, as `to_dict` has it, for people."""
    if isinstance(value, list):
        return " ".join(value) or "none"
    return "none" if value is None else str(value)


def _names_a_folder(name: object) -> bool:
    """Whether a study type can be a part of the run folder's path."""
    return isinstance(name, str) and name not in ("", ".", "..") and "/" not in name


def _require(recipe: Recipe, name: str, allowed: tuple[str, ...]) -> None:
    value = getattr(recipe, name)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}. Received: {value!r}.")


def _require_whole(recipe: Recipe, name: str, least: int) -> None:
    value = getattr(recipe, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number from {least} up. Received: {value!r}.")


def _require_number(
    recipe: Recipe, name: str, range_text: str, fits: Callable[[float], bool]
) -> None:
    value = getattr(recipe, name)
    if isinstance(value, int) and not isinstance(value, bool):
        with suppress(OverflowError):  # more digits than a float has
            value = float(value)
    if not isinstance(value, float) or not fits(value):
        raise ValueError(f"{name} must be a number {range_text}. Received: {value!r}.")
    object.__setattr__(recipe, name, float(value))  # 1 and 1.0 are one recipe, with one hash
