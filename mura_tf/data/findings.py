"""What can be wrong with a data set: a `Finding`, and the checks that every layout shares."""

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from unicodedata import category

import pandas as pd

from mura_tf.cores import usable_cores
from mura_tf.data.radiograph import DICOM_SUFFIXES, FORMATS, PLAIN_SUFFIXES, digest_of, os_reason
from mura_tf.data.table import STUDY_KEY, label_names
from mura_tf.data.text import read_cells, read_text
from mura_tf.terminal import track

LOOKS = ("one grey level", "tiny range", "few bits", "inverted")
"""Pictures that can be read, and are unlike radiographs as they should be."""
HARMLESS = ("contradicting folder", "unlisted", "patient in two splits", *LOOKS)
"""Problems that leave every view usable."""
JUNK = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"}
"""What systems put into folders, in lower case; names that begin with a dot are junk as well."""
_JOINERS = "\u200c\u200d"
"""What stands between letters in Persian, in Hindi and in emoji."""
_ORDERS = ("Cc", "Cf", "Zl", "Zp")
"""Unicode's categories of what ends a line, moves the cursor or turns the direction of reading."""
SPLIT_NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation"),
    "test": ("test", "testing"),
}
"""What folders of a split are called, in any case."""
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
        if pd.isna(label) or label_of[folder] in (None, label):
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
    """Studies with views of two labels, such as study1_positive beside study1_negative, or of one
    and of none."""
    views = views.assign(label=label_names(views["label"]))
    labels = views.groupby(STUDY_KEY, sort=False)["label"].transform("nunique")
    firsts = views[labels > 1].drop_duplicates([*STUDY_KEY, "label"])
    return [
        Finding(
            os.path.dirname(one.path),
            "two labels",
            f"{one.study} of {one.patient} has label {one.label} here and label {other.label} in "
            f"{os.path.dirname(other.path)}; expected one label per study. {mend}",
        )
        for _, pair in firsts.groupby(STUDY_KEY, sort=False)
        for one, other in [pair.head(2).itertuples()]
        for mend in [
            "Label all its views, or none"
            if "unknown" in (one.label, other.label)
            else "Remove one, or give it a study number of its own"
        ]
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
    by_digest: dict[str | None, list[str]] = {}
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


def read_rows(
    csv: Path,
    whose: str,
    columns: list[str],
    is_good: Callable[[pd.DataFrame], pd.Series],
    expected: str,
) -> tuple[pd.DataFrame, list[Finding]]:
    """The rows of a `dataset.csv` that can be used, as stripped text, and what is wrong with it.

    Args:
        csv: the file.
        whose: data set it is of, in the genitive.
        columns: that are read; the first names the row, and must be there and only once.
        is_good: the columns -> which rows have what they need besides.
        expected: what a row must have, in words.
    """
    empty = pd.DataFrame({column: [] for column in columns}, dtype=str)
    try:
        table = read_cells(read_text(csv))
    except ValueError as error:  # pandas' parser and decoding errors are ValueErrors
        reason = f"not readable as CSV ({error}); expected {whose} dataset.csv. Restore it"
        return empty, [Finding(str(csv), "malformed line", reason)]
    if lacking := [column for column in columns if column not in table]:
        reason = f"no column {few(lacking)}; expected {', '.join(columns)}"
        mend = f"Restore {whose} own dataset.csv"
        return empty, [Finding(str(csv), "header", f"{reason}. {mend}")]
    table = table[columns].apply(lambda column: column.str.strip())
    good = is_good(table) & (table[columns[0]] != "")
    findings = []
    for number in table.index[~good]:
        row = ", ".join(f"{name}={table[name][number]}" for name in columns)
        reason = f"line {number + 2} has {row}; expected {expected}"
        findings.append(Finding(str(csv), "malformed line", f"{reason}. Correct the line"))
    findings += repeated(csv, table.loc[good, columns[0]])
    return table[good].drop_duplicates(columns[0]), findings


def unmatched(
    listed: Mapping[str, str], paths: Mapping[str, str], where: str, mend: str
) -> list[Finding]:
    """Rows of a `dataset.csv` without a file, and files without a row.

    Args:
        listed: name of each row's radiograph -> where it is expected.
        paths: name of each file -> its path.
        where: where it was looked for in vain, as "in no image folder".
        mend: how a file comes there, as an order.
    """
    reason = (
        f"listed in dataset.csv but {where}; expected a file per row. {mend}, or delete the row"
    )
    missing = [
        Finding(path, "missing", reason) for name, path in listed.items() if name not in paths
    ]
    reason = (
        "not listed in dataset.csv, so left out for want of a label; expected a row per file. "
        "Add the row, or move the file away"
    )
    return missing + [
        Finding(paths[name], "unlisted", reason) for name in sorted(set(paths) - set(listed))
    ]


def children(folder: str | Path, findings: list[Finding], folders: bool = False) -> list[str]:
    """Sorted paths in `folder`, without `JUNK`; none if it is missing.

    Args:
        folder: where to look.
        findings: gets those that cannot be looked into, and names that no table can hold.
        folders: whether to leave out what is no folder.
    """
    found: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_junk(entry.name):
                    continue
                if not _is_text(entry.name):
                    reason = "its name is not UTF-8; expected one that a table can hold. Rename it"
                    findings.append(Finding(printable(entry.path), "name", reason))
                elif entry.is_symlink() and _is_loop(entry.path):
                    reason = "a link to itself, or to a folder above, so left out; expected a file"
                    findings.append(
                        Finding(entry.path, "unlisted", f"{reason} or folder. Remove it")
                    )
                elif not folders or entry.is_dir():
                    found.append(entry.path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        reason = f"{os_reason(error)}; expected a folder that can be read. Mend or remove it"
        findings.append(Finding(printable(str(folder)), "unreadable", reason))
    return sorted(found)


def is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def printable(path: str) -> str:
    """The path, with what is not UTF-8, or no letter but an order to a terminal, as backslash
    sequences."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(one.encode("unicode_escape").decode() if _is_order(one) else one for one in text)


def _is_order(letter: str) -> bool:
    return category(letter) in _ORDERS and letter not in _JOINERS


def split_folders(folder: str | Path) -> dict[str, str]:
    """split -> the name of its folder in `folder`, of `SPLIT_NAMES`; the first where it has two."""
    named = {os.path.basename(path).lower(): path for path in children(folder, [], folders=True)}
    return {
        split: os.path.basename(named[found[0]])
        for split, names in SPLIT_NAMES.items()
        if (found := [name for name in names if name in named])
    }


def images_in(folder: str | Path, findings: list[Finding], where: str) -> list[str]:
    """Sorted paths of the images in a folder: PNG and JPEG, or, where there are none, DICOM.

    Args:
        folder: where to look.
        findings: gets what cannot be read, and what else lies there.
        where: what folders of this kind are called.
    """
    files = children(folder, findings)
    images = list(filter(is_plain, files)) or list(filter(_is_dicom, files))
    for path in sorted(set(files) - set(images)):
        if _is_dicom(path):
            reason = f"DICOM beside PNG or JPEG, so left out; expected one or the other in {where}"
        else:
            reason = f"no {FORMATS} image, so left out; expected such alone in {where}"
        findings.append(Finding(path, "unlisted", f"{reason}. Convert it, or move it away"))
    return images


def is_plain(path: str) -> bool:
    """Whether a file is called as PNG and JPEG files are."""
    return path.lower().endswith(PLAIN_SUFFIXES)


def _is_dicom(path: str) -> bool:
    return path.lower().endswith(DICOM_SUFFIXES)


def _is_loop(link: str) -> bool:
    try:
        target = os.path.realpath(link, strict=True)
    except FileNotFoundError:
        return False
    except OSError:  # a link to itself
        return True
    folder = os.path.realpath(os.path.dirname(link))
    try:
        return os.path.commonpath([target, folder]) == target
    except ValueError:  # on another drive
        return False


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _digest(path: str) -> str | None:
    try:
        return digest_of(Path(path).read_bytes())
    except OSError:
        return None


def few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
