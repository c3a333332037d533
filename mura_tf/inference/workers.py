"""Processes that read uploads for the server, and are ended when one takes too long."""

import multiprocessing
import os
import queue
import secrets
import threading
import time
from collections import OrderedDict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mura_tf.inference.findings import Finding

if TYPE_CHECKING:
    from mura_tf.inference.bundle import Bundle

KEPT_TOKENS = 1000
"""Requests whose progress is remembered."""


class ReadingFailedError(RuntimeError):
    """An upload could not be read; the message is for the one who sent it."""


class Workers:
    """A pool of reading processes; each has the bundle open and reads one request at a time.

    Args:
        model: of `Bundle`.
        count: of processes.
        seconds: after which a request is given up and its process ended.
    """

    def __init__(self, model: str | os.PathLike[str], count: int, seconds: float):
        if count < 1:
            raise ValueError(f"workers must be at least 1. Received: {count}.")
        self._model, self._seconds = os.fspath(model), seconds
        self._idle: queue.Queue[_Worker] = queue.Queue()
        self._progress: OrderedDict[str, dict[str, int]] = OrderedDict()
        self._lock = threading.Lock()
        for _ in range(count):
            self._idle.put(_Worker(self._model))

    def read(
        self,
        uploads: list[tuple[str, Path]],
        study_type: str | None,
        each_file: bool,
        point: str | None,
        *,
        token: str = "",
        keep: str | os.PathLike[str] | None = None,
    ) -> list[tuple[Finding, bytes]]:
        """Reads uploads, waiting for a free process.

        Returns:
            Each finding, and the bytes of its DICOM report (b"" where the study is no DICOM).

        Raises:
            ReadingFailedError: what was sent cannot be read at all, or took too long.
        """
        order = _Order(uploads, study_type, each_file, point, os.fspath(keep) if keep else None)
        worker = self._idle.get()
        try:
            return self._ask(worker, order, token)
        finally:
            self._idle.put(worker if worker.alive else _Worker(self._model))

    def _ask(self, worker: "_Worker", order: "_Order", token: str) -> list[tuple[Finding, bytes]]:
        deadline = time.monotonic() + self._seconds
        try:
            worker.pipe.send(order)
            return self._answer(worker, deadline, token)
        except (EOFError, OSError):
            worker.kill()
            raise ReadingFailedError(
                "the process that read this ended, perhaps for want of memory. Send fewer or "
                "smaller files."
            ) from None

    def _answer(
        self, worker: "_Worker", deadline: float, token: str
    ) -> list[tuple[Finding, bytes]]:
        while True:
            if not worker.pipe.poll(max(0, deadline - time.monotonic())):
                worker.kill()
                raise ReadingFailedError(
                    f"reading took longer than {self._seconds:g} s and was ended. Send fewer files."
                )
            kind, content = worker.pipe.recv()
            if kind == "progress":
                self._tell(token, content)
            elif kind == "failed":
                raise ReadingFailedError(content)
            else:
                return content

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
        theirs.close()

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

    bundle = Bundle(model)
    bundle.open()  # seconds, which the first request need not wait for
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("found", _read(bundle, order, pipe)))
        except (ValueError, OSError, ImportError) as error:
            pipe.send(("failed", str(error)))


def _read(bundle: "Bundle", order: _Order, pipe: Connection) -> list[tuple[Finding, bytes]]:
    from mura_tf.inference.sources import studies_of_uploads
    from mura_tf.inference.write import write_findings

    studies = studies_of_uploads(order.uploads, bundle.study_types, each_file=order.each_file)
    found = []
    for finding in bundle.findings_of(studies, study_type=order.study_type, point=order.point):
        found.append((finding, _report(bundle, finding, order.point)))
        pipe.send(("progress", {"studies": len(found), "of": len(studies)}))
    if order.keep:
        moment = time.strftime("%Y%m%d-%H%M%S")
        folder = Path(order.keep) / f"{moment}-{secrets.token_hex(3)}"  # others may end in it, too
        write_findings((finding for finding, _ in found), folder, bundle.facts)
    for finding, _ in found:
        for view in finding.views:
            view.source = Path(view.file)  # the upload is gone when the answer is there
    return found


def _report(bundle: "Bundle", finding: Finding, point: str | None) -> bytes:
    """The structured report of a DICOM study; b"" for others, and without the extra."""
    import tempfile

    from mura_tf.inference.dicom_out import write_dicom

    with tempfile.TemporaryDirectory() as folder:
        try:
            written = write_dicom(finding, folder, bundle, point)
        except ImportError:
            return b""
        return written[-1].read_bytes() if written else b""
