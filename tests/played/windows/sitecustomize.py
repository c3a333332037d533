"""Plays Windows and macOS to `mura_tf`, in every Python that has this folder in PYTHONPATH.

What only Linux has is not there for it; what is open or mapped anywhere cannot be replaced,
renamed, removed or cut; processes are spawned. Libraries see the system as it is.
"""

import builtins
import multiprocessing
import os
import signal
import types
from pathlib import Path

MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios"}
LACKING = {
    "os": {
        *("chown", "fchmod", "fchown", "fork", "forkpty", "getgid", "getloadavg", "getpgid"),
        *("getsid", "getuid", "geteuid", "killpg", "lchown", "mkfifo", "nice", "pread", "pwrite"),
        *("register_at_fork", "sched_getaffinity", "sched_setaffinity", "setsid", "statvfs"),
        *("sysconf", "uname", "wait", "waitid", "WIFSIGNALED", "WTERMSIG"),
    },
    "signal": {"SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGUSR2", "alarm"},
}


def refused_while_open(change):
    def changed(*paths, **settings):
        for path in paths:
            if isinstance(path, str | os.PathLike) and is_open(path):
                raise PermissionError(13, "Access is denied", os.fspath(path))
        return change(*paths, **settings)

    return changed


def is_open(path):
    """Whether any process has a file open or mapped."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    there = status.st_dev, status.st_ino
    name = os.path.realpath(path)
    for process in filter(str.isdecimal, os.listdir("/proc")):
        try:
            for handle in os.listdir(f"/proc/{process}/fd"):
                try:
                    opened = os.stat(f"/proc/{process}/fd/{handle}")
                except OSError:
                    continue
                if (opened.st_dev, opened.st_ino) == there:
                    return True
            if f" {name}\n" in Path(f"/proc/{process}/maps").read_text("utf-8", "replace"):
                return True
        except OSError:  # it has ended, or is another's
            pass
    return False


class Lacking(types.ModuleType):
    """A module as another system has it."""

    def __init__(self, module, names, changed):
        super().__init__(module.__name__)
        self._module, self._names = module, names
        vars(self).update(changed)

    def __getattr__(self, name):
        if name in self._names:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} here")
        return getattr(self._module, name)


def imported(name, globals=None, locals=None, fromlist=(), level=0):
    module = original(name, globals, locals, fromlist, level)
    if str((globals or {}).get("__name__")).partition(".")[0] == "mura_tf" and not level:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return played.get(name, module)
    return module


changed = {name: refused_while_open(getattr(os, name)) for name in ("remove", "rename", "replace")}
changed |= {name: refused_while_open(getattr(os, name)) for name in ("truncate", "unlink")}
played = {
    "os": Lacking(os, LACKING["os"], changed),
    "signal": Lacking(signal, LACKING["signal"], {}),
}
original, builtins.__import__ = builtins.__import__, imported
Path.unlink = refused_while_open(Path.unlink)
Path.rename = refused_while_open(Path.rename)
multiprocessing.set_start_method("spawn")
