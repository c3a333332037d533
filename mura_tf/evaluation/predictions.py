"""Model + views -> predictions table, and that table's file.

Only `predict_views` needs Keras.
"""

import io
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mura_tf.data.table import VIEW_KEY, as_labels
from mura_tf.data.tasks import abnormality_of
from mura_tf.data.text import read_table
from mura_tf.files import written_whole
from mura_tf.models.backend import require_backend

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

EVALUATION_BATCH = 32
"""Views per step where nothing is trained; it changes speed only."""
_SLACK = 1e-2
"""By which probabilities in fewer bits may miss their range, or the sum of 1."""
CLASS_PREFIX = "p:"
"""What the columns of class probabilities begin with."""
PREDICT_AGAIN = "Delete the file and repeat the command that wrote it: it predicts again."
"""The mend of a predictions table."""


def predict_views(
    model: "keras.Model",
    views: pd.DataFrame,
    *,
    preprocessing: str = "caffe",
    mirrored: bool = False,
    batch_size: int = EVALUATION_BATCH,
    cache_dir: str | os.PathLike[str] | None = None,
    resize: str = "bilinear",
    classes: tuple[str, ...] = (),
    backbone: str | None = None,
    stage: str = "imagenet",
    repeat: int = 0,
    member: int = 0,
) -> pd.DataFrame:
    """The probability of abnormality of every view.

    Args:
        model: a `keras.Model` with square inputs (B, S, S, 3) and one sigmoid output (B, 1), or a
            distribution (B, K) over `classes`; a second output (B, 1) is how much a view counts in
            its study.
        views: views table; every row is predicted, in its order. A label may be any whole number,
            or NaN where it is unknown; where all are, there need be no such column.
        preprocessing: what the model was trained with, see `make_dataset`.
        mirrored: whether to take the mean of each view and its mirror image.
        batch_size: views per step, 32 by default; it changes speed only.
        cache_dir, resize: where prepared images are kept, and how they are made, see `prepare`.
        classes: of `class_names`, for a model with classes.
        backbone: name for the table; the model's own name by default.
        stage, repeat, member: which of the paper's runs the model is, for the table.

    Returns:
        Predictions table: the columns of `views` and `backbone, stage, repeat, member,
        probability` (float in [0, 1]). With classes, `probability` is the sum over the abnormal
        ones (NaN where there are none), and each class has a column, "p:" and its name. With a
        second output there is `weight`, a positive float. An unknown label is <NA>.

    Raises:
        ValueError: a model of another form, or that says a probability or a weight that is none, a
            label that is no whole number, or what `make_dataset` and `require_backend` raise.

    Examples:
        >>> views = mt.load_mura("demo/MURA-v1.1")
        >>> model = mt.build_model("small_cnn", weights=None, image_size=32)
        >>> predictions = mt.predict_views(model, views[:3], preprocessing="tf")
        >>> list(predictions)[-5:]
        ['backbone', 'stage', 'repeat', 'member', 'probability']
    """
    from mura_tf.data.pipeline import make_dataset

    require_backend()
    views = views.reset_index(drop=True)
    labels = views["label"] if "label" in views else pd.Series(pd.NA, views.index)
    batches = make_dataset(
        views.assign(label=0),  # no prediction hangs on it
        image_size=_square_side(model),
        batch_size=batch_size,
        training=False,
        preprocessing=preprocessing,
        cache_dir=cache_dir,
        resize=resize,
    )
    outputs, *weights = model_outputs(model, batches)
    if mirrored:
        turned = batches.map(lambda images, *rest: (images[:, :, ::-1], *rest))
        both = zip([outputs, *weights], model_outputs(model, turned), strict=True)
        outputs, *weights = [(one + other) / 2 for one, other in both]
    _require_columns(outputs, weights, classes)
    more = {f"{CLASS_PREFIX}{name}": outputs[:, index] for index, name in enumerate(classes)}
    if weights:
        more["weight"] = weights[0][:, 0]
    of_others = [
        name for name in views if name in ("weight", "system") or str(name).startswith(CLASS_PREFIX)
    ]
    return views.drop(columns=of_others).assign(
        label=as_labels(labels),
        backbone=backbone or model.name,
        stage=stage,
        repeat=repeat,
        member=member,
        probability=abnormality_of(outputs, classes),
        **more,
    )


def model_outputs(model: "keras.Model", batches: "tf.data.Dataset") -> list[np.ndarray]:
    """The outputs of a model, in its order, float64."""
    said = model.predict(batches, verbose=0)
    return [one.astype(float) for one in (said if isinstance(said, list) else [said])]


def _square_side(model: "keras.Model") -> int:
    _, *sides, channels = model.input_shape
    if channels != 3 or None in sides or len(set(sides)) != 1:
        raise ValueError(
            "the model's input must be a square of a fixed size with 3 channels, (None, S, S, 3). "
            f"Received: {model.input_shape}."
        )
    return sides[0]


def _require_columns(
    outputs: np.ndarray, weights: Sequence[np.ndarray], classes: Sequence[str]
) -> None:
    if outputs.shape[1:] != (len(classes) or 1,):
        raise ValueError(
            "the model's output must be a probability of abnormality, (B, 1), or one for each of "
            f"`classes`. Received: {outputs.shape} and {len(classes)} classes. Of a softmax over "
            "normal and abnormal give the second: keras.Model(model.input, model.output[:, 1:])."
        )
    shapes = [one.shape[1:] for one in weights]
    if shapes not in ([], [(1,)]):
        raise ValueError(
            "beside the probability a model can say how much each view counts, (B, 1), and nothing "
            f"else. Received: further outputs of the shapes {shapes}."
        )
    fit = ((outputs > -_SLACK) & (outputs < 1 + _SLACK)).all(axis=1)  # NaN does not
    if classes:
        fit &= np.abs(outputs.sum(axis=1) - 1) < _SLACK
    if not fit.all():
        raise ValueError(
            "a model's output must be probabilities, in [0, 1], and of classes with the sum 1. "
            f"Received: {outputs[~fit][0].tolist()} and {np.sum(~fit) - 1} others of "
            f"{len(outputs)} views. End it in a sigmoid or a softmax; if it does, its weights are "
            "damaged or too large for its precision."
        )
    for one in weights:
        _require_positive(one)


def _require_positive(weights: np.ndarray) -> None:
    if not ((weights > 0) & (weights < np.inf)).all():
        raise ValueError(
            "how much a view counts must be a positive number. Received: "
            f"{weights.min():g} to {weights.max():g}."
        )


def read_predictions(path: str | os.PathLike[str] | io.BytesIO) -> pd.DataFrame:
    """Reads one predictions table.

    Probabilities come back bit for bit, and keys stay text: a patient "007" is not the number 7.

    Raises:
        ValueError: the file is no predictions table, or cut short.
    """
    try:
        # probabilities by way of text: pandas' own parser may miss the last bit
        table = read_table(path, dtype=defaultdict(lambda: str, _COUNTS), keep_default_na=False)
        if lacking := [column for column in _COLUMNS if column not in table]:
            raise ValueError(f"no column {', '.join(lacking)}")
        classes = [column for column in table if column.startswith(CLASS_PREFIX)]
        weights = table.columns.intersection(["weight"])
        table = table.astype(dict.fromkeys(["probability", *classes, *weights], float))
        _require_positive(table[weights].to_numpy())
        return table.assign(label=as_labels(table.label))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} must be a predictions table, and is gone. {PREDICT_AGAIN}"
        ) from None
    except (ValueError, KeyError, OverflowError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(
            f"{path} must be a predictions table, and is damaged: {error}. {PREDICT_AGAIN}"
        ) from error


_COUNTS: dict[str, type] = {"repeat": int, "member": int}
_COLUMNS = [*VIEW_KEY, "label", "backbone", "stage", *_COUNTS, "probability"]


def write_predictions(predictions: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Writes a predictions table as `read_predictions` reads it; an unknown label is left empty."""
    labels = predictions.label.astype("Int64").astype("string").fillna("")
    with written_whole(path) as part:
        predictions.assign(label=labels).to_csv(part, index=False, na_rep="nan")
