"""The processor cores of this process, and processes that Ctrl-C does not reach."""

import contextlib
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_GROUP = Path("/sys/fs/cgroup")
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
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, math.ceil(_allotted())))


def _allotted() -> float:
    """Processors' time that a container may take, of control groups 2 or 1; infinite without."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            words = " ".join((_GROUP / name).read_text("ascii") for name in names).split()
            quota, period = map(int, words)  # "max" is none
            if quota > 0:
                return quota / period
    return sys.maxsize


def threads() -> int:
    """How many threads a computation takes: `OMP_NUM_THREADS`, which the grid's engines set for
    processes that share a machine; else `usable_cores`."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(asked) if asked.isdecimal() and int(asked) else usable_cores()
