"""Files that appear whole or not at all, on whatever system and disk."""

import errno
import json
import os
import platform
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from mura_tf.terminal import Notice

NOT_ON_THIS_DISK = {
    errno.EINVAL,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EPERM,
}
"""How shares (CIFS, FUSE, NFS) refuse what they do not have."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""How a disk that is full refuses, which names no file."""
_HOST = re.sub(r"\W", "_", platform.node())
_PATIENCE = 5.0
"""Seconds for which a file is waited for that another program has open."""


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside `path` to write to; renames it to `path` when the block succeeds.

    A reader sees the old file or the new one, never a part. If the block raises (a full disk, say),
    the part is removed and `path` stays as it was. The temporary name keeps the suffix, because
    Keras and Matplotlib choose the format by it. A file that others have open is replaced when they
    close it, where the system insists on that (Windows).

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with written_whole(f"{folder}/scores.csv") as part:
    ...         _ = part.write_text("kappa 0.717")
    ...     Path(folder, "scores.csv").read_text()
    'kappa 0.717'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes)
    part = None
    try:
        handle, part = tempfile.mkstemp(prefix=_prefix(), suffix=suffix, dir=path.parent)
        os.close(handle)
        yield Path(part)
        with open(part, "rb+") as file:
            sync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        with suppress(OSError):  # mkstemp makes private files; results are for sharing
            os.chmod(part, 0o666 & ~umask)
        _replace(part, path)
    except BaseException as error:
        if part:
            with suppress(OSError):
                os.unlink(part)
        if isinstance(error, OSError) and (
            error.errno in FULL
            if error.filename is None
            else part is None or os.fspath(error.filename) == part
        ):
            error.filename, error.filename2 = os.fspath(path), None
        raise


@contextmanager
def folder_aside(parent: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder in `parent` from which what is whole is moved to its place; it is removed then.

    Those of killed processes of this machine are removed first.
    """
    Path(parent).mkdir(parents=True, exist_ok=True)
    remove_lost_parts(parent)
    with tempfile.TemporaryDirectory(prefix=_prefix(), dir=parent) as aside:
        yield Path(aside)


def _prefix() -> str:
    """Of what this process has begun to write."""
    return f".part-{_HOST}-{os.getpid()}-"


def sync(handle: int) -> None:
    """Waits until what was written to an open file is on the disk, if the disk can tell."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NOT_ON_THIS_DISK:
            raise


def _replace(part: str, path: Path) -> None:
    """On Windows, and on its shares, no file is replaced while somebody has it open."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return os.replace(part, path)
        except PermissionError as error:
            if error.errno != errno.EACCES:  # as Windows and its shares refuse what is open
                error.filename, error.filename2 = os.fspath(path), None
                raise
            if time.monotonic() > deadline or path.is_dir():
                raise PermissionError(
                    error.errno,
                    "it cannot be replaced, perhaps because another program has it open",
                    os.fspath(path),
                ) from error
        time.sleep(0.05)


def whole_path(path: str | os.PathLike[str]) -> str:
    """An absolute path to the file that `path` leads to.

    Where it goes up (`link/../a.png`), the system goes up from where a link leads, so that the
    links have to be followed first.
    """
    return (os.path.realpath if os.pardir in Path(path).parts else os.path.abspath)(path)


def _raise(error: OSError) -> None:
    raise error


def walked(
    folder: str | os.PathLike[str], on_error: Callable[[OSError], object] = _raise
) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` that follows links, but for those back to a folder that it has come through.

    Args:
        folder: where to begin.
        on_error: gets what says that a folder cannot be listed; by default it is raised.
    """
    above = {os.fspath(folder): {os.path.realpath(folder)}}
    for parent, folders, files in os.walk(os.fspath(folder), onerror=on_error, followlinks=True):
        through = above.pop(parent)
        below: dict[str, set[str]] = {}
        for name in folders:
            real = os.path.realpath(os.path.join(parent, name))
            if real not in through:
                below[name] = through | {real}
        folders[:] = below
        yield parent, folders, files
        above |= {os.path.join(parent, name): below[name] for name in folders}


def remove_parts(folder: str | os.PathLike[str]) -> None:
    """Removes what others had begun to write into `folder`, where nobody else can be at it."""
    _remove(Path(folder).glob(".part-*"))


def remove_lost_parts(folder: str | os.PathLike[str]) -> None:
    """Removes what processes of this machine that are no more had begun to write into `folder`."""
    parts = Path(folder).glob(f".part-{_HOST}-*")
    _remove(part for part in parts if not _alive(part.name.removeprefix(f".part-{_HOST}-")))


def _alive(owner: str) -> bool:
    """Whether the process lives whose number a name begins with; on Windows it is not asked."""
    number = owner.partition("-")[0]
    if os.name != "posix" or not number.isdecimal():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _remove(parts: Iterable[Path]) -> None:
    for part in parts:
        with suppress(OSError):  # another process may be removing it
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink()


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Waits until no other process works in `folder`; on a disk without locks it says so."""
    lock = FileLock(Path(folder) / ".lock")
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NOT_ON_THIS_DISK:
            raise
        warnings.warn(
            f"{folder} lies on a disk without locks: see to it that nothing else works there.",
            Notice,
            stacklevel=4,
        )
    try:
        yield
    finally:
        lock.release()


def is_refusal(error: BaseException) -> bool:
    """Whether the system refused, or had no memory left: no fault of what a file holds."""
    if isinstance(error, OSError):  # EINVAL: of a place that a damaged file points to
        return error.errno not in (None, errno.EINVAL)
    return isinstance(error, MemoryError)


def write_texts(folder: str | os.PathLike[str], texts: Mapping[str, str]) -> None:
    """Writes each text to the file of its name in `folder`, whole."""
    for name, text in texts.items():
        with written_whole(Path(folder) / name) as part:
            part.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Mapping[str, object]) -> None:
    """Writes `content` as indented JSON, whole."""
    with written_whole(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
