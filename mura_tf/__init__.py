"""Abnormality detection in bone radiographs: the MURA studies with Keras and TensorFlow.

Every public name is loaded on first use, so `import mura_tf` imports neither TensorFlow nor pandas.
"""

import ast
from importlib import import_module
from pathlib import Path

__version__ = "0.2.0"
"""The version of the package, which each `run.json` repeats.

Examples:
    >>> mt.__version__.count(".")
    2
"""

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOME = {
    public.name: line.module
    for line in _STUB.body
    if isinstance(line, ast.ImportFrom)
    for public in line.names
}
"""Public name -> its module. Type checkers and editors read the same file."""

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'mura_tf' has no attribute {name!r}")
    try:
        home = import_module(f"mura_tf.{_HOME[name]}")
    except (ImportError, ValueError):  # often Keras', of a backend that is not there
        from mura_tf.models.backend import require_backend

        require_backend()
        raise
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
