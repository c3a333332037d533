"""Everything wrong with a data set, file by file, with its reason."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from mura_tf.cores import usable_cores
from mura_tf.data.findings import (
    Finding,
    children,
    identical_files,
    is_junk,
    is_plain,
    printable,
    split_folders,
)
from mura_tf.data.layouts import find_dataset, scan
from mura_tf.data.looks import TINY_RANGE, Look, look_at
from mura_tf.data.mura import is_mura, name_of_csvs
from mura_tf.data.radiograph import FORMATS, BadRadiographError, decode_noted, read_content
from mura_tf.data.required import (
    common_folder,
    patients_in_two_splits,
    scoring_findings,
    types_in_one_split,
)
from mura_tf.data.table import SPLITS, label_names, plain_views
from mura_tf.data.text import is_csv
from mura_tf.data.views import read_views
from mura_tf.files import walked
from mura_tf.terminal import track, waiting

_SHOWN = 3
"""Of the findings of one kind in one CSV, such as malformed lines, how many are shown."""


def check_dataset(root: str | os.PathLike[str], progress: bool = False) -> pd.DataFrame:
    """Checks a data set on disk: its layout and CSVs, and all that `check_views` checks.

    What the loaders would raise is listed as well, and the rest is checked all the same. FracAtlas
    and GRAZPEDWRI-DX are checked with their default split.

    Args:
        root: a folder or a CSV for `load_views`.
        progress: whether to show a progress bar.

    Returns:
        See `check_views`; in addition the problems "no data set", "empty", "header", "encoding",
        "malformed line", "no images", "no label", "name", "unlisted" and "contradicting folder"
        (FracAtlas; of MURA "two labels"). No row: nothing is wrong.

    Examples:
        >>> len(mt.check_dataset("demo/MURA-v1.1"))
        0
    """
    if is_csv(root):
        try:
            views = read_views(root)
        except ValueError as error:
            return _table([Finding(str(root), "no data set", str(error))])
        except OSError as error:
            reason = f"{error.strerror}; expected a views table, a CSV that can be read"
            return _table([Finding(str(root), "no data set", reason)])
        return check_views(views, progress)
    try:
        folder = find_dataset(root)
        views, findings = scan(folder, progress=progress)
    except (ValueError, OSError) as error:
        return _table([Finding(str(root), "no data set", str(error))])
    files, renamed = _bad_files(views, progress)
    if is_mura(folder):
        known = {*views["path"], *(one.path for one in findings), *renamed}
        with waiting("Looking for others", shown=progress):
            findings += _unlisted(folder, known)
    return _table(findings + _findings(views, files, progress))


def check_views(views: pd.DataFrame, progress: bool = False) -> pd.DataFrame:
    """Checks the files of a views table, and the table.

    Args:
        views: views table.
        progress: whether to show a progress bar.

    Returns:
        `path, problem, reason`, a row per problem. Files: "missing", "another name" (one of another
        suffix is there), "unreadable" (empty, truncated, damaged, no image, a directory), and
        byte-identical to an earlier file:
        "contradiction" if the labels differ, else "leak" if the splits differ, else "duplicate".
        Pictures: "one grey level", "tiny range", "few bits" (scaled to all grey levels) and
        "inverted" (a bright border where most have a dark one). The table: "listed twice", "two
        labels" of a study, "two spellings" of a study type, "reserved name", "type in one split",
        "patient in two splits", "one class" of a type in a split, "no validation split". The reason
        says what was found and what was expected. A cause that many files have, such as a folder
        that is not there, is one row; its path is the folder they share.

    Raises:
        ValueError: no views table, see `plain_views`.

    Examples:
        >>> views = mt.load_mura("demo/MURA-v1.1")
        >>> views.loc[0, "path"] = "gone.png"
        >>> mt.check_views(views)[["path", "problem"]].values.tolist()
        [['gone.png', 'missing']]
    """
    views = plain_views(views)
    return _table(_findings(views, _bad_files(views, progress)[0], progress))


def _findings(views: pd.DataFrame, files: list[Finding], progress: bool) -> list[Finding]:
    return [
        *_no_validation_split(views),
        *_one_class(views),
        *types_in_one_split(views),
        *patients_in_two_splits(views),
        *scoring_findings(views),
        *files,
        *_identical(views, progress),
    ]


def _table(findings: list[Finding]) -> pd.DataFrame:
    """The findings, each once; many of a kind in one CSV are one."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for one in dict.fromkeys(findings):
        groups.setdefault((one.path, one.problem), []).append(one)
    rows = []
    for (path, problem), group in groups.items():
        shown = "; ".join(one.reason for one in group[:_SHOWN])
        rows += (
            group
            if len(group) <= _SHOWN or not is_csv(path)
            else [Finding(path, problem, f"{len(group)} of the kind, the first: {shown}")]
        )
    return pd.DataFrame(rows, columns=Finding._fields, dtype=str)


def _unlisted(folder: Path, known: set[str]) -> list[Finding]:
    """Files of a MURA folder that would be left out without a word."""
    found = []
    for split, name in split_folders(folder).items():
        listing = f"{name_of_csvs(folder, split)}_image_paths.csv"
        if (folder / listing).exists():
            reason = (
                f"not listed in {listing}, or listed without a label; expected every "
                "image of the folder. Add its line, or move the file away"
            )
        else:
            reason = (
                f"no {FORMATS} image of a study, so left out; expected only such as "
                f"{name}/XR_ELBOW/patient00005/study1_positive/image1.png. Move it there, or away"
            )
        found += [
            Finding(printable(path), "unlisted", reason)
            for path in _visible_files(folder / name, known)
        ]
    return found


def _visible_files(folder: Path, known: set[str]) -> Iterator[str]:
    """The files in and below `folder` that are not `known`, nor below a known folder."""
    for parent, folders, files in walked(folder, on_error=lambda error: None):  # told already
        folders[:] = sorted(
            name
            for name in folders
            if not is_junk(name) and os.path.join(parent, name) not in known
        )
        paths = (os.path.join(parent, name) for name in sorted(files) if not is_junk(name))
        yield from (path for path in paths if not {path, printable(path)} & known)


def _no_validation_split(views: pd.DataFrame) -> list[Finding]:
    splits = [split for split in SPLITS if split in set(views["split"])]
    if views.empty or "valid" in splits:
        return []
    reason = (
        f"the only splits are: {', '.join(splits)}; expected valid as well, to select epochs on. "
        "Deal patients to it: --split patient:0.15, in Python load_views(..., "
        "split='patient:0.15')"
    )
    where = common_folder(views["path"])
    return [Finding(where, "no validation split", reason)]


def _one_class(views: pd.DataFrame) -> list[Finding]:
    return [
        Finding(
            common_folder(group["path"]),
            "one class",
            f"all {len(group)} views of {study_type} in {split} have label "
            f"{group['label'].iloc[0]}; expected both labels. Add studies of the other, or leave "
            "the type out",
        )
        for (split, study_type), group in views[views["label"].notna()].groupby(
            ["split", "study_type"], sort=False
        )
        if (group["label"] == group["label"].iloc[0]).all()
    ]


def _bad_files(views: pd.DataFrame, progress: bool) -> tuple[list[Finding], list[str]]:
    """Of every file once: whether it is there, can be read, and looks as the others do.

    Returns:
        What is wrong; and the files that lie there for listed ones of another suffix.
    """
    paths = list(dict.fromkeys(views["path"]))
    with ThreadPoolExecutor(usable_cores()) as pool:
        bar = track(pool.map(_seen, paths), "Checking", len(paths), shown=progress)
        seen = dict(zip(paths, bar, strict=True))
    missing, renamed = _missing([path for path, one in seen.items() if one is None])
    unreadable = [one for one in seen.values() if isinstance(one, Finding)]
    looks = {path: one for path, one in seen.items() if one and not isinstance(one, Finding)}
    return missing + unreadable + _odd_looks(looks), renamed


def _seen(path: str) -> Finding | tuple[Look, str] | None:
    """What a file looks like and its note, or what keeps it from being read; None if it is gone."""
    try:
        image, note = decode_noted(read_content(path), path)
    except BadRadiographError as error:
        if not os.path.exists(path):
            return None
        reason = f"{error.reason}; expected a whole {FORMATS} image. Restore or remove it"
        return Finding(path, "unreadable", reason)
    return look_at(image), note


def _missing(paths: list[str]) -> tuple[list[Finding], list[str]]:
    """Files that are not there; one finding where a folder is missing, or all have another name."""
    findings: list[Finding] = []
    folders: dict[str, list[str]] = {}
    kinds: dict[tuple[str, str], dict[str, str]] = {}
    there = {folder: _images_in(folder) for folder in {os.path.dirname(path) for path in paths}}
    for path in paths:
        stem, suffix = os.path.splitext(os.path.basename(path))
        if other := there[os.path.dirname(path)].get(stem.lower()):
            kinds.setdefault((suffix, os.path.splitext(other)[1]), {})[path] = other
        elif (gone := _topmost_missing(path)) != path:
            folders.setdefault(gone, []).append(path)
        else:
            reason = f"there is no such file; expected a whole {FORMATS} image. Restore it"
            findings.append(Finding(path, "missing", reason))
    for folder, lost in folders.items():
        reason = f"there is no such folder, and {len(lost)} files are to be in it; expected them"
        findings.append(Finding(folder, "missing", f"{reason}. Restore it"))
    for (listed, found), files in kinds.items():
        first, other = next(iter(files.items()))
        reason = (
            f"{len(files)} files are listed as {listed} and lie there as {found}, the first "
            f"{first} as {os.path.basename(other)}; expected one name. Rename the files, or "
            "correct the list"
        )
        findings.append(Finding(common_folder(files), "another name", reason))
    return findings, [other for files in kinds.values() for other in files.values()]


def _images_in(folder: str) -> dict[str, str]:
    """Name without suffix, in lower case -> path, of the images in a folder."""
    images = filter(is_plain, children(folder, []))
    return {os.path.splitext(os.path.basename(path))[0].lower(): path for path in images}


def _topmost_missing(path: str) -> str:
    """The path, or the folder above it that is not there either."""
    above = os.path.dirname(path)
    while above != (further := os.path.dirname(above)) and not os.path.exists(above):
        path, above = above, further
    return path


def _odd_looks(seen: dict[str, tuple[Look, str]]) -> list[Finding]:
    findings = []
    noted: dict[str, list[str]] = {}
    bright = [look.bright for look, _ in seen.values()]
    most_are_dark = sum(bright) <= len(bright) / 2
    for path, (look, note) in seen.items():
        if look.low == look.high:
            reason = f"all of it has the grey level {look.low}; expected a picture"
            findings.append(Finding(path, "one grey level", f"{reason}. Export it anew"))
        elif look.range < TINY_RANGE:
            reason = f"all but a fiftieth of it lies within {look.range + 1} grey levels; expected"
            mend = f"{TINY_RANGE} or more of 256. Export it anew"
            findings.append(Finding(path, "tiny range", f"{reason} {mend}"))
        elif look.bright and most_are_dark:
            reason = "its border is bright where most have a dark one; expected bone brighter than"
            mend = "air. Invert it, if it is a negative"
            findings.append(Finding(path, "inverted", f"{reason} {mend}"))
        if note:
            noted.setdefault(note, []).append(path)
    mend = "expected values of all the bits. Nothing is to be done if so meant"
    for note, paths in noted.items():
        where = paths[0]
        if len(paths) > 1:
            note += f": {len(paths)} files, the first {where}"
            where = common_folder(paths)
        findings.append(Finding(where, "few bits", f"{note}; {mend}"))
    return findings


def _identical(views: pd.DataFrame, progress: bool) -> list[Finding]:
    named = views.assign(label=label_names(views["label"]))
    of_path = named.drop_duplicates("path").set_index("path")
    findings = []
    for first, *others in identical_files(of_path.index, progress):
        split, label = of_path.loc[first, ["split", "label"]]
        for path in others:
            other_split, other_label = of_path.loc[path, ["split", "label"]]
            found = (
                f"byte-identical to {first} ({split}, label {label}), itself in {other_split} with "
                f"label {other_label}; expected"
            )
            if label != other_label and "unknown" not in (label, other_label):
                problem, expected = "contradiction", "one label. Remove the wrong one, or both"
            elif split != other_split:
                problem, expected = "leak", "one split. Remove one of the two"
            else:
                problem, expected = "duplicate", "each image once. Remove one of the two"
            findings.append(Finding(path, problem, f"{found} {expected}"))
    return findings
