"""`mura-tf serve`: a reading room in the browser."""

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
    with waiting("Opening the room"):
        from mura_tf.inference.server import create_app

        app = create_app(model, workers=workers, keep=keep)

        import uvicorn

    print(f"Reading room: http://127.0.0.1:{port}  (Ctrl-C closes it). Not a medical device.")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
