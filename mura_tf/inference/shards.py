"""Any number of studies into one folder: shard by shard, here or on a cluster, on after a kill.

Studies are grouped by paths and headers; a shard of them is then read, and appears whole, with its
pictures, below `OUT/.shards`. Its name is made of the model's bytes, the options and each file's
size and times: what is found under it is what would be read again. The tables are put together
from the shards in the order of the studies, and nothing but them stays.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import mura_tf
from mura_tf.data.store import FileKey
from mura_tf.data.text import read_object, read_table
from mura_tf.files import locked, remove_parts, sync, write_json
from mura_tf.grid.engines import Engine, RayEngine
from mura_tf.inference.bundle import Bundle, groups
from mura_tf.inference.sources import Study, find_studies, require_apart
from mura_tf.inference.walk import WRITTEN_FOLDERS
from mura_tf.inference.write import Record, recorded, require_own_tables, write_records
from mura_tf.reports.picture_names import PictureNames
from mura_tf.terminal import waiting

VIEWS = 64
"""Of a shard, about."""
AHEAD = 1000
"""Shards that are asked for before the first of them is done."""
RETRIES = 3
"""How often a shard goes to another process where its own has died."""
SHARDS, RECORDS = ".shards", "records.jsonl"
FORMAT = 2
"""Of a shard's records; those of another are not looked at."""


def read_into(
    bundle: Bundle,
    sources: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    study_type: str | None = None,
    each_file: bool = False,
    point: str | None = None,
    dicom: bool = False,
    engine: Engine | None = None,
    told: Callable[[Record], None] = lambda record: None,
) -> Counter[str]:
    """Reads files and writes what `write_findings` does; a repeated call goes on after a kill.

    Of studies that were read before a kill only those are read again whose files, model or options
    have changed since. Tables take the place of an earlier call's, and its pictures and objects
    that these do not name are removed. However many there are, no more than the paths of all and
    the pixels of a few batches are held. Where another call writes into `out`, this one waits.

    Args:
        bundle: that reads.
        sources, study_type, each_file, point: see `Bundle.read`.
        out: the folder that gets the tables, the page and the pictures.
        dicom: whether DICOM studies' heatmaps and reports go to `out/dicom`.
        engine: of `ray_engine`, closed at the end; by default this process reads. All nodes see
            the files, the model and `out` under the same paths.
        told: called with each study's record, in order.

    Returns:
        See `write_findings`.

    Raises:
        FileNotFoundError, ValueError: see `Bundle.read`.
        RuntimeError: the processes that read a shard have died, `RETRIES` times over.
    """
    engine, out, sources = engine or _Here(bundle), Path(out), list(sources)
    shards = out.absolute() / SHARDS
    order = {
        "model": bundle.source,
        "hash": bundle.hash,
        "study_type": study_type,
        "point": point,
        "dicom": dicom,
    }
    mark = json.dumps([FORMAT, mura_tf.__version__, bundle.facts, order])
    names, used, written = PictureNames(), list[Path](), set[str]()

    def orders(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
        for shard in groups(map(_absolute, studies), VIEWS):
            named = [(names(study.name), study) for study in shard]
            used.append(shards / _key(mark, named))
            yield order | {"folder": os.fspath(used[-1]), "studies": named}

    try:
        require_apart(sources, out)
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            require_own_tables(out)
            remove_parts(out)
            with waiting("Looking for studies"):
                studies = find_studies(
                    sources,
                    bundle.study_types,
                    unpacked=shards / "unpacked",
                    each_file=each_file,
                    out=out,
                )
            before = _pictured(out, shards)
            records = _each(_records(orders(studies), engine), told, written)
            counts = write_records(records, out, bundle.facts)
            for folder in used:
                _move_files(folder, out)
            _remove_files(out, before | set(names), written)
            if used:
                with tempfile.TemporaryDirectory(
                    prefix=".part-", dir=out, ignore_cleanup_errors=True
                ) as gone:
                    os.replace(shards, Path(gone) / SHARDS)  # whole, so that no half of it is found
    finally:
        engine.close()
    return counts


def ray_engine(address: str | None = None, cpus: float = 1, gpus: float = 0) -> RayEngine:
    """An engine that reads shards as tasks of Ray; see `RayEngine`."""
    return RayEngine(address, cpus, gpus, work=read_shard, retries=RETRIES)


def read_shard(order: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Reads one shard in a process that keeps the bundle open for the next one.

    Args:
        order: `model` and its `hash`, `folder` (that the shard gets), `studies` (pictures' names
            and `Study`s), `study_type`, `point` and `dicom`; of `read_into`.
        environment: what this process is given before it computes.
    """
    os.environ.update(environment)
    _read(_opened(order["model"], order["hash"]), order)


class _Here:
    """The engine that is this process: an order is done when it is submitted."""

    def __init__(self, bundle: Bundle):
        self._bundle = bundle

    def submit(self, order: Mapping[str, Any]) -> Future[None]:
        _read(self._bundle, order)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        pass


def _read(bundle: Bundle, order: Mapping[str, Any]) -> None:
    """Reads one shard, unless it is there."""
    folder, point = Path(order["folder"]), order["point"]
    if (folder / RECORDS).is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)  # of which a killed call had begun to remove a part
    names, studies = zip(*order["studies"], strict=True)
    findings = bundle.findings_of(studies, study_type=order["study_type"], point=point)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent) as aside:
        part = Path(aside) / folder.name
        part.mkdir()
        with open(part / RECORDS, "w", encoding="utf-8") as file:
            for name, finding in zip(names, findings, strict=True):
                objects: list[Path] = []
                if order["dicom"]:
                    from mura_tf.inference.dicom_out import write_dicom

                    objects = write_dicom(finding, part / "dicom", bundle, point, name=name)
                record = recorded(finding, name, part, bundle.facts)
                record.written.extend(one.relative_to(part).as_posix() for one in objects)
                file.write(json.dumps(asdict(record)) + "\n")
            file.flush()
            sync(file.fileno())
        try:
            os.replace(part, folder)
        except OSError:
            if not (folder / RECORDS).is_file():  # else another process was quicker
                raise


@lru_cache(maxsize=1)
def _opened(model: str | tuple[str, ...], expected: str) -> Bundle:
    bundle = Bundle(model)
    if bundle.hash != expected:
        raise ValueError(
            f"{model} must stay what it was when reading began, of hash {expected}. Received: one "
            f"of hash {bundle.hash}. Repeat the command."
        )
    return bundle


def _absolute(study: Study) -> Study:
    """With views that are found from any folder."""
    views = [one if isinstance(one, np.ndarray) else one.absolute() for one in study.views]
    return replace(study, views=views)


def _key(mark: str, named: Sequence[tuple[str, Study]]) -> str:
    """Names a shard by all that it depends on."""
    digest = hashlib.blake2b(mark.encode(), digest_size=12)
    for name, study in named:
        files = [_file(view) for view in study.views]
        digest.update(repr((name, asdict(study), files)).encode())
    return digest.hexdigest()


def _file(view: Path | np.ndarray) -> FileKey | None:
    assert isinstance(view, Path)  # see `_absolute`
    try:
        return FileKey.of(view)
    except OSError:  # which reading it says again
        return None


def _records(orders: Iterable[Mapping[str, Any]], engine: Engine) -> Iterator[Record]:
    """The records of all shards, in order, each as soon as those before it are there."""
    asked: deque[tuple[Mapping[str, Any], Future[Any]]] = deque()
    for order in orders:
        asked.append((order, engine.submit(order)))
        while asked and (len(asked) > AHEAD or asked[0][1].done()):
            yield from _of_shard(*asked.popleft())
    while asked:
        yield from _of_shard(*asked.popleft())


def _of_shard(order: Mapping[str, Any], future: Future[Any]) -> Iterator[Record]:
    try:
        future.result()
    except Exception as error:
        if cause := getattr(error, "cause", None):  # Ray wraps what a task has raised
            raise cause from None
        first, last = order["studies"][0][1], order["studies"][-1][1]
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RuntimeError(
            f"the studies from {first.name} to {last.name} were not read: {reason} What is done "
            "is kept: repeat the command."
        ) from error
    with open(Path(order["folder"]) / RECORDS, encoding="utf-8") as file:
        for line in file:
            yield Record(**json.loads(line))


def _each(
    records: Iterable[Record], told: Callable[[Record], None], written: set[str]
) -> Iterator[Record]:
    """The records, each told, and what each has written added to `written`."""
    for record in records:
        told(record)
        written.update(record.written)
        yield record


def _move_files(shard: Path, out: Path) -> None:
    """Gives the shard's pictures and objects to `out`; those that are gone, a killed call moved."""
    for kind in WRITTEN_FOLDERS:
        for path in sorted((shard / kind).glob("*")):
            (out / kind).mkdir(exist_ok=True)
            os.replace(path, out / kind / path.name)


def _pictured(out: Path, shards: Path) -> set[str]:
    """The names of the pictures of earlier calls' studies, by their tables.

    They are noted below `shards`, for the call that goes on where this one is killed behind its
    own tables.
    """
    names, note = PictureNames(), shards / "before.json"
    found: set[str] = set()
    with suppress(OSError, ValueError):  # there are none, or damaged ones
        table = read_table(out / "findings.csv", dtype=str, keep_default_na=False)
        found |= {names(study) for study in table.study}
    with suppress(OSError, ValueError):
        found |= {*read_object(note)["names"]}
    write_json(note, {"names": sorted(found)})
    return found


def _remove_files(out: Path, names: Set[str], written: Set[str]) -> None:
    """Removes the pictures and objects of such names that nothing of `written` is."""
    for pattern in (r"studies/(.+)\.png", r"dicom/(.+)-(?:heatmap\d+|report)\.dcm"):
        for path in out.glob(f"{pattern.partition('/')[0]}/*"):
            file = path.relative_to(out).as_posix()
            named = re.fullmatch(pattern, file)
            if named and named[1] in names and file not in written:
                path.unlink()
