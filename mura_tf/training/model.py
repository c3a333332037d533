"""Recipe -> the compiled model that a run begins with."""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras

from mura_tf.models.build import HEAD_NAMES, OUTPUT_NAMES, build_model
from mura_tf.models.keras_metrics import CohenKappa, DataLoss, LabelAccuracy
from mura_tf.models.specs import boxes_weight, weighs_views
from mura_tf.training.joint import JointModel
from mura_tf.training.optimizer import optimizer_of
from mura_tf.training.recipe import Recipe


def compiled_model(
    recipe: Recipe,
    classes: tuple[str, ...],
    run_dir: Path,
    *,
    side: int | None = None,
    steps: int = 1,
) -> keras.Model:
    """The model of a recipe, with its weights, loss, metrics and optimizer.

    Args:
        classes: of `class_names`.
        run_dir: what `recipe.initial` is relative to.
        side: of its input, pixels; by default the recipe's.
        steps: of an epoch, for schedules that go by step.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16" if recipe.mixed_precision else "float32")
    try:
        model = build_model(
            recipe.backbone,
            None if recipe.initial else recipe.weights,
            image_size=side or recipe.side,
            head=recipe.head,
            classes=len(classes) or None,
            l1=recipe.l1,
            l2=recipe.l2,
            trainable=recipe.trainable,
            batch_norm=recipe.batch_norm,
        )
    finally:
        keras.config.set_dtype_policy(policy)
    if initial := recipe.initial_path(run_dir):
        _load_initial(model, initial, recipe.initial_part)
    weight = boxes_weight(recipe.head)
    if weight or weighs_views(recipe.head):
        model = JointModel.around(model, weight)
    more = recipe.l1 or recipe.l2 or weight  # in the loss than the labels'
    model.compile(
        optimizer=optimizer_of(recipe, model, steps),
        loss=_loss(recipe, classes),
        metrics=_metrics(len(classes)),
        weighted_metrics=[
            DataLoss(categorical=bool(classes), label_smoothing=recipe.label_smoothing)
        ]
        if more
        else None,
    )
    return model


def save_model(model: keras.Model, path: Path) -> None:
    """Writes a `.keras` file that is the same bytes for the same model.

    Keras writes when it was saved, also as the time of zip members, and names what layers share by
    its address in memory.
    """
    model.save(path)
    with zipfile.ZipFile(path) as dated:
        parts = {name: dated.read(name) for name in dated.namelist()}
    numbers: dict[int, int] = {}

    def without(settings: dict[str, Any]) -> dict[str, Any]:
        settings.pop("date_saved", None)
        if address := settings.get("shared_object_id"):
            settings["shared_object_id"] = numbers.setdefault(address, len(numbers) + 1)
        return settings

    for name in ("metadata.json", "config.json"):
        parts[name] = json.dumps(json.loads(parts[name], object_hook=without)).encode()
    with zipfile.ZipFile(path, "w") as undated:
        for name, content in parts.items():
            undated.writestr(zipfile.ZipInfo(name), content)  # of 1980, the first that zip knows


def _loss(recipe: Recipe, classes: tuple[str, ...]) -> keras.losses.Loss:
    smoothing = recipe.label_smoothing
    if classes:
        return keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    return keras.losses.BinaryCrossentropy(label_smoothing=smoothing)


def _metrics(classes: int) -> list[keras.metrics.Metric]:
    if classes:
        return [
            CohenKappa(name="kappa", num_classes=classes),
            keras.metrics.CategoricalAccuracy(name="accuracy"),
            keras.metrics.F1Score(average="macro", name="f1"),
        ]
    return [CohenKappa(name="kappa"), LabelAccuracy(name="accuracy")]


_NEW: dict[str, tuple[str, ...]] = {
    "model": (),
    "backbone": HEAD_NAMES,
    "without_output": OUTPUT_NAMES,
}
"""What the names of the layers begin with that are not loaded, by `initial_part`."""
_HEADS = {
    "model": "the same head",
    "backbone": "any head",
    "without_output": "the same head but for its output",
}


def _load_initial(model: keras.Model, path: Path, part: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(
            f"initial must be the best.keras of a finished run. There is no file {path}."
        )
    if path.suffix != ".keras":
        raise ValueError(f"initial must be a .keras file. Received: {path}.")
    new = _NEW[part]
    try:
        source = keras.models.load_model(path, compile=False)
        (theirs, backbone), (head, layers) = (_parts(one, new) for one in (source, model))
        if different := sorted(theirs.keys() ^ head.keys()):
            raise ValueError(f"one of the two heads has no {', '.join(different[:5])}")
        pairs = zip([*layers, *head.values()], [*backbone, *map(theirs.get, head)], strict=True)
        for layer, other in pairs:
            layer.set_weights(other.get_weights())
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"initial must hold a {model.name} with {_HEADS[part]}. Received: {path}: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _parts(
    model: keras.Model, new: tuple[str, ...]
) -> tuple[dict[str, keras.Layer], list[keras.Layer]]:
    """The head's layers with weights by name, but for those that begin with one of `new`; the rest.

    The backbone's go by their order: Keras numbers some of their names through a process.
    """
    weighty = [layer for layer in model.layers if layer.weights]
    head = {one.name: one for one in weighty if one.name.startswith(HEAD_NAMES)}
    backbone = [layer for layer in weighty if layer.name not in head]
    return {name: one for name, one in head.items() if not name.startswith(new)}, backbone
