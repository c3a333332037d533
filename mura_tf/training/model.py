"""Recipe -> the compiled model that a run begins with."""

import warnings
import zipfile
from pathlib import Path

import keras

from mura_tf.models.build import HEAD_NAMES, build_model
from mura_tf.models.keras_metrics import CohenKappa
from mura_tf.models.specs import parse_optimizer
from mura_tf.training.recipe import Recipe


def compiled_model(recipe: Recipe, classes: tuple[str, ...], run_dir: Path) -> keras.Model:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16" if recipe.mixed_precision else "float32")
    try:
        model = build_model(
            recipe.backbone,
            None if recipe.initial else recipe.weights,
            image_size=recipe.side,
            head=recipe.head,
            classes=len(classes) or None,
            l1=recipe.l1,
            l2=recipe.l2,
            trainable=recipe.trainable,
        )
    finally:
        keras.config.set_dtype_policy(policy)
    if recipe.initial:
        _load_initial(model, run_dir / recipe.initial, recipe.initial_part)
    optimizer = _optimizer(recipe)
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer=optimizer,
        loss="categorical_crossentropy" if classes else "binary_crossentropy",
        metrics=_metrics(len(classes)),
    )
    return model


def _optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    name, momentum = parse_optimizer(recipe.optimizer)
    settings = {"weight_decay": recipe.weight_decay or None}
    if name == "sgd":
        optimizer = keras.optimizers.SGD(recipe.learning_rate, momentum, **settings)
    else:
        optimizer = keras.optimizers.Adam(recipe.learning_rate, 0.9, 0.999, **settings)
    return keras.optimizers.LossScaleOptimizer(optimizer) if recipe.mixed_precision else optimizer


def _metrics(classes: int) -> list[keras.metrics.Metric]:
    if classes:
        return [
            CohenKappa(name="kappa", num_classes=classes),
            keras.metrics.CategoricalAccuracy(name="accuracy"),
            keras.metrics.F1Score(average="macro", name="f1"),
        ]
    return [CohenKappa(name="kappa"), keras.metrics.BinaryAccuracy(name="accuracy")]


def _load_initial(model: keras.Model, path: Path, part: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(
            f"initial must be the best.keras of a finished run. There is no file {path}."
        )
    if path.suffix != ".keras":
        raise ValueError(f"initial must be a .keras file. Received: {path}.")
    try:
        if part == "backbone":
            _copy_backbone(keras.models.load_model(path, compile=False), model)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a hundred lines before the one error
            model.load_weights(path)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"initial must hold a {model.name} with "
            f"{'any' if part == 'backbone' else 'the same'} head. Received: {path}, of which "
            f"Keras says: {str(error).splitlines()[0]}"
        ) from error


def _copy_backbone(source: keras.Model, model: keras.Model) -> None:
    """Copies what the two have before their heads, whose layers have names of their own."""
    for layer in model.layers:
        if layer.weights and not layer.name.startswith(HEAD_NAMES):
            layer.set_weights(source.get_layer(layer.name).get_weights())
