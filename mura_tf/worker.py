"""One run in a process of its own, so that no memory outlives it and no crash reaches others.

The parent writes one line of JSON to the worker's standard input and keeps it open: a worker whose
parent is gone reads the end of it and stops, on whatever machine it is. Exact resume makes that
safe at any moment.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from mura_tf.files import write_json

LOG = "log.txt"
STARTED = "started.json"


class RunError(RuntimeError):
    """A run failed; the message is its sentence."""


def train_in_process(
    order: Mapping,
    environment: Mapping[str, str],
    on_start: Callable[[subprocess.Popen], None] = lambda process: None,
) -> None:
    """Trains one run in a new process and waits for it.

    While it works, and after a failure, the run folder holds its output in `log.txt` and, for
    whoever watches, in `started.json` the plan's name and the process' host and number.

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
    with open(folder / LOG, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mura_tf.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=order["directory"],
            env=os.environ | dict(environment),
            start_new_session=True,  # Ctrl-C is for the parent, which closes the pipe
        )
        on_start(process)
        with process:
            try:
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it died at once: the exit status says so
            process.wait()
    if process.returncode:
        raise RunError(_reason(folder / LOG, process.returncode))
    for name in (LOG, STARTED):
        (folder / name).unlink(missing_ok=True)


def _reason(log: Path, status: int) -> str:
    """What the worker wrote last: its sentence, or what its end means."""
    text = log.read_text(errors="replace")
    if "Error: " in text:
        return text[text.rindex("Error: ") + len("Error: ") :].strip()
    if status < 0:
        return f"the process was killed by signal {-status} (9: often too little memory), see {log}"
    return f"the process ended with status {status}, see {log}"


def main() -> None:
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    host = {"plan": order["plan"], "host": os.uname().nodename, "process": os.getpid()}
    write_json(Path(order["folder"]) / STARTED, host)
    from mura_tf.dataset import read_views
    from mura_tf.recipe import Recipe
    from mura_tf.training import train

    try:
        train(
            Recipe.from_dict(order["recipe"]),
            read_views(order["views"]),
            order["folder"],
            **order["settings"],
        )
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"Error: {error}", flush=True)
        sys.exit(1)


def _stop_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
