"""Views table -> uint8 squares on disk, decoded once and shared by every run."""

import hashlib
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mura_tf.data.radiograph import FORMATS, RESIZES, os_reason, padded_box
from mura_tf.data.store import FileKey, Store
from mura_tf.data.table import VIEW_KEY
from mura_tf.terminal import Notice, track

MAX_SKIPPED = 0.2
"""The share of unreadable files that is gone on without, unless more are insisted on."""


class BadViewsError(ValueError):
    """Some files are no readable radiographs.

    Attributes:
        problems: DataFrame `path, reason`, one row per such file; the reason names the file again.
    """

    def __init__(self, problems: pd.DataFrame):
        self.problems = problems
        shown = "\n".join(f"  {reason}" for reason in problems.reason.head(10))
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        super().__init__(
            f"{len(problems)} files cannot be used, expected a readable {FORMATS} in each:\n"
            f"{shown}{more}\nReplace them, or go on without them (--skip-bad)."
        )

    def __reduce__(self) -> tuple[type, tuple[pd.DataFrame]]:
        return type(self), (self.problems,)  # so that other processes can raise it


@dataclass(frozen=True)
class PreparedViews:
    """The grey squares of a views table, in a cache that other tables share.

    Attributes:
        images: uint8 (rows of the cache, S, S), read-only memory map.
        rows: int (n_views,), where each view lies in `images`.
        digests: str (n_views,), a hash of each file's content.
        sizes: int (n_views, 2), height and width of each radiograph, pixels.
        notes: str (n_views,), what ought to be known of a picture, such as that 12 of its 16 bits
            are used; mostly "".
    """

    images: np.ndarray
    rows: np.ndarray
    digests: np.ndarray
    sizes: np.ndarray
    notes: np.ndarray

    @property
    def frames(self) -> np.ndarray:
        """Where each radiograph lies in its square, see `padded_box`: int (n_views, 4)."""
        side = self.images.shape[1]
        frames = [padded_box(high, wide, side) for high, wide in self.sizes.tolist()]
        return np.array(frames, int).reshape(-1, 4)


def prepare(
    views: pd.DataFrame,
    image_size: int,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    resize: str = "bilinear",
    progress: bool = False,
) -> PreparedViews:
    """Decodes, resizes and pads every view once, on all cores.

    The cache grows by what it lacks: any table whose files are in it is served at once. A file is
    known by path, size, times of change and inode; if one of these is another, it is read again,
    and decoded again if its content is another as well. Each square that is handed out has been
    compared with its checksum by this process; one that does not fit is prepared again, with a
    warning. Killed on the way, it goes on where it was; a second builder waits for the first and
    finds the work done.

    Args:
        views: views table; only `path` is read.
        image_size: side S of the squares, pixels.
        cache_dir: folder of the cache; by default `$MURA_TF_CACHE`, or `mura_tf` in the user's
            cache folder. S * S bytes a view: all of MURA at 300 px takes 3.6 GB.
        resize: "bilinear", or "area", which is antialiased; see `resize_with_pad`.
        progress: whether to show a progress bar.

    Raises:
        BadViewsError: some files are unreadable; all of them are listed, and the others are kept.
        ValueError: no view, an image size below 1, or an unknown `resize`.
        OSError: the cache cannot be written to or locked.

    Examples:
        >>> views = mt.load_mura("demo/MURA-v1.1")
        >>> prepared = mt.prepare(views, 64)
        >>> prepared.images[prepared.rows[:3]].shape
        (3, 64, 64)
    """
    if views.empty:
        raise ValueError("views holds no row, expected at least one radiograph.")
    store = _store(image_size, cache_dir, resize)
    paths = views.path.tolist()
    files, problems = _found(paths, progress)
    there = store.squares(files.values())
    if any(file not in there.entries for file in files.values()):
        del there  # Windows replaces no file that is mapped
        with store.locked():
            store.mend()
            there = store.squares(files.values())
            if there.damaged:
                warnings.warn(
                    f"{len(there.damaged)} images in {store.images_path} are not those that its "
                    "index names. They are prepared again.",
                    Notice,
                    stacklevel=2,
                )
            lacking = dict.fromkeys(file for file in files.values() if file not in there.entries)
            bad = store.add(list(lacking), there, progress)
            problems |= {path: bad[file] for path, file in files.items() if file in bad}
            there = store.squares(files.values())
    if problems:
        rows = [(path, f"{path}: {problems[path]}") for path in sorted(problems)]
        raise BadViewsError(pd.DataFrame(rows, columns=["path", "reason"]))
    found = [there.entries[files[path]] for path in paths]
    return PreparedViews(
        images=there.images,
        rows=np.array([one.row for one in found], np.int64),
        digests=np.array([one.digest for one in found], str),
        sizes=np.array([(one.height, one.width) for one in found], np.int64),
        notes=np.array([one.note for one in found], str),
    )


def prepare_readable(
    views: pd.DataFrame,
    image_size: int,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    resize: str = "bilinear",
    skip_bad: bool | float = False,
    progress: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame, PreparedViews]:
    """`prepare`, without the unreadable files if `skip_bad`.

    Args:
        views, image_size, cache_dir, resize, progress: see `prepare`.
        skip_bad: whether to go on without unreadable files, of which there may be up to
            `MAX_SKIPPED`; or the share that there may be, in [0, 1].

    Returns:
        The readable views; `path, reason` of the others; the squares of the readable ones.

    Raises:
        BadViewsError: some files are unreadable, unless `skip_bad`; or all of them are.
        ValueError: more are unreadable than `skip_bad` lets pass, or it is no share.

    Warns:
        Notice: how many files are left out, and of which kind; and `PreparedViews.notes`.
    """
    if not 0 <= skip_bad <= 1:
        raise ValueError(
            f"skip_bad must be True, False or a share in [0, 1]. Received: {skip_bad!r}."
        )
    problems = pd.DataFrame(columns=["path", "reason"])
    try:
        prepared = prepare(views, image_size, cache_dir, resize=resize, progress=progress)
    except BadViewsError as error:
        problems = error.problems
        readable = views[~views.path.isin(problems.path)].reset_index(drop=True)
        if not skip_bad or readable.empty:
            raise
        left_out, total = len(views) - len(readable), len(views)
        sentence = f"{left_out} of {total} views are left out: {_kinds(problems)}"
        if left_out > (share := MAX_SKIPPED if skip_bad is True else skip_bad) * total:
            raise ValueError(
                f"{sentence}. --skip-bad leaves out {share:.0%} at most. Mend them, or allow more "
                "with --max-skipped (in Python skip_bad=0.5, a share)."
            ) from error
        warnings.warn(f"{sentence}.", Notice, stacklevel=2)
        views = readable
        prepared = prepare(views, image_size, cache_dir, resize=resize, progress=progress)
    _warn_of_notes(views, prepared.notes)
    return views, problems, prepared


def compact_cache(
    image_size: int,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    resize: str = "bilinear",
) -> tuple[int, int]:
    """Frees what the cache of this size keeps of files that changed or are gone.

    Args:
        image_size, cache_dir, resize: see `prepare`.

    Returns:
        How many squares are dropped, and how many are left.

    Raises:
        OSError: the cache cannot be written to or locked.
    """
    return _store(image_size, cache_dir, resize).compact()


def data_fingerprint(
    views: pd.DataFrame, digests: np.ndarray, boxes: pd.DataFrame | None = None
) -> str:
    """A hash of what a table says and its files hold; where they lie does not matter.

    That of boxes stands behind a "+", so that those who do not learn from them have the same data.
    """
    hashes = [_hash_of(views.drop(columns="path").assign(digest=digests))]
    if boxes is not None:
        hashes.append(_hash_of(boxes))
    return "+".join(hashes)


def _hash_of(table: pd.DataFrame) -> str:
    """16 hexadecimal digits, whatever the order of the rows."""
    lines = table.astype(object).where(table.notna(), "unknown").astype(str)
    rows = sorted("\t".join(row) for row in lines.itertuples(index=False))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def picture_marks(views: pd.DataFrame, digests: Iterable[str]) -> list[str]:
    """A mark per view, 12 hexadecimal digits: which view it is, and what its file holds."""
    keys = views[VIEW_KEY].itertuples(index=False, name=None)
    lines = ["\t".join([*key, digest]) for key, digest in zip(keys, digests, strict=True)]
    return [hashlib.sha256(line.encode()).hexdigest()[:12] for line in lines]


def default_cache_dir() -> Path:
    """`$MURA_TF_CACHE`, or `mura_tf` in `$XDG_CACHE_HOME`, or `~/.cache/mura_tf`."""
    if os.environ.get("MURA_TF_CACHE"):
        return Path(os.environ["MURA_TF_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mura_tf"


def _store(image_size: int, cache_dir: str | os.PathLike[str] | None, resize: str) -> Store:
    if image_size < 1:
        raise ValueError(f"image_size must be a whole number from 1 up. Received: {image_size}.")
    if resize not in RESIZES:
        raise ValueError(f"resize must be one of {', '.join(RESIZES)}. Received: {resize!r}.")
    return Store(Path(cache_dir or default_cache_dir()), image_size, resize)


def _found(paths: list[str], progress: bool) -> tuple[dict[str, FileKey], dict[str, str]]:
    """path -> its file; path -> reason, of those without."""
    files: dict[str, FileKey] = {}
    problems: dict[str, str] = {}
    for path in track(paths, "Looking at the files", shown=progress):
        try:
            files[path] = FileKey.of(path)
        except OSError as error:
            problems[path] = os_reason(error)
    return files, problems


def _kinds(problems: pd.DataFrame) -> str:
    """How many files have which reason, the first of each named."""
    reasons = [
        reason.removeprefix(f"{path}: ")
        for path, reason in problems.itertuples(index=False, name=None)
    ]
    paths = problems.path.groupby(reasons, sort=False).agg(["size", "first"])
    paths = paths.sort_values("size", ascending=False, kind="stable")
    return "; ".join(
        f"{count} x {kind} ({first})" for kind, count, first in paths.itertuples(name=None)
    )


def _warn_of_notes(views: pd.DataFrame, notes: np.ndarray) -> None:
    noted = views.assign(note=notes)[notes != ""]
    for note, group in noted.groupby("note"):
        warnings.warn(
            f"{note}: {len(group)} of {len(views)} views, the first {group.path.iloc[0]}.",
            Notice,
            stacklevel=3,
        )
