"""A reading room in the browser, and the same as JSON; on this machine, for those who sit at it.

Uploads are bytes under numbers of our own: what they were called is told and never opened. They are
decoded in a process that is ended when it takes too long, and gone when the answer is.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from mura_tf.inference.bundle import Bundle
from mura_tf.inference.workers import (
    KEPT_BYTES,
    Answer,
    DiskFullError,
    ReadingFailedError,
    Workers,
)

try:
    from fastapi import FastAPI, Form, HTTPException, Request, UploadFile
    from fastapi.exception_handlers import http_exception_handler
    from fastapi.responses import JSONResponse, Response
    from starlette.exceptions import HTTPException as PlainHTTPException  # of which FastAPI's is
except ImportError:
    raise ImportError(
        "the reading room needs FastAPI, which is not installed. Install the extra: "
        "pip install 'mura-tf[serve]'."
    ) from None

MOST_BYTES = 512 * 2**20
"""Of one request."""
KEPT_SECONDS = 3600
"""For which pictures can be asked for."""
FORGETTING_SECONDS = 60
"""Between two looks for what is too old, though nobody asks."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing but this server's own files, no inline code."""
_PAGES = {
    "/": ("room.html", "text/html; charset=utf-8"),
    "/room.js": ("room.js", "text/javascript; charset=utf-8"),
    "/room.css": ("room.css", "text/css; charset=utf-8"),
}


def create_app(
    model: str | os.PathLike[str],
    *,
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]"),
    workers: int = 1,
    seconds: float = 120.0,
    keep: str | os.PathLike[str] | None = None,
) -> FastAPI:
    """The server of a bundle.

    Args:
        model: a `.mura` file or run folders' parent.
        hosts: names under which it may be asked, without the port; others are refused, so that no
            page of another site can have a browser ask.
        workers: processes that read.
        seconds: see `Workers`.
        keep: a folder that gets every answer's findings and pictures; nothing is kept without.

    Raises:
        ImportError: without the extra `mura-tf[serve]`.
        FileNotFoundError, ValueError: see `Bundle`, and `Workers`.
    """
    bundle = Bundle(model)
    pool = Workers(model, workers, seconds)
    readings = _Readings()

    async def forgetting() -> None:
        while True:
            await asyncio.sleep(FORGETTING_SECONDS)
            readings.forget()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        forgets = asyncio.create_task(forgetting())
        yield
        forgets.cancel()
        pool.close()

    app = FastAPI(
        title=f"mura_tf: {bundle.facts['name']}",
        description=bundle.facts["notice"],
        version=bundle.facts["version"] or "1",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.readings = readings
    app.state.pool = pool

    @app.exception_handler(PlainHTTPException)
    async def told(request: Request, error: PlainHTTPException) -> Response:
        """What an upload raises while it is parsed is a 400 to FastAPI, whatever it was."""
        if isinstance(error.__cause__, OSError):
            error = _not_kept(error.__cause__)
        return await http_exception_handler(request, error)

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        if refusal := _refusal(request, hosts):
            return _secured(refusal)
        return _secured(await answer(request))

    for path, (name, kind) in _PAGES.items():
        content = files(__package__).joinpath(name).read_bytes()
        app.get(path, include_in_schema=False)(_constant(content, kind))

    @app.get("/api/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(_schema_page(app), media_type="text/html; charset=utf-8")

    @app.get("/api/health")
    async def health() -> dict[str, Any]:
        """Whether it reads, what, and how it decides."""
        facts = bundle.facts
        return {
            "status": "ok",
            "bundle": pool.hash,
            "name": facts["name"],
            "version": facts["version"],
            "made_by": facts["made_by"],
            "study_types": list(bundle.study_types),
            "operating_points": facts["operating_points"],
            "notice": facts["notice"],
        }

    @app.post("/api/read")
    def read(
        files: list[UploadFile],
        study_type: Annotated[str, Form()] = "",
        each_file: Annotated[bool, Form()] = False,
        point: Annotated[str, Form()] = "",
        token: Annotated[str, Form()] = "",
        bundle: Annotated[str, Form()] = "",
    ) -> dict[str, Any]:
        """Reads radiographs: PNG, JPEG, DICOM, or zips of them, in the form's field `files`.

        A file's name may have folders: those of one folder are a study, unless `each_file` is true.
        An upload has 1,000 files at most, a zip more. `study_type` is said of all, `point` names
        the operating point that decides, `token` the request for `/api/progress`, and `bundle` the
        one that is to read, as `/api/health` names it. The answer has `studies` and `views`, with
        the fields of `findings.csv` and `views.csv`; a view's pictures are at `radiograph` and
        `heat`.
        """
        if bundle not in ("", pool.hash):
            raise HTTPException(409, "another model is served by now: reload the page")
        try:
            with tempfile.TemporaryDirectory() as folder:
                uploads = []
                for number, upload in enumerate(files):
                    path = Path(folder, str(number))
                    with open(path, "wb") as target:
                        shutil.copyfileobj(upload.file, target)
                    uploads.append((upload.filename or "file", path))
                found = pool.read(
                    uploads, study_type or None, each_file, point or None, token=token, keep=keep
                )
        except DiskFullError as error:
            raise _not_kept(error) from None
        except ReadingFailedError as error:
            raise HTTPException(422, str(error)) from None
        except OSError as error:
            raise _not_kept(error) from None
        return _answer(found, readings)

    @app.get("/api/progress/{token}")
    async def progress(token: str) -> dict[str, int]:
        """How many studies of a request are read, and of how many."""
        return pool.progress(token)

    @app.get("/api/pictures/{reading}/{number}/{kind}.png")
    async def picture(reading: str, number: int, kind: str) -> Response:
        """A view's radiograph, or its heatmap as grey levels, cut to the radiograph."""
        content = readings.content(reading, f"{number}/{kind}")
        if content is None:
            raise HTTPException(404, "there is no such picture, or it is forgotten by now")
        return Response(content, media_type="image/png")

    @app.get("/api/reports/{reading}/{number}.dcm")
    async def report(reading: str, number: int) -> Response:
        """A DICOM study's structured report."""
        content = readings.content(reading, f"{number}.dcm")
        if content is None:
            raise HTTPException(
                404, "there is no such report: the study came as no DICOM, or it is forgotten"
            )
        name = f'attachment; filename="report-{number}.dcm"'
        return Response(
            content,
            media_type="application/dicom",
            headers={"Content-Disposition": name},
        )

    return app


def _not_kept(error: Exception) -> HTTPException:
    return HTTPException(507, f"the upload, or what was found in it, could not be kept: {error}")


class _Readings:
    """The pictures and reports of the last answers, by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, dict[str, bytes]]] = {}

    def add(self, reading: str, contents: dict[str, bytes]) -> None:
        with self._lock:
            self._kept[reading] = time.monotonic(), contents
        self.forget()

    def content(self, reading: str, name: str) -> bytes | None:
        self.forget()
        with self._lock:
            return self._kept.get(reading, (0.0, {}))[1].get(name)

    def forget(self) -> None:
        """Drops what is too old, and the oldest of what is too much."""
        with self._lock:
            while self._kept and self._oldest_goes():
                del self._kept[next(iter(self._kept))]

    def _oldest_goes(self) -> bool:
        since, _ = next(iter(self._kept.values()))
        if time.monotonic() - since > KEPT_SECONDS:
            return True
        size = sum(len(one) for _, contents in self._kept.values() for one in contents.values())
        return len(self._kept) > 1 and size > KEPT_BYTES  # the last one's are asked for next


def _answer(found: list[Answer], readings: _Readings) -> dict[str, Any]:
    """`studies` and `views` as JSON knows them; their pictures are kept for a while."""
    reading, contents = secrets.token_urlsafe(12), {}
    studies: list[dict[str, Any]] = []
    views: list[dict[str, Any]] = []
    for place, answer in enumerate(found):
        row = _plain(answer.row)
        if answer.report:
            contents[f"{place}.dcm"] = answer.report
            row["report"] = f"/api/reports/{reading}/{place}.dcm"
        studies.append(row)
        for view, pictures in zip(answer.views, answer.pictures, strict=True):
            number = len(views)
            contents |= {f"{number}/{kind}": picture for kind, picture in pictures.items()}
            at = {kind: f"/api/pictures/{reading}/{number}/{kind}.png" for kind in pictures}
            views.append(_plain(view) | {"study_number": place, "radiograph": "", "heat": ""} | at)
    readings.add(reading, contents)
    return {"studies": studies, "views": views}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """NaN is null in JSON."""
    return {
        name: None if isinstance(value, float) and np.isnan(value) else value
        for name, value in row.items()
    }


def _refusal(request: Request, hosts: tuple[str, ...]) -> JSONResponse | None:
    """Why a request is not answered: another Host or Origin, or too large a body."""
    host = request.headers.get("host", "")
    if _without_port(host) not in hosts:
        return _refused(421, f"this server answers to {', '.join(hosts)}. Received: Host {host!r}")
    origin = request.headers.get("origin")
    if origin is not None and _without_port(origin.partition("://")[2]) not in hosts:
        return _refused(403, f"requests of other sites are refused. Received: Origin {origin!r}")
    if request.method == "POST":
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or "transfer-encoding" in request.headers:
            return _refused(411, "an upload must say its Content-Length, and come whole")
        if int(length) > MOST_BYTES:
            return _refused(
                413,
                f"an upload may have {MOST_BYTES // 2**20} MiB. Received: {int(length):,} bytes",
            )
    return None


def _refused(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"detail": reason}, status)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _secured(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


def _constant(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def page() -> Response:
        return Response(content, media_type=kind)

    return page


def _schema_page(app: FastAPI) -> str:
    """The API as a page that loads nothing from elsewhere, unlike FastAPI's own."""
    from mura_tf.reports.page import escaped

    parts = []
    for path, methods in app.openapi()["paths"].items():
        for method, told in methods.items():
            text = escaped(told.get("description", told.get("summary", "")))
            parts.append(f"<h2>{method.upper()} {escaped(path)}</h2><p>{text}</p>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>API</title>'
        '<link rel="stylesheet" href="/room.css"><main class="docs"><h1>API</h1>'
        '<p><a href="/api/openapi.json">openapi.json</a></p>' + "".join(parts) + "</main></html>"
    )
