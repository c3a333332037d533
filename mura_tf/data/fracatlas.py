"""FracAtlas' layout on disk -> the usable views with a split, and a `Finding` for the rest."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mura_tf.data.findings import (
    FRACATLAS_LABELS,
    Finding,
    contradicting_folders,
    identical_files,
    images_in,
    nothing_found,
    read_rows,
    unmatched,
)
from mura_tf.data.splits import FRACTIONS, deal_patients
from mura_tf.data.table import SPLITS, as_views

FRACATLAS_LAYOUT = "FracAtlas' layout (dataset.csv, images/Fractured, images/Non_fractured)"
_STUDY_TYPES = ["hand", "leg", "hip", "shoulder"]


def is_fracatlas(folder: Path) -> bool:
    """Whether `dataset.csv` and an image folder of FracAtlas are in `folder`."""
    return os.path.isfile(folder / "dataset.csv") and any(
        os.path.isdir(folder / "images" / name) for name in FRACATLAS_LABELS
    )


def lacks_its_csv(folder: Path) -> bool:
    """Whether `folder` is FracAtlas' but for `dataset.csv`."""
    images = [folder / "images" / name for name in FRACATLAS_LABELS]
    return not is_fracatlas(folder) and all(map(os.path.isdir, images))


def scan_fracatlas(
    folder: Path,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    progress: bool = False,
) -> tuple[pd.DataFrame, list[Finding]]:
    """The usable views of a FracAtlas folder with their split, and what is wrong with the rest."""
    table, findings = _read_fracatlas_csv(folder / "dataset.csv")
    paths: dict[str, str] = {}
    for name in FRACATLAS_LABELS:
        for path in images_in(folder / "images" / name, findings, "FracAtlas' image folders"):
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
    listed = {view: str(folder / "images" / view) for view in table["view"]}
    findings += unmatched(listed, paths, "in neither image folder", "Copy the image there")
    table = table[table["view"].isin(paths.keys())].sort_values("view")
    table["path"] = [paths[view] for view in table["view"]]
    table["study"] = [Path(view).stem for view in table["view"]]
    identical = identical_files(table["path"], progress)
    first = {path: group[0] for group in identical for path in group}
    table["patient"] = [Path(first.get(path, path)).stem for path in table["path"]]
    split_of = dict(enumerate(SPLITS))
    table["split"] = table["patient"].map(deal_patients(table, fractions, seed)).map(split_of)
    views = as_views(table)
    findings += contradicting_folders(views)
    return views, findings + nothing_found(folder, FRACATLAS_LAYOUT, views, findings)


def _read_fracatlas_csv(csv: Path) -> tuple[pd.DataFrame, list[Finding]]:
    """`view`, `study_type` and `label` of each row."""
    flags = [*_STUDY_TYPES, "mixed", "fractured"]
    table, findings = read_rows(
        csv,
        "FracAtlas'",
        ["image_id", *flags],
        lambda rows: rows[flags].isin(["0", "1"]).all(axis=1),
        "a file name and flags of 0 or 1",
    )
    parts = table[_STUDY_TYPES] == "1"
    single = (parts.sum(axis=1) == 1) & (table["mixed"] == "0")
    part = np.array(_STUDY_TYPES)[parts.to_numpy().argmax(axis=1)]
    study_type = np.where(single, part, "mixed")
    labels = table["fractured"].astype(int)
    return table.assign(view=table["image_id"], study_type=study_type, label=labels), findings
