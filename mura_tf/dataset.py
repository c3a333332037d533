"""A data set on disk -> the views table; its patient-disjoint split, class weights and Table I."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mura_tf.layouts import (
    FRACATLAS_FRACTIONS,
    HARMLESS,
    SPLITS,
    STUDY_KEY,
    VIEW_COLUMNS,
    Finding,
    deal_patients,
    find_dataset,
    is_fracatlas,
    is_mura,
    scan_fracatlas,
    scan_mura,
)
from mura_tf.published import published_table
from mura_tf.recipe import SPLIT_BY
from mura_tf.tasks import class_of


def load_views(root: str | os.PathLike, seed: int = 0) -> pd.DataFrame:
    """Loads a data set of either layout, recognised by what the folder holds.

    Args:
        root: a folder for `load_mura` or `load_fracatlas`, or the folder above it; or a CSV with
            the columns of a views table, one row per radiograph.
        seed: of FracAtlas' split; MURA brings its own.

    Returns:
        The views table, see `load_mura`.

    Raises:
        FileNotFoundError: neither layout is there; the message describes both.
        ValueError: several data sets are there, or what the loader itself raises.
    """
    if Path(root).suffix == ".csv":
        return read_views(root)
    folder = find_dataset(root)
    return load_fracatlas(folder, seed) if is_fracatlas(folder) else load_mura(folder)


def load_mura(root: str | os.PathLike) -> pd.DataFrame:
    """Loads MURA-v1.1, or data laid out like it, as a views table.

    A split whose two CSVs (`train_image_paths.csv`, `train_labeled_studies.csv`) are there is read
    from them, from the split in each path onward, so the folder may have any name. Without them the
    tree `train/XR_ELBOW/patient00005/study1_positive/image1.png` is walked. Any `XR_*` study type
    is accepted, and a test split. Files whose name begins with a dot are no radiographs. Whether
    each listed image exists and can be read is for `check_views` to say.

    Args:
        root: the MURA folder or the one above it.

    Returns:
        One row per radiograph: `split` (train, valid or test), `study_type` (elbow), `patient`
        (patient00005), `study` (study1), `view` (image1.png), `label` (int, 1 abnormal, 0 normal)
        and `path`; in the order of these columns, image2 before image10.

    Raises:
        FileNotFoundError: the folder, or one CSV of a pair, is missing.
        ValueError: a CSV has a header or a malformed line; a study is in one CSV of a pair only,
            listed twice, without images or in two labels; or nothing was found.
    """
    folder = find_dataset(root, [is_mura])
    return _accept(folder, *scan_mura(folder))


def load_fracatlas(
    root: str | os.PathLike, seed: int = 0, fractions: Sequence[float] = FRACATLAS_FRACTIONS
) -> pd.DataFrame:
    """Loads FracAtlas (Abedeen et al., Scientific Data 10, 2023) as a views table.

    FracAtlas has no patients, studies or split. Every image is its own study; byte-identical
    images are one patient, named after the first of them; and patients are dealt to train, valid
    and test at random within each study type and label. The label is `fractured` of `dataset.csv`;
    the study type is hand, leg, hip or shoulder, or mixed where several are marked.

    Args:
        root: the FracAtlas folder or the one above it; a partial copy will do if its `dataset.csv`
            lists what is there.
        seed: of the split.
        fractions: of the images in train, valid and test; positive, with sum 1.

    Returns:
        The views table, see `load_mura`.

    Raises:
        FileNotFoundError: the folder, or images that `dataset.csv` lists, are missing.
        ValueError: bad fractions, a bad `dataset.csv`, or an image in both folders.

    Warns:
        UserWarning: images lie in the folder of the other label, or are not listed.
    """
    fractions = tuple(fractions)
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            "fractions must be three positive numbers with sum 1, of train, valid and test. "
            f"Received: {fractions!r}."
        )
    folder = find_dataset(root, [is_fracatlas])
    return _accept(folder, *scan_fracatlas(folder, seed, fractions))


def read_views(path: str | os.PathLike) -> pd.DataFrame:
    """Reads a views table from a CSV; keys stay text, a patient "007" is not the number 7.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no CSV, lacks a column of a views table, or has an unknown split or
            label.
    """
    try:
        views = pd.read_csv(path, dtype=str, keep_default_na=False)[VIEW_COLUMNS]
        for column, known in (("label", ("0", "1")), ("split", SPLITS)):
            if unknown := sorted(set(views[column]) - set(known)):
                raise ValueError(f"{column} {unknown[0]!r}")
    except (ValueError, KeyError) as error:  # pandas' parser errors are ValueErrors
        raise ValueError(
            f"{path} must be a views table, a CSV with the columns {', '.join(VIEW_COLUMNS)}, "
            f"splits of {', '.join(SPLITS)} and labels 0 and 1. Received: {error}."
        ) from None
    return views.astype({"label": int})


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

    >>> views = pd.DataFrame({"study_type": "elbow", "patient": list("aabbccdd"), "label": 0})
    >>> rest, held_out = patient_split(views, fraction=0.25)
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
    require_classes(views, by, parts=3)
    split = deal_views(views, fractions, by, seed).map(dict(enumerate(SPLITS)))
    classes = class_of(views, "type_and_abnormality")
    found = pd.crosstab(classes, split).reindex(columns=SPLITS, fill_value=0)
    if len(lacking := found.index[(found == 0).any(axis=1)]):
        raise ValueError(
            f"a split needs {by}s of each class in {', '.join(SPLITS)}. Received: too few of "
            f"{', '.join(lacking)}, which share them with other classes. Leave these study types "
            "out of the data set."
        )
    return views.assign(split=split)


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


def require_classes(views: pd.DataFrame, by: str, parts: int) -> None:
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


def class_weights(views: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """The weights of the MURA loss, per study type.

    With A abnormal and N normal views of a type, w1 = N / (A + N) weighs the abnormal ones and
    w0 = A / (A + N) the normal ones (Rajpurkar et al., 2018), so that both classes weigh the same
    in total. The only class of a one-class type weighs 0; `check_views` reports such a type.

    Args:
        views: views table of what is trained on.

    Returns:
        study type -> (w0, w1), each in [0, 1], with sum 1.

    >>> views = pd.DataFrame({"study_type": ["elbow"] * 4, "label": [0, 0, 0, 1]})
    >>> class_weights(views)
    {'elbow': (0.25, 0.75)}
    """
    abnormal = views.groupby("study_type")["label"].mean()
    return {study_type: (float(share), float(1 - share)) for study_type, share in abnormal.items()}


def summarize(views: pd.DataFrame) -> pd.DataFrame:
    """Counts studies and images in the layout of the paper's Table I.

    Args:
        views: views table.

    Returns:
        int; rows (study type, "Normal" or "Abnormal"), ("All types", ...) and ("Total", ""),
        columns (split, "Studies" or "Images"). `attrs["published"]` says whether the counts of
        train and valid are those of Table I; it is None where the study types are not MURA's
        seven or one of these splits is lacking. `attrs["differences"]` has a sentence per cell
        that deviates.
    """
    studies = views.drop_duplicates([*STUDY_KEY, "label"])
    rows = pd.concat([studies.assign(count="Studies"), views.assign(count="Images")])
    rows["label"] = rows["label"].map({0: "Normal", 1: "Abnormal"})
    totals = rows.assign(study_type="Total", label="")
    rows = pd.concat([rows, rows.assign(study_type="All types"), totals])

    study_types = sorted(set(views["study_type"]))
    index = pd.MultiIndex.from_tuples(
        [
            *((name, label) for name in [*study_types, "All types"] for label in _LABELS),
            ("Total", ""),
        ],
        names=["study_type", "label"],
    )
    splits = [split for split in SPLITS if split in set(views["split"])]
    columns = pd.MultiIndex.from_product([splits, _COUNTS], names=["split", "count"])
    table = pd.crosstab([rows["study_type"], rows["label"]], [rows["split"], rows["count"]])
    table = table.reindex(index=index, columns=columns, fill_value=0)

    published = published_table("table_i")
    published_types = set(published["study_type"]) - {"all"}
    comparable = set(study_types) == published_types and {"train", "valid"} <= set(splits)
    differences = _differences(table, published) if comparable else []
    table.attrs["published"] = not differences if comparable else None
    table.attrs["differences"] = differences
    return table


_LABELS = ["Normal", "Abnormal"]
_COUNTS = ["Studies", "Images"]


def _differences(table: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    sentences = []
    for cell in published.itertuples():
        row = ("Total", "")
        if not pd.isna(cell.label):
            name = "All types" if cell.study_type == "all" else cell.study_type
            row = (name, _LABELS[int(cell.label)])
        for count, expected in (("Studies", cell.studies), ("Images", cell.images)):
            found = table.loc[row, (cell.split, count)]
            if found != expected:
                sentences.append(
                    f"{cell.split}, {' '.join(row).strip()}: {found} {count.lower()}, "
                    f"Table I has {expected}."
                )
    return sentences


def _accept(folder: Path, views: pd.DataFrame, findings: list[Finding]) -> pd.DataFrame:
    """Returns `views`; raises on findings, or warns of the harmless ones."""
    fatal = [one for one in findings if one.problem not in HARMLESS]
    if fatal:
        missing = all(one.problem == "missing" for one in fatal)
        raise (FileNotFoundError if missing else ValueError)(
            "\n".join(
                [
                    f"{len(fatal)} problem{'s' if len(fatal) > 1 else ''} in {folder}:",
                    *_sentences(fatal),
                    f"`mura-tf check {folder}` lists everything that is wrong.",
                ]
            )
        )
    for sentence in _sentences(findings):
        warnings.warn(sentence, stacklevel=3)
    return views


def _sentences(findings: list[Finding]) -> list[str]:
    """One per kind of problem: how many, and the first three."""
    sentences = []
    for problem in dict.fromkeys(one.problem for one in findings):
        group = [one for one in findings if one.problem == problem]
        shown = "; ".join(f"{one.path}: {one.reason}" for one in group[:3])
        more = f"; and {len(group) - 3} more" if len(group) > 3 else ""
        sentences.append(f"{problem} ({len(group)}): {shown}{more}.")
    return sentences
