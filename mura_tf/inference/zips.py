"""Zips of radiographs, unpacked: never outside their folder, and never without bound."""

import errno
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mura_tf.data.store import FileKey
from mura_tf.files import is_refusal

ZIP_BYTES = 4 * 2**30
"""What a zip may hold, unpacked; of an upload, all its zips together."""
ZIP_FILES = 100_000
SIGNATURE = b"PK\x03\x04"
"""What a zip begins with."""
_UNWRITABLE = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
"""How a folder refuses entries that no folder can have, such as `a` beside `a/b.png`."""
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How an entry may be packed: of others zipfile unpacks whole blocks, whatever size it says."""


def unpacked_once(path: Path, unpacked: Path) -> Path:
    """The folder below `unpacked` that holds this very zip; ValueError of `unpack`."""
    mark = hashlib.blake2b(repr(FileKey.of(path)).encode(), digest_size=8).hexdigest()
    folder = unpacked / mark
    if not folder.is_dir():
        unpacked.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=unpacked) as aside:
            unpack(path, Path(aside, mark))
            os.replace(Path(aside, mark), folder)
    return folder


def unpack(
    path: Path, folder: Path, told: str = "", before: tuple[int, int] = (0, 0)
) -> tuple[int, int]:
    """Unpacks a zip into a folder.

    Args:
        told: what it is called in errors, if not by its path.
        before: files and bytes that were unpacked for the same request, and count as its own.

    Returns:
        Files and bytes, with those before.

    Raises:
        ValueError: one that is damaged, has a password, or holds too much.
    """
    told = told or str(path)
    with _zip_errors_explained(told), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    count, size = before[0] + len(entries), before[1] + sum(one.file_size for one in entries)
    if any(entry.compress_type not in _BOUNDED for entry in entries):
        raise ValueError(
            f"a zip's files must be stored or deflated: others can grow without bound. Received: "
            f"{told}, packed otherwise. Pack it again, or unpack it and give the folder."
        )
    if count > ZIP_FILES or size > ZIP_BYTES:
        others, mend = "", "Unpack it and give the folder to mura-tf predict."
        if any(before):
            others, mend = ", with the zips before it", "Send fewer at a time."
        raise ValueError(
            f"a zip may hold {ZIP_FILES:,} files and {ZIP_BYTES / 2**30:g} GiB. Received: "
            f"{told} with {count:,} files and {size / 2**30:.1f} GiB{others}. {mend}"
        )
    with _zip_errors_explained(told), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            entry.filename = entry.filename.replace("\\", "/")  # of old programs of Windows
            archive.extract(entry, folder)  # which keeps every entry inside
    return count, size


@contextmanager
def _zip_errors_explained(told: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile and zlib raise whatever they meet
        if is_refusal(error) and getattr(error, "errno", None) not in _UNWRITABLE:
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"{told} must be a whole zip without a password: {reason}.") from None
