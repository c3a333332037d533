"""Folders -> the files in them that are taken for radiographs, before anything is read."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mura_tf.data.findings import is_junk
from mura_tf.data.radiograph import DICOM_SUFFIXES, PLAIN_SUFFIXES
from mura_tf.files import walked

IMAGE_SUFFIXES = (*PLAIN_SUFFIXES, *DICOM_SUFFIXES)
"""What is taken for a radiograph in a folder, besides images without a suffix and DICOM under any,
such as CR.1.2.840.113704; a file that is named is read whatever its name."""
DIRECTORY = "DICOMDIR"
"""What a CD calls its table of contents, which is DICOM, too."""
WRITTEN = ("findings.csv", "views.csv", "index.html")
WRITTEN_FOLDERS = ("studies", "dicom")
"""What `mura-tf predict` leaves in its `--out`: pictures of studies, which are no radiographs."""
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff")


def radiographs(folder: Path, but: Path | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Each folder from this one on, and the names of its files that are taken for radiographs.

    Args:
        but: a folder that is passed over.
    """
    root, over = folder.resolve(), but and but.resolve()
    for parent, folders, files in walked(folder):
        names = sorted(folders)
        folders.clear()
        if set(WRITTEN) <= set(files):  # what an earlier call has found
            names = [one for one in names if one not in WRITTEN_FOLDERS]
        for one in names:
            below = Path(parent, one)
            if is_junk(one) or (real := below.resolve()) == over:
                continue
            if not (below.is_symlink() and root in real.parents):  # which is walked anyway
                folders.append(one)
        yield (
            Path(parent),
            [
                file
                for file in sorted(files)
                if not is_junk(file) and _is_radiograph(Path(parent, file), file)
            ],
        )


def is_passed_over(parts: Sequence[str], path: Path, names: set[tuple[str, ...]]) -> bool:
    """Whether `radiographs` would pass over a file of a folder that was uploaded.

    Args:
        parts: the folders that it was in, and its own name.
        path: where its bytes are now.
        names: the `parts` of all files, by which what an earlier call has written is known.
    """
    *folders, file = parts
    are_results = any(
        folder in WRITTEN_FOLDERS and all((*folders[:depth], one) in names for one in WRITTEN)
        for depth, folder in enumerate(folders)
    )
    return any(map(is_junk, parts)) or are_results or not _is_radiograph(path, file)


def _is_radiograph(path: Path, name: str) -> bool:
    """Whether a file that is called so in its folder is taken for one; see `IMAGE_SUFFIXES`."""
    suffix = Path(name).suffix.lower()
    if name.upper() == DIRECTORY:
        return False
    if suffix in IMAGE_SUFFIXES or holds_dicom(path):
        return True
    return not suffix and any(starts_with(path, one) for one in _SIGNATURES)


def holds_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does."""
    return starts_with(path, b"DICM", 128)


def starts_with(path: Path, signature: bytes, offset: int = 0) -> bool:
    """Whether there is a file with these bytes at that place."""
    try:
        if not path.is_file():  # a pipe would wait for who writes into it
            return False
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(len(signature)) == signature
    except OSError:
        return False
