"""A folder per class on disk -> the usable views, and a `Finding` for the rest."""

import os
import re
from pathlib import Path

import pandas as pd

from mura_tf.data.findings import (
    Finding,
    children,
    few,
    identical_files,
    images_in,
    is_plain,
    nothing_found,
    split_folders,
)
from mura_tf.data.table import SPLITS, as_views

CLASS_LAYOUT = (
    "a folder per class (train/normal/image1.png and train/fractured/image2.png, the same for "
    "valid and test; or normal and fractured without splits)"
)
ANY_BONE = "bone"
"""The study type of every view: the folders do not say which bone."""
_NORMAL = {"normal", "negative", "nonfractured", "notfractured", "nofracture", "unfractured"}
_NORMAL |= {"healthy", "nofinding"}
_ABNORMAL = {"abnormal", "positive", "fractured", "fracture", "fractures", "broken"}
_KNOWN = (
    "normal, negative, healthy or not fractured; abnormal, positive, fractured, fracture or broken"
)


def is_class_folders(folder: Path) -> bool:
    """Whether both classes' folders are in `folder`, or in a split's folder in it."""
    parts = [folder / name for name in split_folders(folder).values()] or [folder]
    return any({0, 1} <= {_label(name) for name in _folders(part)} for part in parts)


def scan_class_folders(folder: Path, progress: bool = False) -> tuple[pd.DataFrame, list[Finding]]:
    """The usable views of a folder per class, and what is wrong with the rest.

    Without splits all views are of the split train. Every image is its own study, and of its own
    patient, but that files of equal content are of one patient.
    """
    rows: list[tuple[str, int, str]] = []
    findings: list[Finding] = []
    splits = split_folders(folder)
    for split, name in splits.items() or [("train", "")]:
        for class_folder in children(folder / name, findings, folders=True):
            label = _label(os.path.basename(class_folder))
            if label is None:
                findings.append(_unknown_class(class_folder))
                continue
            images = images_in(class_folder, findings, "a class's folder")
            rows += [(split, label, path) for path in images]
        findings += _of_no_class(folder / name)
    if splits:
        findings += _of_no_split(folder, set(splits.values()))
    views = pd.DataFrame(rows, columns=["split", "label", "path"])
    identical = identical_files(views["path"], progress)
    first = {path: group[0] for group in identical for path in group}
    views["study"] = [_name(path, folder) for path in views["path"]]
    views["patient"] = [_name(first.get(path, path), folder) for path in views["path"]]
    views["view"] = [os.path.basename(path) for path in views["path"]]
    views = as_views(views.assign(study_type=ANY_BONE))
    return views, findings + nothing_found(folder, CLASS_LAYOUT, views, findings)


def folders_seen(folder: Path) -> str:
    """What lies in a folder, and in the folders of its splits, in a few words."""
    parts = [
        f"{name} ({few(_folders(folder / name)) or 'no folder'})"
        for name in split_folders(folder).values()
    ]
    return ", ".join(parts) or few(sorted(os.listdir(folder))) or "nothing"


def _folders(folder: Path) -> list[str]:
    return [os.path.basename(path) for path in children(folder, [], folders=True)]


def _label(name: str) -> int | None:
    """1 or 0, where the folder's name is that of a class.

    >>> _label("Not Fractured"), _label("fractured"), _label("wrist")
    (0, 1, None)
    """
    word = re.sub(r"[\W_]", "", name.lower())
    return 0 if word in _NORMAL else 1 if word in _ABNORMAL else None


def _unknown_class(folder: str) -> Finding:
    reason = f"the folder's name gives no label; expected {_KNOWN}"
    mend = "Rename it, move it away, or write a views CSV"
    return Finding(folder, "no label", f"{reason}. {mend}")


def _of_no_class(folder: Path) -> list[Finding]:
    """Images beside the folders of the classes."""
    reason = "lies in no class's folder, so left out; expected it in one. Move it there, or away"
    images = filter(is_plain, children(folder, []))
    return [Finding(path, "unlisted", reason) for path in images]


def _of_no_split(folder: Path, read: set[str]) -> list[Finding]:
    """Folders of a class, or that hold some, beside those of the splits."""
    reason = (
        f"holds classes, so left out; expected one of {', '.join(SPLITS)}. Rename it, or move it "
        "away"
    )
    others = [name for name in _folders(folder) if name not in read]
    return [
        Finding(str(folder / name), "unlisted", reason)
        for name in others
        if any(_label(one) is not None for one in (name, *_folders(folder / name)))
    ]


def _name(path: str, folder: Path) -> str:
    """A name for an image that no other has: the way to it."""
    return "-".join(Path(path).relative_to(folder).parts)
