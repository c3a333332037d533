"""MURA's layout on disk -> the usable views, and a `Finding` for the rest."""

import glob
import os
from pathlib import Path

import pandas as pd

from mura_tf.data.findings import (
    MURA_LABELS,
    SPLIT_NAMES,
    Finding,
    children,
    contradicting_folders,
    images_in,
    nothing_found,
    repeated,
    split_folders,
)
from mura_tf.data.radiograph import FORMATS
from mura_tf.data.required import spelled_twice
from mura_tf.data.table import SPLITS, as_views
from mura_tf.data.text import read_text
from mura_tf.terminal import track

MURA_LAYOUT = (
    "MURA's layout (train/XR_ELBOW/patient00005/study1_positive/image1.png, with or without "
    "train_image_paths.csv and train_labeled_studies.csv; the same for valid)"
)


_CSVS = ("image_paths", "labeled_studies")
"""What the names of a split's two CSVs end in."""


def is_mura(folder: Path) -> bool:
    """Whether a split's CSV is in `folder`, or a split's folder that holds studies as MURA's do."""
    names = [name for names in SPLIT_NAMES.values() for name in names]
    csvs = (f"{name}_{end}.csv" for name in names for end in _CSVS)
    return any((folder / csv).exists() for csv in csvs) or any(
        _holds_studies(folder / name) for name in split_folders(folder).values()
    )


def _holds_studies(folder: Path) -> bool:
    trees = ("XR_*/", "*/*/*_positive/", "*/*/*_negative/")
    return any(any(glob.iglob(tree, root_dir=folder)) for tree in trees)


def scan_mura(folder: Path, progress: bool = False) -> tuple[pd.DataFrame, list[Finding]]:
    """The usable views of a MURA folder, and what is wrong with the rest.

    Whether a listed image exists is not asked: that would be a disk access for each of 40,000.
    """
    tables, findings, read = [], [], split_folders(folder)
    for split in SPLITS:
        name = name_of_csvs(folder, split)
        images_csv, labels_csv = (folder / f"{name}_{end}.csv" for end in _CSVS)
        if images_csv.exists() and labels_csv.exists():
            images, found = _scan_csvs(images_csv, labels_csv, split)
        elif images_csv.exists() or labels_csv.exists():
            there, missing = sorted([images_csv, labels_csv], key=Path.exists, reverse=True)
            images = _parse([], _image_pattern(split))
            reason = f"there is no such file beside {there.name}; expected both or neither"
            mend = "Restore it, or move the other away to have the folders read"
            found = [Finding(str(missing), "missing", f"{reason}. {mend}")]
        else:
            images, found = _scan_tree(folder, split, read.get(split, split), progress)
        tables.append(images.assign(split=split))
        findings += found
    images = pd.concat(tables, ignore_index=True)
    for split, group in images.groupby("split"):
        findings += spelled_twice(group["study_type"], str(folder / read.get(split, split)))
    images["study_type"] = images["study_type"].str.lower()
    above = str(folder / "_").removesuffix("_")  # as os.walk has it, also of "."
    below = images["folder"] + "/" + images["view"]
    images["path"] = above + below.str.replace("/", os.sep, regex=False)
    views = as_views(images)
    findings += contradicting_folders(views)
    findings += _other_folders(folder, set(read.values()))
    return views, findings + nothing_found(folder, MURA_LAYOUT, views, findings)


def name_of_csvs(folder: Path, split: str) -> str:
    """What the CSVs of a split begin with: its name, or another of `SPLIT_NAMES`."""
    for name in SPLIT_NAMES[split]:
        if any((folder / f"{name}_{end}.csv").exists() for end in _CSVS):
            return name
    return split


def _other_folders(folder: Path, read: set[str]) -> list[Finding]:
    """Folders that hold study types beside those of the splits."""
    names = {os.path.basename(path) for path in children(folder, [], folders=True)}
    return [
        Finding(
            str(folder / name),
            "unlisted",
            f"holds study types, so left out; expected one of {', '.join(SPLITS)}. Rename it",
        )
        for name in sorted(names - read)
        if _holds_studies(folder / name)
    ]


def _walk_mura(
    folder: Path, name: str, progress: bool
) -> tuple[list[str], list[str], list[Finding]]:
    """What a split's folder holds.

    Returns:
        (studies, images, what is left out), the first two as paths relative to `folder` with
        forward slashes.
    """
    studies: list[str] = []
    images: list[str] = []
    findings: list[Finding] = []
    study_types = children(folder / name, findings, folders=True)
    marked = [path for path in study_types if os.path.basename(path).upper().startswith("XR_")]
    if marked:
        findings += [
            Finding(
                path,
                "unlisted",
                "lies beside study types such as XR_ELBOW and is none, so left out; expected a "
                "name that begins with XR_. Rename it, or move it away",
            )
            for path in study_types
            if path not in marked
        ]
    patients = [
        patient
        for study_type in marked or study_types
        for patient in children(study_type, findings, folders=True)
    ]
    for patient in track(patients, f"Reading {name}", shown=progress):
        for study in children(patient, findings, folders=True):
            studies.append("/".join([name, *Path(study).parts[-3:]]))
            views = images_in(study, findings, "a study's folder")
            images += [f"{studies[-1]}/{os.path.basename(path)}" for path in views]
    return studies, images, findings


def _scan_csvs(
    images_csv: Path, labels_csv: Path, split: str
) -> tuple[pd.DataFrame, list[Finding]]:
    example = f"MURA-v1.1/{split}/XR_ELBOW/patient00005/study1_positive/"
    images, found_in_images = _read_csv(images_csv, _image_pattern(split), f"{example}image1.png")
    labels, found_in_labels = _read_csv(labels_csv, _label_pattern(split), f"{example},1")
    images = images[~images["view"].str.startswith(".")]
    findings = found_in_images + found_in_labels
    findings += repeated(images_csv, images["folder"] + "/" + images["view"])
    findings += repeated(labels_csv, labels["folder"] + "/," + labels["label"])
    images = images.drop_duplicates(["folder", "view"])

    in_two = labels.groupby("folder")["label"].transform("nunique") > 1
    for study in labels.loc[in_two, "folder"].unique():
        reason = f"{study} is listed with label 0 and with label 1; expected one label per study"
        findings.append(Finding(str(labels_csv), "two labels", f"{reason}. Delete the wrong line"))
    labels = labels.drop_duplicates("folder").set_index("folder")["label"]

    for study in labels.index[~labels.index.isin(images["folder"])]:
        reason = f"{study} is listed here, but no image of it in {images_csv.name}; expected one"
        mend = "Add its images there, or delete the study here"
        findings.append(Finding(str(labels_csv), "no images", f"{reason} or more. {mend}"))
    images = images.assign(label=images["folder"].map(labels))
    for study in images.loc[images["label"].isna(), "folder"].unique():
        reason = f"{study} has images here, but no label in {labels_csv.name}; expected one"
        mend = "Add its line there, or delete its images here"
        findings.append(Finding(str(images_csv), "no label", f"{reason}. {mend}"))
    return images.dropna(subset=["label"]), findings


def _scan_tree(
    folder: Path, split: str, name: str, progress: bool
) -> tuple[pd.DataFrame, list[Finding]]:
    studies, paths, findings = _walk_mura(folder, name, progress)
    images = _parse(paths, _image_pattern(split, "[^/]+"))
    images["label"] = images["suffix"].map(MURA_LABELS)
    findings += [
        Finding(
            str(folder / study),
            "no images",
            f"the study has no {FORMATS} file; expected one or more. Add them, or delete it",
        )
        for study in sorted(set(studies) - set(images["folder"]))
    ]
    findings += [
        Finding(
            str(folder / study),
            "no label",
            "the folder's name gives no label; expected the end _positive or _negative, as in "
            f"study1_positive. Rename it, or write {split}_image_paths.csv and "
            f"{split}_labeled_studies.csv",
        )
        for study in images.loc[images["label"].isna(), "folder"].unique()
    ]
    return images.dropna(subset=["label"]), findings


def _read_csv(csv: Path, pattern: str, example: str) -> tuple[pd.DataFrame, list[Finding]]:
    try:
        lines = read_text(csv).splitlines()
    except ValueError as error:
        finding = Finding(str(csv), "encoding", f"{error}; expected text in UTF-8")
        return _parse([], pattern), [finding]
    table = _parse([line.replace("\\", "/") for line in lines], pattern)
    findings = []
    for number in table.index[table["folder"].isna()]:
        line = lines[number]
        if number == 0 and "/" not in line and line.strip():
            reason = f"the first line is a header, {line!r}; expected data such as {example!r}"
            mend = "Delete the first line"
            findings.append(Finding(str(csv), "header", f"{reason}. {mend}"))
        elif line.strip():
            reason = f"line {number + 1} is {line!r}; expected one such as {example!r}"
            findings.append(Finding(str(csv), "malformed line", f"{reason}. Correct the line"))
    return table.dropna(subset=["folder"]), findings


def _parse(lines: list[str], pattern: str) -> pd.DataFrame:
    return pd.Series(lines, dtype=str).str.strip().str.extract(pattern)


def _study_pattern(split: str, name: str) -> str:
    """Of a study's folder, from the split onward: what precedes it is the publisher's root."""
    splits = "|".join(SPLIT_NAMES[split])
    return (
        rf"(?:^|/)(?P<folder>(?i:{splits})/(?:(?i:XR_))?(?P<study_type>{name})/(?P<patient>{name})/"
        rf"(?P<study>{name}?)(?:_(?P<suffix>positive|negative))?)"
    )


def _image_pattern(split: str, name: str = "[^/,]+") -> str:
    """Names have no comma in a CSV."""
    return _study_pattern(split, name) + rf"/(?P<view>{name})$"


def _label_pattern(split: str) -> str:
    return _study_pattern(split, "[^/,]+") + r"/?,\s*(?P<label>[01])$"
