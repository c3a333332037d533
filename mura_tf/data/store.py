"""The cache's files: squares of one size, and an index that says which is whose."""

import json
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from filelock import FileLock

from mura_tf.cores import usable_cores
from mura_tf.data.looks import TINY_RANGE
from mura_tf.data.radiograph import (
    READER_VERSION,
    BadRadiographError,
    decode_noted,
    digest_of,
    read_content,
    resize_with_pad,
)
from mura_tf.files import remove_parts, sync, whole_path, written_whole
from mura_tf.terminal import Notice, track

_CHUNK = 128
"""Images between two writes. A kill costs two chunks at most: one being written, one decoded."""


class FileKey(NamedTuple):
    """A file as the system knows it; one that was replaced or written to has another key.

    Its time of change can be set, and `rsync -t` does so; `ctime` and `inode` cannot.
    """

    path: str
    size: int
    mtime: int
    ctime: int
    inode: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> "FileKey":
        """OSError where there is no such file."""
        status = os.stat(path)
        times = status.st_mtime_ns, status.st_ctime_ns
        return cls(whole_path(path), status.st_size, *times, status.st_ino)

    @property
    def is_same(self) -> bool:
        """Whether the file is still there as it was."""
        try:
            return FileKey.of(self.path) == self
        except OSError:
            return False


class Entry(NamedTuple):
    """What the cache knows of a file.

    Attributes:
        row: where its square lies.
        checksum: of the square, CRC-32.
        digest: of the file's content, see `digest_of`.
        height, width: of the radiograph, pixels.
        note: see `decode_noted`; also of an image that is blank, or nearly.
    """

    row: int
    checksum: int
    digest: str
    height: int
    width: int
    note: str


_VALUES = len(FileKey._fields) + len(Entry._fields)
"""Of a line of the index, behind the path."""
_CHECKED: set[tuple[int, int, int, int]] = set()
"""Device and inode of an `images.u8`, row and checksum of each square this process has read."""


class Squares(NamedTuple):
    """What the cache holds at a moment.

    Attributes:
        entries: of every file whose square is on disk, by today's reader, and not `damaged`.
        images: uint8 (rows, S, S), read-only memory map, to which the entries' rows belong.
        damaged: rows whose squares are not what the index says.
    """

    entries: dict[FileKey, Entry]
    images: np.ndarray
    damaged: set[int]


_Decoded = tuple[np.ndarray | None, Entry] | BadRadiographError


class Store:
    """Squares of one size: `images.u8`, one after the other, and `index.jsonl`, a line per file.

    A line holds a `FileKey`, its `Entry` and the `READER_VERSION`. It is written after the square
    is on disk, and both files only grow, except under the lock; so readers need no lock, and what a
    kill leaves behind is overwritten. Files of equal content share a square.
    """

    def __init__(self, cache_dir: Path, image_size: int, resize: str = "bilinear"):
        self.folder = cache_dir / (f"{image_size}px" + f"-{resize}" * (resize != "bilinear"))
        self.size, self.resize = image_size, resize
        self.index_path = self.folder / "index.jsonl"
        self.images_path = self.folder / "images.u8"
        with self._failures_explained("made"):
            self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Waits until no other process writes here.

        Raises:
            OSError: the folder cannot be locked or written to; the message names it and the mend.
        """
        lock = FileLock(self.folder / "lock")
        with self._failures_explained("locked"):
            lock.acquire()
        try:
            remove_parts(self.folder)  # of a killed compaction, as large as the cache
            yield
        finally:
            lock.release()

    def squares(self, files: Iterable[FileKey]) -> Squares:
        """What there is of `files` and of all others, the squares of `files` checked."""
        parsed = self._parsed()
        images: np.ndarray = np.empty((0, self.size, self.size), np.uint8)
        where = 0, 0
        with suppress(FileNotFoundError), open(self.images_path, "rb") as file:
            if rows := os.fstat(file.fileno()).st_size // self.size**2:
                images = np.memmap(file, np.uint8, "r", shape=(rows, self.size, self.size))
                where = _where(file)
        entries = {one: entry for one, entry, _ in parsed if entry and entry.row < len(images)}
        asked = {entries[file] for file in files if file in entries}
        unread = [one for one in asked if (*where, one.row, one.checksum) not in _CHECKED]
        parts = [unread[start : start + _CHUNK] for start in range(0, len(unread), _CHUNK)]
        with ThreadPoolExecutor(usable_cores()) as pool:
            found = pool.map(lambda part: [one for one in part if not _fits(images, one)], parts)
            damaged = {one.row for part in found for one in part}
        _CHECKED.update((*where, one.row, one.checksum) for one in unread if one.row not in damaged)
        sound = {file: one for file, one in entries.items() if one.row not in damaged}
        return Squares(sound, images, damaged)

    def mend(self) -> None:
        """Cuts both files back to what they agree on. Only under the lock."""
        parsed, rows = self._parsed(), self._rows_on_disk()
        known = [entry for _, entry, _ in parsed if entry]
        kept = [(file, entry, line) for file, entry, line in parsed if entry and entry.row < rows]
        outdated, cut = len(parsed) - len(known), {one.row for one in known if one.row >= rows}
        if outdated:
            warnings.warn(
                f"{outdated} files in {self.folder} were prepared by another version of mura_tf. "
                "They are prepared again.",
                Notice,
                stacklevel=3,
            )
        if cut:
            warnings.warn(
                f"{self.images_path} is cut short: expected {1 + max(cut)} images, found {rows}. "
                f"The other {len(cut)} are prepared again.",
                Notice,
                stacklevel=3,
            )
        with self._failures_explained():
            if outdated or cut:
                self._rewrite({file: entry for file, entry, _ in kept})
                return
            used = 1 + max((entry.row for entry in known), default=-1)
            for path, length in (
                (self.index_path, sum(len(line) for *_, line in kept)),
                (self.images_path, used * self.size**2),
            ):
                path.touch()
                if path.stat().st_size > length:  # Windows cuts no file that is mapped
                    os.truncate(path, length)

    def add(self, files: list[FileKey], there: Squares, progress: bool) -> dict[FileKey, str]:
        """Adds `files`; returns the unreadable ones, file -> reason. Only under the lock, mended.

        A file whose content is known from another gets the square of that. While one chunk is
        written the next is decoded.

        Args:
            there: of `squares`, now.
        """
        problems = {}
        chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
        known = {entry.digest: entry for entry in there.entries.values()}
        next_row = self._rows_on_disk()
        with (
            self._failures_explained("written", len(files)),
            ThreadPoolExecutor(usable_cores()) as pool,
            open(self.images_path, "ab") as images,
            open(self.index_path, "ab") as index,
        ):

            def decoded(chunk: list[FileKey]) -> Iterator[_Decoded]:
                return pool.map(lambda file: self._decoded(file, known, there.images), chunk)

            upcoming = decoded(files[:_CHUNK])
            pairs = list(pairwise([*chunks, []]))
            for chunk, following in track(pairs, "Preparing", shown=progress):
                results, upcoming = upcoming, decoded(following)
                lines, written = [], []
                for file, result in zip(chunk, results, strict=True):
                    if isinstance(result, BadRadiographError):
                        problems[file] = result.reason
                        continue
                    square, entry = result
                    if square is not None and entry.digest not in known:
                        known[entry.digest] = entry._replace(row=next_row)
                        images.write(square.data)
                        written.append((next_row, entry.checksum))
                        next_row += 1
                    lines.append(_line(file, known.get(entry.digest, entry)))
                images.flush()
                sync(images.fileno())
                _CHECKED.update((*_where(images), row, checksum) for row, checksum in written)
                index.write(b"".join(lines))
                index.flush()
        return problems

    def compact(self) -> tuple[int, int]:
        """Drops the squares that no file has any more: (how many, how many are left).

        A file that changed, or is gone, has lost its square. Processes that have the squares mapped
        keep the old ones.
        """
        with self.locked():
            rows = self._rows_on_disk()
            self.mend()
            entries = self.squares([]).entries
            with self._failures_explained():
                left = self._rewrite({file: one for file, one in entries.items() if file.is_same})
        return rows - left, left

    def _rewrite(self, entries: dict[FileKey, Entry]) -> int:
        """Both files anew, with the squares of `entries` alone; returns how many these are.

        A kill between the two renames leaves an index of squares that lie elsewhere; the checksums
        tell.
        """
        old_rows = sorted({entry.row for entry in entries.values()})
        row_of = {row: number for number, row in enumerate(old_rows)}
        lines = [
            _line(file, entry._replace(row=row_of[entry.row])) for file, entry in entries.items()
        ]
        with (
            written_whole(self.index_path) as index,
            written_whole(self.images_path) as images,
        ):
            index.write_bytes(b"".join(lines))
            with open(images, "wb") as new:
                squares = self.squares([]).images
                for row in old_rows:
                    new.write(squares[row].data)
                del squares  # Windows replaces no file that is mapped
        return len(old_rows)

    def _decoded(self, file: FileKey, known: dict[str, Entry], images: np.ndarray) -> _Decoded:
        """A file's square and entry; no square where a file of equal content has one."""
        try:
            content = read_content(file.path)
            digest = digest_of(content)
            if same := known.get(digest):
                if same.row >= len(images) or _fits(images, same):  # the first are just written
                    return None, same
                known.pop(digest, None)
            image, note = decode_noted(content, file.path)
        except BadRadiographError as error:
            return error
        square = resize_with_pad(image, self.size, self.resize)
        spread = int(image.max()) - int(image.min())
        if spread < TINY_RANGE:
            note = f"{note}; " * bool(note) + f"all of it lies within {spread + 1} grey levels"
        height, width = image.shape
        return square, Entry(-1, zlib.crc32(square.data), digest, height, width, note)

    def _parsed(self) -> list[tuple[FileKey, Entry | None, bytes]]:
        """File, entry and line of each whole line; no entry where another version wrote it."""
        if not self.index_path.exists():
            return []
        lines = self.index_path.read_bytes().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        try:
            return [(*_read_line(line), line) for line in lines]
        except (ValueError, TypeError):
            raise ValueError(
                f"{self.index_path} must hold one JSON list a line and does not. Delete the "
                f"folder {self.folder}: it is made again from the radiographs."
            ) from None

    def _rows_on_disk(self) -> int:
        if not self.images_path.exists():
            return 0
        return self.images_path.stat().st_size // self.size**2

    @contextmanager
    def _failures_explained(self, verb: str = "written", views: int = 0) -> Iterator[None]:
        """An OSError within says which folder it is about, and how to choose another."""
        try:
            yield
        except (OSError, NotImplementedError) as error:  # the latter from a disk without locks
            reason = getattr(error, "strerror", None) or str(error)
            if views:
                gigabytes = views * self.size**2 / 1e9
                reason += f"; {views:,} views take {gigabytes:,.2f} GB, and those done are kept"
            raise OSError(
                f"the cache of prepared images in {self.folder} cannot be {verb}: {reason}. Give "
                "another folder, with --cache-dir or in $MURA_TF_CACHE, or mend this one."
            ) from error


def _where(file: BinaryIO) -> tuple[int, int]:
    """What names an open file for as long as it exists."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def _fits(images: np.ndarray, entry: Entry) -> bool:
    """Whether an entry's square is the one that was written for it."""
    return zlib.crc32(images[entry.row]) == entry.checksum


def _line(file: FileKey, entry: Entry) -> bytes:
    return json.dumps([*file, *entry, READER_VERSION]).encode() + b"\n"


def _read_line(line: bytes) -> tuple[FileKey, Entry | None]:
    """ValueError or TypeError where the line is none of `_line`, of this version or another."""
    path, *values = json.loads(line)
    if not isinstance(path, str):
        raise TypeError
    if len(values) != _VALUES or values[-1] != READER_VERSION:
        return FileKey(path, 0, 0, 0, 0), None
    entry = Entry(*values[4:-1])
    if not (isinstance(entry.row, int) and isinstance(entry.digest, str) and entry.row >= 0):
        raise TypeError
    return FileKey(path, *values[:4]), entry
