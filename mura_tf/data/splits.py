"""Patients -> the parts of a split, each study type and label in proportion."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mura_tf.data.table import SPLITS, label_names
from mura_tf.data.tasks import class_of

FRACTIONS = (0.70, 0.15, 0.15)
"""Of the images in train, valid and test, where a data set brings no split."""
SPLIT_BY = ("patient", "image")
"""By image is what some documents did: views of one study are on both sides then."""


def deal_patients(views: pd.DataFrame, fractions: Sequence[float], seed: int) -> pd.Series:
    """Deals patients into parts of the given sizes, stratified by study type and label.

    Patients are shuffled, then grouped by the set of (study type, label) they have. Each in turn
    goes to the part that is furthest behind its share of the views dealt so far. So every group,
    however small, follows the fractions to within about a patient.

    Args:
        views: `study_type`, `patient`, `label`; the order of the rows does not matter.
        fractions: share of the views per part.
        seed: of the shuffle.

    Returns:
        int (n_patients,), the part of each patient; the index is the patient.
    """
    pairs = views["study_type"].astype(str) + "=" + label_names(views["label"])
    pairs = pd.DataFrame({"patient": views["patient"], "pair": pairs}).drop_duplicates()
    patients = pairs.sort_values(["patient", "pair"]).groupby("patient")["pair"].agg("|".join)
    patients = patients.sample(frac=1, random_state=seed).sort_values(kind="stable")
    n_views = views["patient"].value_counts()[patients.index]
    due, dealt = np.zeros(len(fractions)), np.zeros(len(fractions))
    parts = []
    for n in n_views:
        due += n * np.asarray(fractions)
        part = int(np.argmax(due - dealt))
        dealt[part] += n
        parts.append(part)
    return pd.Series(parts, index=patients.index, dtype=int)


def patient_split(
    views: pd.DataFrame, fraction: float = 0.1, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Holds out a part of the patients, over all study types together.

    A patient goes to one side with everything, since patients recur across study types. The two
    sides have each study type and label in proportion, see `deal_patients`. (scikit-learn's
    StratifiedGroupKFold offers only fractions of 1/k, and one stratum per row, not per patient.)

    Args:
        views: views table, of one split or several; the `split` column stays as it is.
        fraction: share of the views to hold out, in (0, 1).
        seed: of the shuffle; the order of the rows does not matter.

    Returns:
        (rest, held_out), both in the order of `views` and with no patient in common.

    Raises:
        ValueError: a fraction outside (0, 1), or one that leaves a side without patients.

    Examples:
        >>> views = pd.DataFrame({"study_type": "elbow", "patient": list("aabbccdd"), "label": 0})
        >>> rest, held_out = mt.patient_split(views, fraction=0.25)
        >>> rest["patient"].nunique(), held_out["patient"].nunique()
        (3, 1)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, exclusive. Received: {fraction!r}.")
    held = deal_views(views, (1 - fraction, fraction), "patient", seed) == 1
    if held.all() or not held.any():
        raise ValueError(
            f"a fraction of {fraction} of {views['patient'].nunique()} patients leaves one side "
            "empty; expected a patient or more on both. Use a fraction nearer 0.5 or more patients."
        )
    return views[~held].reset_index(drop=True), views[held].reset_index(drop=True)


def with_validation(views: pd.DataFrame, split: str, seed: int = 0) -> pd.DataFrame:
    """Makes a part of the training views the validation split, each study type and label of it.

    Args:
        views: views table of a train split, and of no valid split.
        split: by what, of `SPLIT_BY`, and which share of the training views: "patient:0.15".
        seed: of the shuffle.

    Returns:
        The views with another `split`, in their order.

    Raises:
        ValueError: a split that is not so written, a valid split that is there already, no train
            split, or too few patients (or images) of a study type and label.
    """
    by, fraction = parse_split(split)
    there = set(views["split"])
    if "valid" in there or "train" not in there:
        raise ValueError(
            f"split {split!r} makes a validation split of training views. Received a data set with "
            f"the splits {', '.join(sorted(there))}. Leave it out."
        )
    training = views[views["split"] == "train"]
    anew = dealt(training, {"train": 1 - fraction, "valid": fraction}, by, seed)
    return views.assign(split=anew.reindex(views.index).fillna(views["split"]))


def parse_split(split: str) -> tuple[str, float]:
    """By what, and which share of the training views becomes the validation split.

    Raises:
        ValueError: a split that is not so written.

    Examples:
        >>> parse_split("patient:0.15")
        ('patient', 0.15)
    """
    by, _, share = split.partition(":")
    try:
        fraction = float(share)
    except ValueError:
        fraction = 0.0
    if by not in SPLIT_BY or not 0 < fraction < 1:
        raise ValueError(
            f"split must be one of {', '.join(SPLIT_BY)}, a colon, and a share above 0 and below "
            f"1, such as patient:0.15. Received: {split!r}."
        )
    return by, fraction


def split_anew(
    views: pd.DataFrame, fractions: Sequence[float], by: str = "patient", seed: int = 0
) -> pd.DataFrame:
    """Deals all views to train, valid and test, each study type and label to all three.

    Args:
        views: views table; the split it has is forgotten.
        fractions: of the views in train, valid and test, with sum 1.
        by: of `SPLIT_BY`.
        seed: of the shuffle.

    Returns:
        The views with another `split`, in their order.

    Raises:
        ValueError: too few patients (or images) of a study type and label, or an unknown `by`.
    """
    parts = dict(zip(SPLITS, fractions, strict=True))
    return views.assign(split=dealt(views, parts, by, seed))


def split_the_rest(
    views: pd.DataFrame, fractions: Sequence[float], by: str = "patient"
) -> pd.DataFrame:
    """Keeps the views that are reported, as test, and deals all others to train and valid.

    Args:
        views: views table; reported are its test views, or its valid views where it has no others.
        fractions: of the other views in train and valid, with sum 1.
        by: of `SPLIT_BY`.

    Returns:
        The views with another `split`, in their order.

    Raises:
        ValueError: nothing to report or to train on; too few patients (or images) of a study type
            and label, or an unknown `by`.
    """
    reported = views.split == ("test" if (views.split == "test").any() else "valid")
    if reported.all() or not reported.any():
        raise ValueError(
            "the data set needs views to train on and a valid or test split to report. Received: "
            f"{', '.join(sorted(set(views.split))) or 'no view'}."
        )
    parts = dict(zip(SPLITS[:2], fractions, strict=True))
    split = dealt(views[~reported], parts, by)
    return views.assign(split=split.reindex(views.index, fill_value="test"))


def dealt(views: pd.DataFrame, parts: Mapping[str, float], by: str, seed: int = 0) -> pd.Series:
    """The name of each view's part, each study type and label in all, see `deal_views`.

    Args:
        views: views table of what is split.
        parts: name of a part -> its share of the views.
        by: of `SPLIT_BY`.
        seed: of the shuffle.

    Raises:
        ValueError: too few patients (or images) of a study type and label, or an unknown `by`.
    """
    _require_classes(views, by, parts=len(parts))
    part_of = deal_views(views, list(parts.values()), by, seed).map(dict(enumerate(parts)))
    _require_class_parts(views, part_of, by)
    return part_of


def _require_class_parts(views: pd.DataFrame, parts: pd.Series, by: str) -> None:
    """ValueError where a part, of `deal_views`, lacks a study type's normal or abnormal views."""
    found = pd.crosstab(class_of(views, "type_and_abnormality"), parts)
    if len(lacking := found.index[(found == 0).any(axis=1)]):
        named = sorted(found, key=[*SPLITS, "holdout"].index)
        raise ValueError(
            f"a split needs {by}s of each class in {', '.join(named)}. Received: too few of "
            f"{', '.join(lacking)}, which share them with other classes. Leave these study types "
            "out of the data set."
        )


def deal_views(views: pd.DataFrame, fractions: Sequence[float], by: str, seed: int) -> pd.Series:
    """The part of each view, int (n_views,), see `deal_patients`; `by` is of `SPLIT_BY`.

    A part that lacks a class, a study type's normal or abnormal views, then gets the class's
    smallest patient that no class of its own part loses its last views with; the rarest class
    first.
    """
    if by == "image":
        views = views.assign(patient=views.path)
    dealt = deal_patients(views, fractions, seed)
    counts = pd.crosstab(views.patient, class_of(views, "type_and_abnormality"))
    has = counts.loc[counts.sum(axis=1).sort_values(kind="stable").index] > 0  # smallest first
    for name in has.sum().sort_values(kind="stable").index:
        for part in range(len(fractions)):
            owners = has.index[has[name]]
            if (dealt[owners] == part).any():
                continue
            for patient in owners:
                left = has[dealt[has.index] == dealt[patient]].drop(index=patient)
                if left.any()[has.loc[patient]].all():
                    dealt[patient] = part
                    break
    return views.patient.map(dealt)


def _require_classes(views: pd.DataFrame, by: str, parts: int) -> None:
    """Raises a ValueError if a study type's normal or abnormal views are too few to be split.

    Args:
        views: views table of what is split.
        by: of `SPLIT_BY`, or that is a ValueError, too.
        parts: into how many.
    """
    if by not in SPLIT_BY:
        raise ValueError(f"split_by must be one of {', '.join(SPLIT_BY)}. Received: {by!r}.")
    counted = views.path if by == "image" else views.patient
    counts = counted.groupby(class_of(views, "type_and_abnormality")).nunique()
    few = counts[counts < parts]
    if len(few):
        raise ValueError(
            f"a stratified split into {parts} parts needs {parts} {by}s of each class. Received: "
            + ", ".join(f"{name} with {count}" for name, count in few.items())
            + ". Leave these study types out of the data set."
        )
