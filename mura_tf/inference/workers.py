"""Processes that read uploads for the server, and are ended when one takes too long."""

import multiprocessing
import os
import queue
import secrets
import signal
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from mura_tf.data.radiograph import unpadded
from mura_tf.files import FULL, folder_aside
from mura_tf.inference.findings import Finding, View

if TYPE_CHECKING:
    from mura_tf.inference.bundle import Bundle

KEPT_TOKENS = 1000
"""Requests whose progress is remembered."""
KEPT_BYTES = 2**30
"""Of pictures: a request's that is larger is answered without the last of them."""


class ReadingFailedError(RuntimeError):
    """An upload could not be read; the message is for the one who sent it."""


class DiskFullError(ReadingFailedError):
    """The server's disk is, where an upload is read or what is found is kept."""


class Answer(NamedTuple):
    """What is told of a study, as it leaves the process that read it.

    Attributes:
        row, views: see `Finding.row` and `Finding.view_rows`.
        pictures: of each view, PNG: its "radiograph", if it could be read, and its "heat", if there
            is any, as grey levels of the same frame; none beyond `KEPT_BYTES` of a request.
        report: of a DICOM study, the bytes of its structured report; b"" of others, and without the
            extra.
    """

    row: dict[str, Any]
    views: list[dict[str, Any]]
    pictures: list[dict[str, bytes]]
    report: bytes


class Workers:
    """A pool of reading processes; each has the bundle open and reads one request at a time.

    Args:
        model: of `Bundle`.
        count: of processes.
        seconds: without an answer, after which a request is given up and its process ended.

    Attributes:
        hash: of the bundle, see `Bundle.hash`.

    Raises:
        ValueError: a process cannot open the bundle.
    """

    def __init__(self, model: str | os.PathLike[str], count: int, seconds: float):
        if count < 1:
            raise ValueError(f"workers must be at least 1. Received: {count}.")
        self._model, self._seconds = os.fspath(model), seconds
        self._idle: queue.Queue[_Worker] = queue.Queue()
        self._progress: OrderedDict[str, dict[str, int]] = OrderedDict()
        self._lock = threading.Lock()
        for worker in [_Worker(self._model) for _ in range(count)]:
            self._idle.put(worker)
        try:
            for worker in list(self._idle.queue):
                worker.wait()
            self.hash = worker.hash
        except ReadingFailedError as error:
            self.close()
            raise ValueError(str(error)) from None

    def read(
        self,
        uploads: list[tuple[str, Path]],
        study_type: str | None,
        each_file: bool,
        point: str | None,
        *,
        token: str = "",
        keep: str | os.PathLike[str] | None = None,
    ) -> list[Answer]:
        """Reads uploads, waiting for a free process.

        Raises:
            ReadingFailedError: what was sent cannot be read at all, or took too long.
        """
        order = _Order(uploads, study_type, each_file, point, os.fspath(keep) if keep else None)
        worker = self._idle.get()
        try:
            worker.wait()
            if worker.hash != self.hash:
                worker.kill()
                raise ReadingFailedError(
                    f"{self._model} is another one than when the server was started. Start it "
                    "again."
                )
            return self._ask(worker, order, token)
        finally:
            self._idle.put(worker if worker.alive else _Worker(self._model))

    def _ask(self, worker: "_Worker", order: "_Order", token: str) -> list[Answer]:
        try:
            worker.pipe.send(order)
            return self._answer(worker, token)
        except (EOFError, OSError):
            worker.kill()
            raise ReadingFailedError(
                "the process that read this ended, perhaps for want of memory. Send fewer or "
                "smaller files."
            ) from None

    def _answer(self, worker: "_Worker", token: str) -> list[Answer]:
        found: list[Answer] = []
        while True:
            if not worker.pipe.poll(self._seconds):
                worker.kill()
                raise ReadingFailedError(
                    f"the next study took longer than {self._seconds:g} s and was ended. Send "
                    "fewer or smaller files."
                )
            kind, content = worker.pipe.recv()
            if kind == "full":
                raise DiskFullError(content)
            if kind == "failed":
                raise ReadingFailedError(content)
            if kind == "done":
                return found
            answer, studies = content
            found.append(answer)
            self._tell(token, {"studies": len(found), "of": studies})

    def progress(self, token: str) -> dict[str, int]:
        """`studies` that are done of a request, and `of` how many; zeros for an unknown one."""
        with self._lock:
            return self._progress.get(token, {"studies": 0, "of": 0})

    def close(self) -> None:
        """Ends all processes that are idle."""
        while not self._idle.empty():
            self._idle.get().kill()

    def _tell(self, token: str, content: dict[str, int]) -> None:
        if not token:
            return
        with self._lock:
            self._progress[token] = content
            while len(self._progress) > KEPT_TOKENS:
                self._progress.popitem(last=False)


class _Order(NamedTuple):
    """What a process is asked."""

    uploads: list[tuple[str, Path]]
    study_type: str | None
    each_file: bool
    point: str | None
    keep: str | None


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, model: str):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(model, theirs), daemon=True)
        self._process.start()
        self.hash = ""
        theirs.close()

    def wait(self) -> None:
        """Until it has opened the bundle, and told its hash; ReadingFailedError where it cannot."""
        if self.hash:
            return
        try:
            kind, told = self.pipe.recv()
        except (EOFError, OSError):
            kind, told = "failed", "the process that opens the bundle ended, for want of memory?"
        if kind == "failed":
            raise ReadingFailedError(told)
        self.hash = told

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(model: str, pipe: Connection) -> None:
    """Answers orders until the pipe is closed."""
    from mura_tf.inference.bundle import Bundle

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which ends this one
    try:
        bundle = Bundle(model)
        bundle.open()  # seconds, which the first request need not wait for
        opened = bundle.hash
    except (ValueError, OSError, ImportError) as error:
        return pipe.send(("failed", str(error)))
    pipe.send(("ready", opened))
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        try:
            _read(bundle, order, pipe)
            pipe.send(("done", None))
        except (ValueError, OSError, ImportError) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                pipe.send(("full", str(error)))
            else:
                pipe.send(("failed", str(error)))


def _read(bundle: "Bundle", order: _Order, pipe: Connection) -> None:
    """Sends the answers one by one, each when its study is read; with `keep` all are kept at the
    end."""
    from mura_tf.inference.sources import studies_of_uploads
    from mura_tf.inference.write import write_findings

    studies = studies_of_uploads(order.uploads, bundle.study_types, each_file=order.each_file)
    sent = 0

    def found() -> Iterator[Finding]:
        nonlocal sent
        for finding in bundle.findings_of(studies, study_type=order.study_type, point=order.point):
            report = _report(bundle, finding, order.point)
            yield finding
            pictures = []
            for view in finding.views:
                pictures.append(_pictures(view) if sent < KEPT_BYTES else {})
                sent += sum(map(len, pictures[-1].values()))
            answer = Answer(finding.row, finding.view_rows, pictures, report)
            pipe.send(("study", (answer, len(studies))))

    if order.keep:
        moment = time.strftime("%Y%m%d-%H%M%S")
        name = f"{moment}-{secrets.token_hex(3)}"  # others may end in it, too
        with folder_aside(order.keep) as aside:
            write_findings(found(), aside / name, bundle.facts)
            os.replace(aside / name, Path(order.keep, name))
    else:
        deque(found(), maxlen=0)


def _pictures(view: View) -> dict[str, bytes]:
    if view.radiograph is None:
        return {}
    pictures = {"radiograph": _png(view.radiograph)}
    if view.heat is not None:
        heat = unpadded(view.heat, *view.radiograph.shape)
        pictures["heat"] = _png(np.round(255 * heat).astype(np.uint8))
    return pictures


def _png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def _report(bundle: "Bundle", finding: Finding, point: str | None) -> bytes:
    from mura_tf.inference.dicom_out import dicom_report

    try:
        return dicom_report(finding, bundle, point)
    except ImportError:
        return b""
