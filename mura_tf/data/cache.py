"""Views table -> uint8 squares on disk, decoded once and shared by every run."""

import hashlib
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from mura_tf.cores import usable_cores
from mura_tf.data.radiograph import (
    BadRadiographError,
    decode_radiograph,
    os_reason,
    read_content,
    resize_with_pad,
)
from mura_tf.terminal import Notice, track

_CHUNK = 128
"""Images between two writes. A kill costs two chunks at most: one being written, one decoded."""
_File = tuple[str, int, int]
"""Absolute path, bytes, time of change in ns."""


class BadViewsError(ValueError):
    """Some files are no readable radiographs.

    Attributes:
        problems: DataFrame `path, reason`, one row per such file.
    """

    def __init__(self, problems: pd.DataFrame):
        self.problems = problems
        shown = "\n".join(f"  {reason}" for reason in problems.reason.head(10))
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        super().__init__(
            f"{len(problems)} files cannot be used, expected a readable PNG or JPEG in each:\n"
            f"{shown}{more}\nReplace them, or go on without them (--skip-bad)."
        )


@dataclass(frozen=True)
class PreparedViews:
    """The grey squares of a views table, in a cache that other tables share.

    Attributes:
        images: uint8 (rows of the cache, S, S), read-only memory map.
        rows: int (n_views,), where each view lies in `images`.
        digests: str (n_views,), a hash of each file's content.
    """

    images: np.ndarray
    rows: np.ndarray
    digests: np.ndarray


def prepare(
    views: pd.DataFrame,
    image_size: int,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    progress: bool = False,
) -> PreparedViews:
    """Decodes, resizes and pads every view once, on all cores.

    The cache grows by what it lacks: any table whose files are in it (same path, size and time of
    change) is served at once. Killed on the way, it goes on where it was; a second builder waits
    for the first and finds the work done.

    Args:
        views: views table; only `path` is read.
        image_size: side S of the squares, pixels.
        cache_dir: folder of the cache; by default `$MURA_TF_CACHE`, or `mura_tf` in the user's
            cache folder. S * S bytes a view: all of MURA at 300 px takes 3.6 GB.
        progress: whether to show a progress bar.

    Raises:
        BadViewsError: some files are unreadable; all of them are listed, and the others are kept.
        ValueError: no view, or an image size below 1.

    Examples:
        >>> views = mt.load_mura("demo/MURA-v1.1")
        >>> prepared = mt.prepare(views, 64)
        >>> prepared.images[prepared.rows[:3]].shape
        (3, 64, 64)
    """
    if views.empty:
        raise ValueError("views holds no row, expected at least one radiograph.")
    if image_size < 1:
        raise ValueError(f"image_size must be a whole number from 1 up. Received: {image_size}.")
    store = _Store(Path(cache_dir or default_cache_dir()), image_size)
    paths = views.path.tolist()
    files, problems = _stat_all(paths, progress)
    entries = store.entries()
    if any(file not in entries for file in files.values()):
        with store.lock:
            entries = store.mend()
            lacking = [file for file in files.values() if file not in entries]
            bad = store.add(list(dict.fromkeys(lacking)), progress)
            problems |= {path: bad[file] for path, file in files.items() if file in bad}
            entries = store.entries()
    if problems:
        raise BadViewsError(
            pd.DataFrame(
                sorted(problems.items(), key=lambda item: item[0]), columns=["path", "reason"]
            )
        )
    found = [entries[files[path]] for path in paths]
    return PreparedViews(
        images=store.images(),
        rows=np.array([row for row, _ in found], np.int64),
        digests=np.array([digest for _, digest in found], str),
    )


def prepare_readable(
    views: pd.DataFrame,
    image_size: int,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    skip_bad: bool = False,
    progress: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame, PreparedViews]:
    """`prepare`, without the unreadable files if `skip_bad`.

    Returns:
        The readable views; `path, reason` of the others; the squares of the readable ones.

    Raises:
        BadViewsError: some files are unreadable, unless `skip_bad`; or all of them are.
    """
    try:
        prepared = prepare(views, image_size, cache_dir, progress=progress)
    except BadViewsError as error:
        readable = views[~views.path.isin(error.problems.path)].reset_index(drop=True)
        if not skip_bad or readable.empty:
            raise
        prepared = prepare(readable, image_size, cache_dir, progress=progress)
        return readable, error.problems, prepared
    return views, pd.DataFrame(columns=["path", "reason"]), prepared


def data_fingerprint(views: pd.DataFrame, digests: np.ndarray) -> str:
    """A hash of what a table says and its files hold; where they lie does not matter."""
    lines = views.drop(columns="path").assign(digest=digests).astype(str)
    rows = sorted("\t".join(row) for row in lines.itertuples(index=False))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def default_cache_dir() -> Path:
    """`$MURA_TF_CACHE`, or `mura_tf` in `$XDG_CACHE_HOME`, or `~/.cache/mura_tf`."""
    if os.environ.get("MURA_TF_CACHE"):
        return Path(os.environ["MURA_TF_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mura_tf"


class _Store:
    """Squares of one size: `images.u8`, one after the other, and `index.jsonl`, a line for each.

    Both only grow. A square counts once its index line is whole, and that is written after the
    square is on disk; so readers need no lock, and what a kill leaves behind is overwritten.
    """

    def __init__(self, cache_dir: Path, image_size: int):
        self.folder = cache_dir / f"{image_size}px"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.size = image_size
        self.index_path = self.folder / "index.jsonl"
        self.images_path = self.folder / "images.u8"
        self.lock = FileLock(self.folder / "lock")

    def entries(self) -> dict[_File, tuple[int, str]]:
        """File -> (row, digest), for the rows that are whole."""
        lines = self._whole_lines()[: self._rows_on_disk()]
        try:
            parsed = [json.loads(line) for line in lines]
            return {tuple(file): (row, digest) for row, (*file, digest) in enumerate(parsed)}
        except (ValueError, TypeError):
            raise ValueError(
                f"{self.index_path} must hold one JSON list a line and does not. Delete the "
                f"folder {self.folder}: it is made again from the radiographs."
            ) from None

    def images(self) -> np.ndarray:
        rows = self._rows_on_disk()
        return np.memmap(self.images_path, np.uint8, "r", shape=(rows, self.size, self.size))

    def mend(self) -> dict[_File, tuple[int, str]]:
        """Cuts both files back to the rows they agree on; returns `entries`."""
        lines, rows = self._whole_lines(), self._rows_on_disk()
        if len(lines) > rows:
            warnings.warn(
                f"{self.images_path} is cut short: expected {len(lines)} images, found {rows}. "
                f"The other {len(lines) - rows} are prepared again.",
                Notice,
                stacklevel=3,
            )
        kept = lines[:rows]
        for path, length in (
            (self.index_path, sum(len(line) for line in kept)),
            (self.images_path, len(kept) * self.size**2),
        ):
            path.touch()
            os.truncate(path, length)
        return self.entries()

    def add(self, files: list[_File], progress: bool) -> dict[_File, str]:
        """Appends the squares of `files`; returns the unreadable ones, file -> reason.

        While one chunk is written the next is decoded.
        """
        problems = {}
        chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
        with (
            ThreadPoolExecutor(usable_cores()) as pool,
            open(self.images_path, "ab") as images,
            open(self.index_path, "ab") as index,
        ):
            upcoming = pool.map(self._square, files[:_CHUNK])
            pairs = list(pairwise([*chunks, []]))
            for chunk, following in track(pairs, "Preparing", shown=progress):
                results, upcoming = upcoming, pool.map(self._square, following)
                lines = []
                for file, result in zip(chunk, results, strict=True):
                    if isinstance(result, BadRadiographError):
                        problems[file] = str(result)
                        continue
                    square, digest = result
                    images.write(square.data)
                    lines.append(json.dumps([*file, digest]) + "\n")
                images.flush()
                os.fsync(images.fileno())
                index.write("".join(lines).encode())
                index.flush()
        return problems

    def _square(self, file: _File) -> tuple[np.ndarray, str] | BadRadiographError:
        path = file[0]
        try:
            content = read_content(path)
            square = resize_with_pad(decode_radiograph(content, path), self.size)
        except BadRadiographError as error:
            return error
        return square, hashlib.blake2b(content, digest_size=16).hexdigest()

    def _whole_lines(self) -> list[bytes]:
        if not self.index_path.exists():
            return []
        lines = self.index_path.read_bytes().splitlines(keepends=True)
        return lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]

    def _rows_on_disk(self) -> int:
        if not self.images_path.exists():
            return 0
        return self.images_path.stat().st_size // self.size**2


def _stat_all(paths: list[str], progress: bool) -> tuple[dict[str, _File], dict[str, str]]:
    """path -> file; path -> reason for those without."""
    files, problems = {}, {}
    for path in track(paths, "Looking at the files", shown=progress):
        try:
            status = os.stat(path)
        except OSError as error:
            problems[path] = f"{path}: {os_reason(error)}"
        else:
            files[path] = (os.path.abspath(path), status.st_size, status.st_mtime_ns)
    return files, problems
