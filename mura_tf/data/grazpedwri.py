"""GRAZPEDWRI-DX' layout on disk -> the usable views with a split, and a `Finding` for the rest."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mura_tf.data.findings import (
    Finding,
    children,
    is_plain,
    nothing_found,
    read_rows,
    unmatched,
)
from mura_tf.data.splits import FRACTIONS, deal_patients
from mura_tf.data.table import SPLITS, as_views
from mura_tf.terminal import waiting

GRAZPEDWRI_LAYOUT = (
    "GRAZPEDWRI-DX' layout (dataset.csv with a filestem, and the PNGs in images, or in "
    "images_part1 to images_part4)"
)
ANNOTATIONS = ("folder_structure", "")
"""Where below the data set `pascalvoc` and `yolov5` may lie."""
_COLUMNS = ["filestem", "patient_id", "study_number", "laterality", "fracture_visible"]
_VISIBLE = {"1": 1, "1.0": 1, "": 0, "0": 0, "0.0": 0}


def is_grazpedwri(folder: Path) -> bool:
    """Whether a `dataset.csv` with a column `filestem` is in `folder`."""
    try:
        with open(folder / "dataset.csv", "rb") as file:
            return b"filestem" in file.read(1024).replace(b"\0", b"").lower()  # UTF-16, too
    except OSError:
        return False


def scan_grazpedwri(
    folder: Path,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    progress: bool = False,
) -> tuple[pd.DataFrame, list[Finding]]:
    """The usable views of a GRAZPEDWRI-DX folder with a split, and what is wrong with the rest."""
    table, findings = read_rows(
        folder / "dataset.csv",
        "GRAZPEDWRI-DX'",
        _COLUMNS,
        _is_good,
        "all four, and 1 or nothing for a fracture that is visible or not",
    )
    with waiting("Looking for radiographs", shown=progress):
        paths = _images(folder, findings)
    listed = {stem: str(folder / f"{stem}.png") for stem in table["filestem"]}
    findings += unmatched(listed, paths, "in no image folder", "Unpack all four parts")
    table = table[table["filestem"].isin(paths.keys())]
    views = pd.DataFrame(
        {
            "study_type": "wrist",
            "patient": table["patient_id"],
            "study": "study" + table["study_number"] + table["laterality"],
            "view": table["filestem"] + ".png",
            "path": table["filestem"].map(paths),
            "visible": table["fracture_visible"].map(_VISIBLE),
        }
    )
    views["label"] = views.groupby(["patient", "study"])["visible"].transform("max")
    dealt = deal_patients(views, fractions, seed).map(dict(enumerate(SPLITS)))
    views = as_views(views.assign(split=views["patient"].map(dealt)))
    return views, findings + nothing_found(folder, GRAZPEDWRI_LAYOUT, views, findings)


def _images(folder: Path, findings: list[Finding]) -> dict[str, str]:
    """Name without suffix -> path; of a radiograph that lies in several folders, the first."""
    named = [path.name for path in map(Path, children(folder, [], folders=True))]
    folders = [name for name in named if name == "images" or name.startswith("images_part")]
    folders += [os.path.join(above, "yolov5", "images") for above in ANNOTATIONS]
    files = [path for one in [*folders, ""] for path in children(folder / one, findings)]
    found: dict[str, str] = {}
    for path in filter(is_plain, files):
        first = found.setdefault(Path(path).stem, path)
        if first != path:
            reason = f"also lies there as {first}, which is read; expected one file per radiograph"
            findings.append(Finding(path, "unlisted", f"{reason}. Delete one of the two"))
    return found


def _is_good(rows: pd.DataFrame) -> pd.Series:
    named = (rows[_COLUMNS[:4]] != "").all(axis=1)
    return named & rows["fracture_visible"].isin(_VISIBLE.keys())


def annotations_of(folder: Path) -> Path | None:
    """The folder of the boxes: Pascal VOC's, which names what is in them, or YOLO's, or None."""
    names = ("pascalvoc", os.path.join("yolov5", "labels"))
    found = (folder / above / name for name in names for above in ANNOTATIONS)
    return next((one for one in found if children(one, [])), None)
