"""MURA's layout on disk -> the usable views, and a `Finding` for the rest."""

import glob
import os
from pathlib import Path

import pandas as pd

from mura_tf.data.findings import (
    MURA_LABELS,
    Finding,
    children,
    contradicting_folders,
    is_image,
    nothing_found,
    repeated,
    studies_in_two_labels,
)
from mura_tf.data.table import SPLITS, as_views
from mura_tf.published import OVERALL
from mura_tf.terminal import track

MURA_LAYOUT = (
    "MURA's layout (train/XR_ELBOW/patient00005/study1_positive/image1.png, with or without "
    "train_image_paths.csv and train_labeled_studies.csv; the same for valid)"
)


def is_mura(folder: Path) -> bool:
    """Whether a split's CSV or an `XR_*` folder of a split is in `folder`."""
    patterns = ("{}_image_paths.csv", "{}_labeled_studies.csv", "{}/XR_*/")
    return any(
        glob.glob(pattern.format(split), root_dir=folder)
        for split in SPLITS
        for pattern in patterns
    )


def scan_mura(folder: Path, progress: bool = False) -> tuple[pd.DataFrame, list[Finding]]:
    """The usable views of a MURA folder, and what is wrong with the rest.

    Whether a listed image exists is not asked: that would be a disk access for each of 40,000.
    """
    tables, findings = [], []
    for split in SPLITS:
        images_csv = folder / f"{split}_image_paths.csv"
        labels_csv = folder / f"{split}_labeled_studies.csv"
        if images_csv.exists() and labels_csv.exists():
            images, found = _scan_csvs(images_csv, labels_csv, split)
        elif images_csv.exists() or labels_csv.exists():
            there, missing = sorted([images_csv, labels_csv], key=Path.exists, reverse=True)
            images = _parse([], _image_pattern(split))
            reason = f"there is no such file beside {there.name}; expected both or neither"
            mend = "Restore it, or move the other away to have the folders read"
            found = [Finding(str(missing), "missing", f"{reason}. {mend}")]
        else:
            images, found = _scan_tree(folder, split, progress)
        tables.append(images.assign(split=split))
        findings += found
    images = pd.concat(tables, ignore_index=True)
    images["study_type"] = images["study_type"].str.lower()
    images["path"] = f"{folder}{os.sep}" + images["folder"] + "/" + images["view"]
    views = as_views(images)
    findings += contradicting_folders(views) + studies_in_two_labels(views)
    if OVERALL in set(views["study_type"]):
        reason = f"a study type is named {OVERALL!r}, as the row of all types; expected another"
        findings.append(Finding(str(folder), "reserved name", f"{reason} name. Rename XR_OVERALL"))
    return views, findings + nothing_found(folder, MURA_LAYOUT, views, findings)


def _walk_mura(folder: Path, split: str, progress: bool) -> tuple[list[str], list[str]]:
    """What a split's folders hold.

    Returns:
        (studies, images), paths relative to `folder` with forward slashes.
    """
    studies, images = [], []
    patients = [
        patient
        for study_type in children(folder / split, folders=True)
        if os.path.basename(study_type).startswith("XR_")
        for patient in children(study_type, folders=True)
    ]
    for patient in track(patients, f"Reading {split}", shown=progress):
        for study in children(patient, folders=True):
            studies.append("/".join([split, *Path(study).parts[-3:]]))
            views = map(os.path.basename, filter(is_image, children(study)))
            images += [f"{studies[-1]}/{view}" for view in views]
    return studies, images


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


def _scan_tree(folder: Path, split: str, progress: bool) -> tuple[pd.DataFrame, list[Finding]]:
    studies, paths = _walk_mura(folder, split, progress)
    images = _parse(paths, _image_pattern(split, "[^/]+"))
    images["label"] = images["suffix"].map(MURA_LABELS)
    findings = [
        Finding(
            str(folder / study),
            "no images",
            "the study has no PNG or JPEG file; expected one or more. Add them, or delete it",
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
    lines = csv.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    table = _parse(lines, pattern)
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
    return (
        rf"(?:^|/)(?P<folder>{split}/XR_(?P<study_type>{name})/(?P<patient>{name})/"
        rf"(?P<study>{name}?)(?:_(?P<suffix>positive|negative))?)"
    )


def _image_pattern(split: str, name: str = "[^/,]+") -> str:
    """Names have no comma in a CSV."""
    return _study_pattern(split, name) + rf"/(?P<view>{name})$"


def _label_pattern(split: str) -> str:
    return _study_pattern(split, "[^/,]+") + r"/?,\s*(?P<label>[01])$"
