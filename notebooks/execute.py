"""Executes the notebooks in place, each from top to bottom in a kernel of its own.

    python notebooks/execute.py [NOTEBOOK ...]

The first cell that fails ends it, with its traceback, and that notebook stays as it was.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from mura_tf.files import written_whole

HERE = Path(__file__).resolve().parent
MINUTES = 20
"""That a cell may take, for slow machines; each notebook wants less than 3 on two cores."""


def execute(path: Path) -> float:
    """Executes one notebook; returns the seconds it took."""
    started = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=60 * MINUTES,
        record_timing=False,  # two executions differ by their results alone
        resources={"metadata": {"path": str(path.parent)}},
        # what TensorFlow's C++ says of the machine goes to the terminal, not into the notebook
        extra_arguments=["--IPKernelApp.capture_fd_output=False"],
    )
    with tempfile.TemporaryDirectory() as folder:  # a kernel that is killed leaves nothing behind
        client.execute(env=os.environ | {"TMPDIR": folder})
    notebook.metadata.language_info = {"name": "python"}
    with written_whole(path) as part:
        nbformat.write(notebook, part)
    return time.perf_counter() - started


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for path in [*map(Path, sys.argv[1:])] or sorted(HERE.glob("*.ipynb")):
        print(f"{path.name}: {execute(path):.0f} s", flush=True)
