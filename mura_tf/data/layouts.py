"""Which layout a folder on disk has, and where below it the data set lies.

The scanners are lenient: they return what can be used beside a `Finding` for whatever is wrong.
`data.views` raises or warns on findings, `data.check` lists them.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from mura_tf.data.findings import Finding, few
from mura_tf.data.fracatlas import FRACATLAS_LAYOUT, is_fracatlas, scan_fracatlas
from mura_tf.data.mura import MURA_LAYOUT, is_mura, scan_mura

_LAYOUTS: dict[Callable[[Path], bool], str] = {is_mura: MURA_LAYOUT, is_fracatlas: FRACATLAS_LAYOUT}


def find_dataset(
    root: str | os.PathLike[str], layouts: Sequence[Callable[[Path], bool]] = tuple(_LAYOUTS)
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
            f"'{root}' holds {len(below)} data sets: {few([child.name for child in below])}. "
            "Expected one. Give the path of the one that is meant."
        )
    if not below:
        raise FileNotFoundError(
            f"no data set in '{root}' or directly below it. Expected {expected}. Received a folder "
            f"with: {few(sorted(os.listdir(root))) or 'nothing'}. Give the path of the unpacked "
            "data set."
        )
    return below[0]


def scan(folder: Path, progress: bool = False) -> tuple[pd.DataFrame, list[Finding]]:
    """`scan_fracatlas` with its default split, or `scan_mura`, by what `folder` holds."""
    if is_fracatlas(folder):
        return scan_fracatlas(folder, progress=progress)
    return scan_mura(folder, progress)
