"""Files that appear whole or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside `path` to write to; renames it to `path` when the block succeeds.

    A reader sees the old file or the new one, never a part. If the block raises (a full disk, say),
    the part is removed and `path` stays as it was. The temporary name keeps the suffix, because
    Keras and Matplotlib choose the format by it.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with written_whole(f"{folder}/scores.csv") as part:
    ...         _ = part.write_text("kappa 0.717")
    ...     Path(folder, "scores.csv").read_text()
    'kappa 0.717'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes)
    handle, part = tempfile.mkstemp(prefix=".part-", suffix=suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(part)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)  # mkstemp makes private files; results are for sharing
        os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise


def remove_parts(folder: str | os.PathLike[str]) -> None:
    """Removes what a killed process had begun to write into `folder`."""
    for part in Path(folder).glob(".part-*"):
        part.unlink()


def write_texts(folder: str | os.PathLike[str], texts: Mapping[str, str]) -> None:
    """Writes each text to the file of its name in `folder`, whole."""
    for name, text in texts.items():
        with written_whole(Path(folder) / name) as part:
            part.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Mapping[str, object]) -> None:
    """Writes `content` as indented JSON, whole."""
    with written_whole(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
