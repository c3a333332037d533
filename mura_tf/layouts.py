"""MURA's and FracAtlas' layouts on disk -> the usable views, and a finding for the rest.

The scanners are lenient: they return what can be used beside a `Finding` for whatever is wrong.
`mura_tf.dataset` raises or warns on findings, `mura_tf.check` lists them.
"""

import glob
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from mura_tf.cores import usable_cores

SPLITS = ("train", "valid", "test")
STUDY_KEY = ["split", "study_type", "patient", "study"]
VIEW_KEY = [*STUDY_KEY, "view"]
VIEW_COLUMNS = [*VIEW_KEY, "label", "path"]
OVERALL = "overall"
"""All study types together, where a study type stands otherwise; so none may be called that."""
FRACATLAS_FRACTIONS = (0.70, 0.15, 0.15)
HARMLESS = ("contradicting folder", "unlisted")  # problems that leave every view usable

_MURA_LABELS = {"positive": 1, "negative": 0}  # the end of a study's folder
_FRACATLAS_LABELS = {"Fractured": 1, "Non_fractured": 0}
_FRACATLAS_TYPES = ["hand", "leg", "hip", "shoulder"]


class Finding(NamedTuple):
    """One thing wrong with a data set: where, of which kind, and found against expected."""

    path: str
    problem: str
    reason: str


def is_mura(folder: Path) -> bool:
    """Whether a split's CSV or an `XR_*` folder of a split is in `folder`."""
    patterns = ("{}_image_paths.csv", "{}_labeled_studies.csv", "{}/XR_*/")
    return any(
        glob.glob(pattern.format(split), root_dir=folder)
        for split in SPLITS
        for pattern in patterns
    )


def is_fracatlas(folder: Path) -> bool:
    """Whether `dataset.csv` and an image folder of FracAtlas are in `folder`."""
    return os.path.isfile(folder / "dataset.csv") and any(
        os.path.isdir(folder / "images" / name) for name in _FRACATLAS_LABELS
    )


_LAYOUTS = {
    is_mura: "MURA's layout (train/XR_ELBOW/patient00005/study1_positive/image1.png, with or "
    "without train_image_paths.csv and train_labeled_studies.csv; the same for valid)",
    is_fracatlas: "FracAtlas' layout (dataset.csv, images/Fractured, images/Non_fractured)",
}


def unsplit_key(views: pd.DataFrame) -> list[str]:
    """What names a view where its split may have been dealt anew: `VIEW_KEY` without it, if unique.

    Args:
        views: a row per view, or several, as boxes have.
    """
    key = [name for name in VIEW_KEY if name != "split"]
    if not set(VIEW_KEY) <= set(views) or not views.drop_duplicates(VIEW_KEY).duplicated(key).any():
        return key
    return VIEW_KEY


def find_dataset(
    root: str | os.PathLike, layouts: Iterable[Callable[[Path], bool]] = tuple(_LAYOUTS)
) -> Path:
    """The folder of the data set: `root`, or the one directly below it.

    Args:
        root: where to look.
        layouts: which to accept, `is_mura`, `is_fracatlas` or both.

    Raises:
        FileNotFoundError: there is none; the message describes the layouts.
        ValueError: root is a file, or there are several below it.
    """
    root = Path(root)
    expected = "; or ".join(_LAYOUTS[layout] for layout in layouts)
    if not root.exists():
        raise FileNotFoundError(
            f"there is no folder '{root}'. Expected {expected}. Give the path of the unpacked data "
            "set."
        )
    if not root.is_dir():
        raise ValueError(f"'{root}' is a file. Expected a folder with {expected}.")
    if any(layout(root) for layout in layouts):
        return root
    children = [child for child in sorted(root.iterdir()) if child.is_dir()]
    below = [child for child in children if any(layout(child) for layout in layouts)]
    if len(below) > 1:
        raise ValueError(
            f"'{root}' holds {len(below)} data sets: {_few([child.name for child in below])}. "
            "Expected one. Give the path of the one that is meant."
        )
    if not below:
        raise FileNotFoundError(
            f"no data set in '{root}' or directly below it. Expected {expected}. Received a folder "
            f"with: {_few(sorted(os.listdir(root))) or 'nothing'}. Give the path of the unpacked "
            "data set."
        )
    return below[0]


def scan(folder: Path) -> tuple[pd.DataFrame, list[Finding]]:
    """`scan_fracatlas` with its default split, or `scan_mura`, by what `folder` holds."""
    return scan_fracatlas(folder) if is_fracatlas(folder) else scan_mura(folder)


def scan_mura(folder: Path) -> tuple[pd.DataFrame, list[Finding]]:
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
            images, found = _scan_tree(folder, split)
        tables.append(images.assign(split=split))
        findings += found
    images = pd.concat(tables, ignore_index=True)
    images["study_type"] = images["study_type"].str.lower()
    images["path"] = f"{folder}{os.sep}" + images["folder"] + "/" + images["view"]
    views = _as_views(images)
    findings += contradicting_folders(views) + studies_in_two_labels(views)
    if OVERALL in set(views["study_type"]):
        reason = f"a study type is named {OVERALL!r}, as the row of all types; expected another"
        findings.append(Finding(str(folder), "reserved name", f"{reason} name. Rename XR_OVERALL"))
    return views, findings + _nothing_found(folder, views, findings)


def scan_fracatlas(
    folder: Path, seed: int = 0, fractions: Sequence[float] = FRACATLAS_FRACTIONS
) -> tuple[pd.DataFrame, list[Finding]]:
    """The usable views of a FracAtlas folder with their split, and what is wrong with the rest."""
    table, findings = _read_fracatlas_csv(folder / "dataset.csv")
    paths = {}
    for name in _FRACATLAS_LABELS:
        for path in filter(_is_image, _children(folder / "images" / name)):
            view = os.path.basename(path)
            if view in paths:
                findings.append(
                    Finding(
                        path,
                        "two labels",
                        f"also lies in {os.path.dirname(paths[view])}; expected one file per "
                        "image. Delete the one in the wrong folder",
                    )
                )
            paths[view] = path
    findings += [
        Finding(
            str(folder / "images" / view),
            "missing",
            "listed in dataset.csv but in neither image folder; expected a file per row. Copy the "
            "image there, or delete the row",
        )
        for view in table.loc[~table["view"].isin(paths.keys()), "view"]
    ]
    findings += [
        Finding(
            paths[view],
            "unlisted",
            "not listed in dataset.csv, so left out for want of a label; expected a row per file. "
            "Add the row, or move the file away",
        )
        for view in sorted(set(paths) - set(table["view"]))
    ]
    table = table[table["view"].isin(paths.keys())].sort_values("view")
    table["path"] = [paths[view] for view in table["view"]]
    table["study"] = [Path(view).stem for view in table["view"]]
    first = {path: group[0] for group in identical_files(table["path"]) for path in group}
    table["patient"] = [Path(first.get(path, path)).stem for path in table["path"]]
    split_of = dict(enumerate(SPLITS))
    table["split"] = table["patient"].map(deal_patients(table, fractions, seed)).map(split_of)
    views = _as_views(table)
    findings += contradicting_folders(views)
    return views, findings + _nothing_found(folder, views, findings)


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
    pairs = views["study_type"] + "=" + views["label"].astype(str)
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


def contradicting_folders(views: pd.DataFrame) -> list[Finding]:
    """Views whose label contradicts the folder they lie in: study1_negative, or Non_fractured."""
    folders = [os.path.basename(os.path.dirname(path)) for path in views["path"]]
    label_of = {
        folder: _FRACATLAS_LABELS.get(folder, _MURA_LABELS.get(folder.rpartition("_")[2]))
        for folder in set(folders)
    }
    findings = []
    for folder, path, label in zip(folders, views["path"], views["label"], strict=True):
        if label_of[folder] in (None, label):
            continue
        if folder in _FRACATLAS_LABELS:
            problem = "contradicting folder"
            mend = "dataset.csv's label is used; move the file, or correct the row"
        else:
            problem = "two labels"
            mend = "Correct the line of the labels CSV or the name of the folder"
        reason = f"label {label} contradicts its folder {folder}; expected both to agree"
        findings.append(Finding(path, problem, f"{reason}. {mend}"))
    return findings


def studies_in_two_labels(views: pd.DataFrame) -> list[Finding]:
    """Studies with views of both labels, such as study1_positive beside study1_negative."""
    labels = views.groupby(STUDY_KEY, sort=False)["label"].transform("nunique")
    firsts = views[labels > 1].drop_duplicates([*STUDY_KEY, "label"])
    return [
        Finding(
            os.path.dirname(one.path),
            "two labels",
            f"{one.study} of {one.patient} has label {one.label} here and label {other.label} in "
            f"{os.path.dirname(other.path)}; expected one label per study. Remove one, or give it "
            "a study number of its own",
        )
        for _, pair in firsts.groupby(STUDY_KEY, sort=False)
        for one, other in [pair.itertuples()]
    ]


def identical_files(paths: Iterable[str]) -> list[list[str]]:
    """Groups of two or more byte-identical files, each in the order given.

    Only files that share their size are read. Empty, missing and unreadable ones are left out.
    """
    by_size = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_size:
            by_size.setdefault(status.st_size, []).append(path)
    candidates = [path for group in by_size.values() if len(group) > 1 for path in group]
    by_digest = {}
    with ThreadPoolExecutor(usable_cores()) as pool:
        for path, digest in zip(candidates, pool.map(_digest, candidates), strict=True):
            by_digest.setdefault(digest, []).append(path)
    by_digest.pop(None, None)
    return [group for group in by_digest.values() if len(group) > 1]


def _walk_mura(folder: Path, split: str) -> tuple[list[str], list[str]]:
    """What a split's folders hold.

    Returns:
        (studies, images), paths relative to `folder` with forward slashes.
    """
    studies, images = [], []
    for study_type in _children(folder / split, folders=True):
        if not os.path.basename(study_type).startswith("XR_"):
            continue
        for patient in _children(study_type, folders=True):
            for study in _children(patient, folders=True):
                studies.append("/".join([split, *Path(study).parts[-3:]]))
                views = map(os.path.basename, filter(_is_image, _children(study)))
                images += [f"{studies[-1]}/{view}" for view in views]
    return studies, images


def _nothing_found(folder: Path, views: pd.DataFrame, findings: list[Finding]) -> list[Finding]:
    """A finding of its own, unless others say already why there is no view."""
    if len(views) or any(one.problem not in HARMLESS for one in findings):
        return []
    layout = _LAYOUTS[is_fracatlas if is_fracatlas(folder) else is_mura]
    reason = f"no radiograph found; expected {layout}. Unpack the data set again"
    return [Finding(str(folder), "empty", reason)]


def _scan_csvs(
    images_csv: Path, labels_csv: Path, split: str
) -> tuple[pd.DataFrame, list[Finding]]:
    example = f"MURA-v1.1/{split}/XR_ELBOW/patient00005/study1_positive/"
    images, found_in_images = _read_csv(images_csv, _image_pattern(split), f"{example}image1.png")
    labels, found_in_labels = _read_csv(labels_csv, _label_pattern(split), f"{example},1")
    images = images[~images["view"].str.startswith(".")]
    findings = found_in_images + found_in_labels
    findings += _repeated(images_csv, images["folder"] + "/" + images["view"])
    findings += _repeated(labels_csv, labels["folder"] + "/," + labels["label"])
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


def _scan_tree(folder: Path, split: str) -> tuple[pd.DataFrame, list[Finding]]:
    studies, paths = _walk_mura(folder, split)
    images = _parse(paths, _image_pattern(split, "[^/]+"))
    images["label"] = images["suffix"].map(_MURA_LABELS)
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


def _repeated(csv: Path, entries: pd.Series) -> list[Finding]:
    return [
        Finding(
            str(csv),
            "listed twice",
            f"{entry} is on more than one line; expected one. Delete the repetition",
        )
        for entry in entries[entries.duplicated()].unique()
    ]


def _read_fracatlas_csv(csv: Path) -> tuple[pd.DataFrame, list[Finding]]:
    """`view`, `study_type` and `label` of each row."""
    flags = [*_FRACATLAS_TYPES, "mixed", "fractured"]
    empty = pd.DataFrame({"view": [], "study_type": [], "label": []}, dtype=str)
    try:
        table = pd.read_csv(csv, dtype=str)
    except ValueError as error:  # pandas' parser and decoding errors are ValueErrors
        reason = f"not readable as CSV ({error}); expected FracAtlas' dataset.csv. Restore it"
        return empty, [Finding(str(csv), "malformed line", reason)]
    lacking = [column for column in ["image_id", *flags] if column not in table]
    if lacking:
        reason = f"no column {_few(lacking)}; expected image_id, {', '.join(flags)}"
        mend = "Restore FracAtlas' own dataset.csv"
        return empty, [Finding(str(csv), "header", f"{reason}. {mend}")]
    good = table[flags].isin(["0", "1"]).all(axis=1) & table["image_id"].notna()
    findings = []
    for number in table.index[~good]:
        row = ", ".join(f"{name}={table[name][number]}" for name in ["image_id", *flags])
        reason = f"line {number + 2} has {row}; expected a file name and flags of 0 or 1"
        findings.append(Finding(str(csv), "malformed line", f"{reason}. Correct the line"))
    findings += _repeated(csv, table.loc[good, "image_id"])
    table = table[good].drop_duplicates("image_id")
    parts = table[_FRACATLAS_TYPES] == "1"
    single = (parts.sum(axis=1) == 1) & (table["mixed"] == "0")
    part = np.array(_FRACATLAS_TYPES)[parts.to_numpy().argmax(axis=1)]
    study_type = np.where(single, part, "mixed")
    labels = table["fractured"].astype(int)
    return table.assign(view=table["image_id"], study_type=study_type, label=labels), findings


def _as_views(table: pd.DataFrame) -> pd.DataFrame:
    """The views table's columns and order: by split, then naturally, image2 before image10."""
    views = table[VIEW_COLUMNS].astype(dict.fromkeys(VIEW_COLUMNS, str) | {"label": int})
    return views.sort_values([*STUDY_KEY, "view", "label"], key=_rank, ignore_index=True)


def _rank(column: pd.Series) -> pd.Series:
    if column.name == "split":
        return column.map(SPLITS.index)
    if column.name == "label":
        return column

    def natural(value):
        return re.sub(r"\d+", lambda digits: digits[0].zfill(20), value), value

    codes, values = pd.factorize(column)
    ranks = np.empty(len(values), int)
    ranks[sorted(range(len(values)), key=lambda code: natural(values[code]))] = range(len(values))
    return pd.Series(ranks[codes], index=column.index)


def _children(folder: str | Path, folders: bool = False) -> list[str]:
    """Sorted paths in `folder`, without hidden ones (`._image1.png`); none if it is missing."""
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(
            entry.path
            for entry in entries
            if not entry.name.startswith(".") and (not folders or entry.is_dir())
        )


def _is_image(path: str) -> bool:
    return path.lower().endswith((".png", ".jpg", ".jpeg"))


def _digest(path: str) -> bytes | None:
    try:
        return hashlib.blake2b(Path(path).read_bytes()).digest()
    except OSError:
        return None


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
