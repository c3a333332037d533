"""The most memory that a process has held."""

from pathlib import Path

IMPORTED = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
"""Of a program that is given to Python as text, and measures itself."""


def most_resident() -> float:
    """MiB of this process alone, from Linux: `ru_maxrss` begins with what its parent has held."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
