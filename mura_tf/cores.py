"""The processor cores of this process, and processes that Ctrl-C does not reach."""

import os
import subprocess
import sys
from typing import Any

APART: dict[str, Any]
if sys.platform == "win32":  # which knows no sessions
    APART = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    APART = {"start_new_session": True}
"""For `subprocess.Popen`: Ctrl-C is for this process, and not for that one."""


def usable_cores() -> int:
    """How many cores this process may use: those allocated to it, not those of the machine.

    A batch system, `taskset` or a container often gives a part of them.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """How many threads a computation takes: `OMP_NUM_THREADS`, which the grid's engines set for
    processes that share a machine; else `usable_cores`."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(asked) if asked.isdecimal() and int(asked) else usable_cores()
