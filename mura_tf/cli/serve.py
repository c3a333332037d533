"""`mura-tf serve`: a reading room in the browser."""

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from mura_tf.cli.options import Model
from mura_tf.terminal import waiting


def serve(
    model: Model,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 8321,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read.")] = 1,
    keep: Annotated[
        Path | None, typer.Option(help="Folder that keeps the findings. [default: nothing is kept]")
    ] = None,
) -> None:
    """Open a reading room in the browser, and the same as JSON; for this machine alone."""
    _require_free(port)
    with waiting("Opening the room"):
        from mura_tf.inference.server import create_app

        app = create_app(model, workers=workers, keep=keep)

        import uvicorn

    print(f"Reading room: http://127.0.0.1:{port}  (Ctrl-C closes it). Not a medical device.")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def _require_free(port: int) -> None:
    """uvicorn tells it as a log line, after the address was printed, and ends with 3."""
    with socket.socket() as door:
        if os.name == "posix":  # as asyncio opens it, also shortly after another has closed it
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(
                f"--port must be free. Received: {port} ({error.strerror}). Give another, or end "
                "what listens there."
            ) from None
