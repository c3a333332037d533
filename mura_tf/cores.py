"""The processor cores of this process."""

import os


def usable_cores() -> int:
    """How many cores this process may use: those allocated to it, not those of the machine.

    A batch system, `taskset` or a container often gives a part of them.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
