"""One run in a process of its own, so that no memory outlives it and no crash reaches others.

The parent writes one line of JSON to the worker's standard input and keeps it open: a worker whose
parent is gone reads the end of it and stops, on whatever machine it is. Exact resume makes that
safe at any moment.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mura_tf
from mura_tf.files import write_json

LOG = "log.txt"
STARTED = "started.json"
_PROGRAM = """
import sys
sys.path[:] = filter(None, sys.path)
from importlib.util import find_spec
package, root = sys.argv[1:]
if getattr(find_spec("mura_tf"), "origin", None) != package:
    sys.path.insert(0, root)
from mura_tf.grid.worker import main
main()
"""
"""Of the process. Both `-m` and `-c` let it import from the folder it works in, where a keras.py or
random.py of the user's may lie; that is "" in `sys.path`, which goes first of all. What the user
has set (PYTHONPATH, site packages, a virtual environment) stays, and `mura_tf` is this one."""


class RunError(RuntimeError):
    """A run failed; the message is its sentence."""


def train_in_process(
    order: Mapping[str, Any],
    environment: Mapping[str, str],
    on_start: Callable[[subprocess.Popen[bytes]], None] = lambda process: None,
) -> None:
    """Trains one run in a new process and waits for it.

    While it works the run folder holds its output in `log.txt`, which stays after a failure, and,
    for whoever watches, the plan's name and the process' host and number in `started.json`.

    Args:
        order: `recipe` (dict), `folder`, `views` (CSV of the views table), `settings` (of `train`),
            `plan` (its name) and `directory`, from which all paths are seen.
        environment: variables of the process, added to this one's.
        on_start: called with the process, once it runs.

    Raises:
        RunError: it failed, was killed or ran out of memory.
    """
    folder = Path(order["directory"], order["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    package = os.path.abspath(mura_tf.__file__)
    with open(folder / LOG, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", _PROGRAM, package, str(Path(package).parents[1])],
            bufsize=0,  # nothing is left to be written when the pipe is broken
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=order["directory"],
            env=os.environ | dict(environment),
            start_new_session=True,  # Ctrl-C is for the parent, which closes the pipe
        )
        on_start(process)
        assert process.stdin is not None  # it is a pipe
        with process:
            with contextlib.suppress(BrokenPipeError):  # it died at once: its status says so
                process.stdin.write(json.dumps(order).encode() + b"\n")
            process.wait()
    (folder / STARTED).unlink(missing_ok=True)
    if process.returncode:
        raise RunError(_reason(folder / LOG, process.returncode))
    (folder / LOG).unlink(missing_ok=True)


def _reason(log: Path, status: int) -> str:
    """The sentence the worker wrote last, or what its end means."""
    _, *sentences = re.split("^Error: ", log.read_text(errors="replace"), flags=re.MULTILINE)
    if status == 1 and sentences:
        return sentences[-1].strip()
    if status < 0:
        return f"the process was killed by signal {-status} (9: often too little memory), see {log}"
    return f"the process ended with status {status}, see {log}"


def main() -> None:
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        host = {"plan": order["plan"], "host": os.uname().nodename, "process": os.getpid()}
        write_json(Path(order["folder"]) / STARTED, host)
        _train(order)
    except Exception as error:
        traceback.print_exc()
        told = isinstance(error, ValueError | OSError | ImportError | RuntimeError)
        print(f"Error: {error}" if told else f"Error: {type(error).__name__}: {error}")
        sys.exit(1)


def _train(order: Mapping[str, Any]) -> None:
    from mura_tf.data.views import read_views
    from mura_tf.models.backend import require_backend
    from mura_tf.training.recipe import Recipe

    recipe, views = Recipe.from_dict(order["recipe"]), read_views(order["views"])
    require_backend(training=True)

    from mura_tf.training.train import train  # Keras, only for what can be read

    train(recipe, views, order["folder"], **order["settings"])


def _stop_with_parent() -> None:
    while os.read(0, 1024):  # sys.stdin would be held by this thread when the process ends
        pass
    os._exit(1)
