"""Which layout a folder on disk has, and where below it the data set lies.

The scanners are lenient: they return what can be used beside a `Finding` for whatever is wrong.
`data.views` raises or warns on findings, `data.check` lists them.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from mura_tf.data.class_folders import (
    CLASS_LAYOUT,
    folders_seen,
    is_class_folders,
    scan_class_folders,
)
from mura_tf.data.findings import Finding, children, few
from mura_tf.data.fracatlas import (
    FRACATLAS_LAYOUT,
    is_fracatlas,
    lacks_its_csv,
    scan_fracatlas,
)
from mura_tf.data.grazpedwri import GRAZPEDWRI_LAYOUT, is_grazpedwri, scan_grazpedwri
from mura_tf.data.mura import MURA_LAYOUT, is_mura, scan_mura

_Scan = Callable[..., tuple[pd.DataFrame, list[Finding]]]
_LAYOUTS: dict[Callable[[Path], bool], tuple[str, _Scan, bool]] = {
    is_mura: (MURA_LAYOUT, scan_mura, False),
    is_fracatlas: (FRACATLAS_LAYOUT, scan_fracatlas, True),
    is_grazpedwri: (GRAZPEDWRI_LAYOUT, scan_grazpedwri, True),
    is_class_folders: (CLASS_LAYOUT, scan_class_folders, False),
}
"""Whether a folder has it -> the layout in words, its scan, and whether that deals patients by a
seed, because the data set brings no split."""
_DEPTH = 2
"""How many folders above the data set are accepted."""


def find_dataset(
    root: str | os.PathLike[str], layouts: Sequence[Callable[[Path], bool]] = tuple(_LAYOUTS)
) -> Path:
    """The folder of the data set: `root`, or one up to two folders below it.

    Args:
        root: where to look.
        layouts: which to accept, of `is_mura`, `is_fracatlas`, `is_grazpedwri`, `is_class_folders`.

    Raises:
        FileNotFoundError: there is none; the message describes the layouts.
        ValueError: root is a file, or there are several below it.
    """
    root = Path(root)
    expected = "; or ".join(_LAYOUTS[layout][0] for layout in layouts)
    if not root.exists():
        raise FileNotFoundError(
            f"there is no folder '{root}'. Expected {expected}. Give the path of the unpacked data "
            "set."
        )
    if not root.is_dir():
        raise ValueError(f"'{root}' is a file. Expected a folder with {expected}, or a views CSV.")
    level = [root]
    for _ in range(_DEPTH + 1):
        found = [folder for folder in level if any(layout(folder) for layout in layouts)]
        if len(found) > 1:
            names = few([str(folder.relative_to(root)) for folder in found])
            raise ValueError(
                f"'{root}' holds {len(found)} data sets: {names}. Expected one. Give the path of "
                "the one that is meant."
            )
        if found:
            return found[0]
        if is_fracatlas in layouts:  # whose images alone would be taken for folders of classes
            _require_its_csv(level)
        level = [Path(path) for folder in level for path in children(folder, [], folders=True)]
    raise FileNotFoundError(
        f"no data set in '{root}' or up to {_DEPTH} folders below it. Expected {expected}. "
        f"Received a folder with: {folders_seen(root)}. Give the path of the unpacked data set, or "
        "of a views CSV."
    )


def scan(
    folder: Path, seed: int = 0, *, progress: bool = False
) -> tuple[pd.DataFrame, list[Finding]]:
    """The scan of `folder`'s layout; the seed is of the split, where it brings none."""
    _, found, dealt = next(one for layout, one in _LAYOUTS.items() if layout(folder))
    return found(folder, progress=progress, **({"seed": seed} if dealt else {}))


def _require_its_csv(folders: list[Path]) -> None:
    for folder in filter(lacks_its_csv, folders):
        raise FileNotFoundError(
            f"there is no {folder / 'dataset.csv'}, which has FracAtlas' labels and study types. "
            f"Restore it; or give {folder / 'images'}, to have its folders read as classes, of one "
            "study type."
        )
