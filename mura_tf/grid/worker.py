"""One run in a process of its own, so that no memory outlives it and no crash reaches others.

The parent writes one line of JSON to the worker's standard input and keeps it open: a worker whose
parent is gone reads the end of it and stops, on whatever machine it is. Exact resume makes that
safe at any moment.
"""

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mura_tf
from mura_tf.cores import APART
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
has set (PYTHONPATH, site packages, a virtual environment) stays, and `mura_tf` is this one. Nothing
else is imported before `main` can tell what fails."""

FINAL = 2
"""How a worker ends that would end so again; after 1 another try may do better."""
_KILLED = 9
"""SIGKILL, a name that Windows has not."""
_KILLS = Path("/proc/vmstat")
"""Where Linux counts, as `oom_kill`, the processes that it ended for want of memory."""


class RunError(RuntimeError):
    """A run failed; the message is its sentence.

    Attributes:
        final: whether another try would fail the same way.
    """

    def __init__(self, message: str, final: bool = False):
        super().__init__(message)
        self.final = final


def train_in_process(
    order: Mapping[str, Any],
    environment: Mapping[str, str],
    on_start: Callable[[subprocess.Popen[bytes]], None] = lambda process: None,
) -> None:
    """Trains one run in a new process and waits for it.

    While it works the run folder holds its output in `log.txt`, which stays after a failure, and,
    for whoever watches, the plan's name and the process' host and number in `started.json`.

    Args:
        order: `recipe` (dict), `folder`, `views` (CSV of the views table) and its `mark`,
            `settings` (of `train`), `plan` (its name) and `directory`, from which all paths are
            seen.
        environment: variables of the process, added to this one's.
        on_start: called with the process, once it runs.

    Raises:
        RunError: it failed, was killed or ran out of memory.
    """
    if not os.path.isdir(order["directory"]):
        raise RunError(
            f"the command was started in {order['directory']}, which is no folder on "
            f"{platform.node()}. Expected one that every node sees. Start it from there."
        )
    folder = Path(order["directory"], order["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    package = os.path.abspath(mura_tf.__file__)
    kills = _kills()
    with open(folder / LOG, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", _PROGRAM, package, str(Path(package).parents[1])],
            bufsize=0,  # nothing is left to be written when the pipe is broken
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=order["directory"],
            env=os.environ | dict(environment) | {"PYTHONIOENCODING": "utf-8:backslashreplace"},
            **APART,  # Ctrl-C is for the parent, which closes the pipe
        )
        on_start(process)
        assert process.stdin is not None  # it is a pipe
        with process:
            with contextlib.suppress(OSError):  # it died at once: its status says so
                process.stdin.write(json.dumps(order).encode() + b"\n")
            process.wait()
    (folder / STARTED).unlink(missing_ok=True)
    if process.returncode:
        raise _failure(folder / LOG, process.returncode, order["recipe"], _kills() > kills)
    (folder / LOG).unlink(missing_ok=True)


def _failure(log: Path, status: int, recipe: Mapping[str, Any], killed: bool) -> RunError:
    """The sentence the worker wrote last, or what its end means.

    Args:
        log: what it wrote.
        status: its exit status, or minus the signal that ended it.
        recipe: of its run, as in its order.
        killed: whether the system ended a process meanwhile for want of memory.
    """
    from mura_tf.training.failures import is_shortage, shortage
    from mura_tf.training.recipe import Recipe

    said = log.read_text(encoding="utf-8", errors="replace")
    _, *sentences = re.split("^Error: ", said, flags=re.MULTILINE)
    sentence = sentences[-1].strip() if sentences else ""
    if status in (1, FINAL) and sentence:
        return RunError(sentence, final=status == FINAL)
    if is_shortage(said[-2000:]):
        stopped = status in (-_KILLED, -signal.SIGTERM)  # and may have been by somebody
        return RunError(shortage(Recipe.from_dict(recipe)), final=not stopped)
    if status == -_KILLED and killed:  # which may have been another process
        return RunError(shortage(Recipe.from_dict(recipe)))
    if status == -_KILLED:
        return RunError(
            f"the process was killed by signal 9, by somebody or for want of memory, see {log}"
        )
    if status < 0:
        return RunError(f"the process was killed by signal {-status}, see {log}")
    return RunError(f"the process ended with status {status}, see {log}")


def _kills() -> int:
    """How many processes this machine has ended for want of memory, as far as it tells."""
    with contextlib.suppress(OSError):
        for line in _KILLS.read_text(encoding="ascii").splitlines():
            name, count = line.split()
            if name == "oom_kill":
                return int(count)
    return 0


def main() -> None:
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        host = {"plan": order["plan"], "host": platform.node(), "process": os.getpid()}
        write_json(Path(order["folder"]) / STARTED, host)
        _train(order)
    except Exception as error:
        traceback.print_exc()
        told = isinstance(error, ValueError | OSError | ImportError | RuntimeError | MemoryError)
        name = type(error).__name__
        print(f"Error: {str(error) or name}" if told else f"Error: {name}: {error}")
        sys.exit(FINAL if _is_final(error) else 1)


def _is_final(error: Exception) -> bool:
    """Whether another try would fail the same way.

    Not of what the system itself refuses, which has a number, also where a sentence was made of it,
    nor of pictures that could be read when the plan was checked: another machine, or this one a
    little later, may do better.
    """
    from mura_tf.data.cache import BadViewsError
    from mura_tf.training.failures import NonFiniteLossError

    if isinstance(error, MemoryError):
        return True
    cause: BaseException | None = error
    while cause:
        refused = isinstance(cause, OSError) and cause.errno
        if refused or isinstance(cause, TimeoutError | BadViewsError):
            return False
        cause = cause.__cause__
    return isinstance(error, ValueError | ImportError | OSError | NonFiniteLossError)


def _train(order: Mapping[str, Any]) -> None:
    from mura_tf.data.table import views_mark
    from mura_tf.data.views import read_views
    from mura_tf.models.backend import require_backend
    from mura_tf.training.recipe import Recipe

    recipe, views = Recipe.from_dict(order["recipe"]), read_views(order["views"])
    if views_mark(views) != order["mark"]:
        raise ValueError(
            f"{order['views']} must hold the views that this run was planned with. Received: "
            "others, of another command that has begun meanwhile. Give each a folder of its own."
        )
    require_backend(training=True)

    from mura_tf.training.train import train  # Keras, only for what can be read

    train(recipe, views, order["folder"], **order["settings"])


def _stop_with_parent() -> None:
    while os.read(0, 1024):  # sys.stdin would be held by this thread when the process ends
        pass
    os._exit(1)
