"""Two grids of runs: whether one is what the other is, and nothing else is left of it."""

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
from filelock import FileLock, Timeout

SAME = ("history.csv", "predictions.csv", "scores.csv")
"""Byte by byte; of `best.keras` every weight."""


def differences(peace: Path, disk: Path) -> list[str]:
    """A sentence for each file that is not the undisturbed grid's, and each lock that is held."""
    before, after = _names(peace), _names(disk)
    found = [f"{name} is lacking" for name in sorted(before - after)]
    found += [f"{name} is left over" for name in sorted(after - before)]
    for name in sorted(before & after):
        theirs, ours = peace / name, disk / name
        if ours.name in SAME and theirs.read_bytes() != ours.read_bytes():
            found.append(f"{name} has other bytes")
        if ours.name == "best.keras" and not _same_weights(theirs, ours):
            found.append(f"{name} has other weights")
        if ours.name in (".lock", "lock"):
            try:
                FileLock(ours).acquire(timeout=0).lock.release()
            except Timeout:
                found.append(f"{name} is held")
    return found


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _same_weights(*models: Path) -> bool:
    first, second = map(_weights, models)
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def _weights(model: Path) -> dict[str, np.ndarray]:
    found = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    content = zipfile.ZipFile(model).read("model.weights.h5")
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(note)
    return found
