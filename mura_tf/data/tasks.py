"""What a model is asked: abnormal or not, which study type, or both at once."""

import numpy as np
import pandas as pd

ABNORMAL = "abnormal "
"""What the names of classes that mean abnormal begin with."""
_WORDS = ("normal ", ABNORMAL)
"""By label."""


def class_names(views: pd.DataFrame, task: str) -> tuple[str, ...]:
    """The classes of a task, in the order of the model's outputs; they follow the data.

    Args:
        views: views table.
        task: of a recipe.

    Returns:
        () for "abnormality"; the study types for "study_type"; "normal elbow", "abnormal elbow",
        "normal finger", ... for "type_and_abnormality".
    """
    study_types = sorted(views.study_type.unique())
    if task == "abnormality":
        return ()
    if task == "study_type":
        return tuple(study_types)
    return tuple(f"{word}{study_type}" for study_type in study_types for word in _WORDS)


def type_and_label(name: str) -> tuple[str, int | None]:
    """What a class stands for; its label is None where it is a study type alone.

    >>> type_and_label("abnormal elbow"), type_and_label("elbow")
    (('elbow', 1), ('elbow', None))
    """
    for label, word in enumerate(_WORDS):
        if name.startswith(word):
            return name.removeprefix(word), label
    return name, None


def class_of(views: pd.DataFrame, task: str) -> pd.Series:
    """The class of each view."""
    if task == "study_type":
        return views.study_type
    return views.label.map(dict(enumerate(_WORDS))) + views.study_type.astype(str)


def targets_of(views: pd.DataFrame, task: str, classes: tuple[str, ...]) -> np.ndarray:
    """What the model learns: float32 (n,) labels, or one-hot rows (n, K) of `classes`."""
    if task == "abnormality":
        return views.label.to_numpy(np.float32)
    numbers = pd.Categorical(class_of(views, task), classes).codes
    return np.eye(len(classes), dtype=np.float32)[numbers]


def abnormality_of(probabilities: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """The probability of abnormality, float (n,), of a model's outputs, float (n, K) or (n, 1).

    It is the sum over the abnormal classes, and NaN where no class says anything about it; without
    classes it is the output itself. What float32 has put a little past 0 or 1 is cut to it.
    """
    if not classes:
        return probabilities[:, 0].clip(0, 1)
    abnormal = [name.startswith(ABNORMAL) for name in classes]
    if not any(abnormal):
        return np.full(len(probabilities), np.nan)
    return probabilities[:, abnormal].sum(axis=1).clip(0, 1)
