"""Everything wrong with a data set, file by file, with its reason."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from mura_tf.cores import usable_cores
from mura_tf.data.findings import (
    Finding,
    contradicting_folders,
    identical_files,
    studies_in_two_labels,
)
from mura_tf.data.fracatlas import is_fracatlas
from mura_tf.data.layouts import find_dataset, scan
from mura_tf.data.radiograph import BadRadiographError, read_radiograph
from mura_tf.data.table import SPLITS
from mura_tf.data.views import read_views
from mura_tf.terminal import track, waiting


def check_dataset(root: str | os.PathLike[str], progress: bool = False) -> pd.DataFrame:
    """Checks a data set on disk: its layout and CSVs, and all that `check_views` checks.

    What the loaders would raise is listed as well, and the rest is checked all the same. FracAtlas
    is checked with its default split.

    Args:
        root: a folder or a CSV for `load_views`.
        progress: whether to show a progress bar.

    Returns:
        See `check_views`; in addition the problems "no data set", "empty", "header", "malformed
        line", "listed twice", "no images", "no label", "reserved name" and "unlisted". No row:
        nothing is wrong.

    Examples:
        >>> len(mt.check_dataset("demo/MURA-v1.1"))
        0
    """
    if Path(root).suffix == ".csv":
        return check_views(read_views(root), progress)
    try:
        folder = find_dataset(root)
        views, findings = scan(folder, progress)
        if not is_fracatlas(folder):
            with waiting("Looking for others", shown=progress):
                findings += _unlisted(folder, views, findings)
    except (ValueError, OSError) as error:
        return _table([Finding(str(root), "no data set", str(error))])
    return _table(findings + _findings(views, progress))


def check_views(views: pd.DataFrame, progress: bool = False) -> pd.DataFrame:
    """Checks the files of a views table, and the table.

    Args:
        views: views table.
        progress: whether to show a progress bar.

    Returns:
        `path, problem, reason`, a row per problem. Files: "missing", "unreadable" (empty,
        truncated, no image, a directory), and byte-identical to an earlier file: "contradiction"
        if the labels differ, else "leak" if the splits differ, else "duplicate". The table: "two
        labels" of a study, "contradicting folder" (FracAtlas), "patient in two splits", "one
        class" of a type in a split, "no validation split". The reason says what was found and
        what was expected; the path of a problem of many files is the folder they share.

    Examples:
        >>> views = mt.load_mura("demo/MURA-v1.1")
        >>> views.loc[0, "path"] = "gone.png"
        >>> mt.check_views(views)[["path", "problem"]].values.tolist()
        [['gone.png', 'missing']]
    """
    return _table(_findings(views, progress))


def _findings(views: pd.DataFrame, progress: bool) -> list[Finding]:
    return [
        *_no_validation_split(views),
        *_one_class(views),
        *_patients_in_two_splits(views),
        *studies_in_two_labels(views),
        *contradicting_folders(views),
        *_bad_files(views, progress),
        *_identical(views, progress),
    ]


def _table(findings: list[Finding]) -> pd.DataFrame:
    return pd.DataFrame(list(dict.fromkeys(findings)), columns=Finding._fields, dtype=str)


def _unlisted(folder: Path, views: pd.DataFrame, findings: list[Finding]) -> list[Finding]:
    """Files of a MURA folder that would be left out without a word."""
    known = {Path(path) for path in views["path"]} | {Path(one.path) for one in findings}
    found = [
        Finding(
            str(inside),
            "unlisted",
            f"holds study types, so left out; expected one of {', '.join(SPLITS)}. Rename it",
        )
        for inside in sorted({path.parent for path in folder.glob("*/XR_*/")})
        if inside.name not in SPLITS
    ]
    for split in SPLITS:
        if (folder / f"{split}_image_paths.csv").exists():
            reason = (
                f"not listed in {split}_image_paths.csv, or listed without a label; expected every "
                "image of the folder. Add its line, or move the file away"
            )
        else:
            reason = (
                "no PNG or JPEG image of a study, so left out; expected only such as "
                f"{split}/XR_ELBOW/patient00005/study1_positive/image1.png. Move it there, or away"
            )
        found += [
            Finding(str(path), "unlisted", reason)
            for path in _visible_files(folder / split)
            if path not in known and path.parent not in known
        ]
    return found


def _visible_files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _no_validation_split(views: pd.DataFrame) -> list[Finding]:
    splits = [split for split in SPLITS if split in set(views["split"])]
    if views.empty or "valid" in splits:
        return []
    reason = (
        f"the only splits are: {', '.join(splits)}; expected valid as well, to select epochs on"
    )
    return [Finding(_common_folder(views), "no validation split", f"{reason}. See patient_split")]


def _one_class(views: pd.DataFrame) -> list[Finding]:
    return [
        Finding(
            _common_folder(group),
            "one class",
            f"all {len(group)} views of {study_type} in {split} have label "
            f"{group['label'].iloc[0]}; expected both labels. Add studies of the other, or leave "
            "the type out",
        )
        for (split, study_type), group in views.groupby(["split", "study_type"], sort=False)
        if (group["label"] == group["label"].iloc[0]).all()
    ]


def _patients_in_two_splits(views: pd.DataFrame) -> list[Finding]:
    n_splits = views.groupby("patient")["split"].transform("nunique")
    findings = []
    for patient, group in views[n_splits > 1].groupby("patient"):
        counts = group["split"].value_counts(sort=False)
        found = " and ".join(f"{counts[split]} in {split}" for split in SPLITS if split in counts)
        reason = f"{patient} has views in several splits, {found}; expected one split per patient"
        last = group["path"].iloc[-1]
        mend = "Move all of a patient to one side"
        findings.append(Finding(last, "patient in two splits", f"{reason}. {mend}"))
    return findings


def _bad_files(views: pd.DataFrame, progress: bool) -> list[Finding]:
    paths = list(dict.fromkeys(views["path"]))
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = track(pool.map(_bad_file, paths), "Checking", len(paths), shown=progress)
        return [finding for finding in found if finding]


def _bad_file(path: str) -> Finding | None:
    try:
        read_radiograph(path)
    except BadRadiographError as error:
        problem = "unreadable" if os.path.exists(path) else "missing"
        reason = str(error).removeprefix(f"{path}: ")
        return Finding(
            path, problem, f"{reason}; expected a whole PNG or JPEG image. Restore or remove it"
        )
    return None


def _identical(views: pd.DataFrame, progress: bool) -> list[Finding]:
    of_path = views.drop_duplicates("path").set_index("path")
    findings = []
    for first, *others in identical_files(of_path.index, progress):
        split, label = of_path.loc[first, ["split", "label"]]
        for path in others:
            other_split, other_label = of_path.loc[path, ["split", "label"]]
            found = (
                f"byte-identical to {first} ({split}, label {label}), itself in {other_split} with "
                f"label {other_label}; expected"
            )
            if label != other_label:
                problem, expected = "contradiction", "one label. Remove the wrong one, or both"
            elif split != other_split:
                problem, expected = "leak", "one split. Remove one of the two"
            else:
                problem, expected = "duplicate", "each image once. Remove one of the two"
            findings.append(Finding(path, problem, f"{found} {expected}"))
    return findings


def _common_folder(views: pd.DataFrame) -> str:
    return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in views["path"]])
