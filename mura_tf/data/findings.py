"""What can be wrong with a data set: a `Finding`, and the checks that every layout shares."""

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mura_tf.cores import usable_cores
from mura_tf.data.table import STUDY_KEY
from mura_tf.terminal import track

HARMLESS = ("contradicting folder", "unlisted")
"""Problems that leave every view usable."""
MURA_LABELS = {"positive": 1, "negative": 0}
"""By the end of a study's folder."""
FRACATLAS_LABELS = {"Fractured": 1, "Non_fractured": 0}


class Finding(NamedTuple):
    """One thing wrong with a data set: where, of which kind, and found against expected."""

    path: str
    problem: str
    reason: str


def contradicting_folders(views: pd.DataFrame) -> list[Finding]:
    """Views whose label contradicts the folder they lie in: study1_negative, or Non_fractured."""
    folders = [os.path.basename(os.path.dirname(path)) for path in views["path"]]
    label_of = {
        folder: FRACATLAS_LABELS.get(folder, MURA_LABELS.get(folder.rpartition("_")[2]))
        for folder in set(folders)
    }
    findings = []
    for folder, path, label in zip(folders, views["path"], views["label"], strict=True):
        if label_of[folder] in (None, label):
            continue
        if folder in FRACATLAS_LABELS:
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


def identical_files(paths: Iterable[str], progress: bool = False) -> list[list[str]]:
    """Groups of two or more byte-identical files, each in the order given.

    Only files that share their size are read. Empty, missing and unreadable ones are left out.

    Args:
        paths: of the files.
        progress: whether to show a progress bar.
    """
    by_size: dict[int, list[str]] = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_size:
            by_size.setdefault(status.st_size, []).append(path)
    candidates = [path for group in by_size.values() if len(group) > 1 for path in group]
    by_digest: dict[bytes | None, list[str]] = {}
    with ThreadPoolExecutor(usable_cores()) as pool:
        digests = track(
            pool.map(_digest, candidates), "Comparing files", len(candidates), shown=progress
        )
        for path, digest in zip(candidates, digests, strict=True):
            by_digest.setdefault(digest, []).append(path)
    by_digest.pop(None, None)
    return [group for group in by_digest.values() if len(group) > 1]


def nothing_found(
    folder: Path, layout: str, views: pd.DataFrame, findings: list[Finding]
) -> list[Finding]:
    """A finding of its own, unless others say already why there is no view of that layout."""
    if len(views) or any(one.problem not in HARMLESS for one in findings):
        return []
    reason = f"no radiograph found; expected {layout}. Unpack the data set again"
    return [Finding(str(folder), "empty", reason)]


def repeated(csv: Path, entries: pd.Series) -> list[Finding]:
    return [
        Finding(
            str(csv),
            "listed twice",
            f"{entry} is on more than one line; expected one. Delete the repetition",
        )
        for entry in entries[entries.duplicated()].unique()
    ]


def children(folder: str | Path, folders: bool = False) -> list[str]:
    """Sorted paths in `folder`, without hidden ones (`._image1.png`); none if it is missing."""
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(
            entry.path
            for entry in entries
            if not entry.name.startswith(".") and (not folders or entry.is_dir())
        )


def is_image(path: str) -> bool:
    return path.lower().endswith((".png", ".jpg", ".jpeg"))


def _digest(path: str) -> bytes | None:
    try:
        return hashlib.blake2b(Path(path).read_bytes()).digest()
    except OSError:
        return None


def few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
