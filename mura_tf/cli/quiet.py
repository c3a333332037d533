"""What is kept from the terminal: what libraries say of themselves.

The package's own warnings are shown as sentences.
"""

import importlib.util
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TextIO

from mura_tf.cores import APART
from mura_tf.terminal import Notice, waiting

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_DONE = b"\0"
_KEEPER = f"""
import os
said = b""
while not said.endswith({_DONE!r}):
    part = os.read(0, 65536)
    if not part:
        os.write(2, said)
        break
    said += part
"""
"""A process that keeps what it is told, and tells it if it is left before all is well."""


@contextmanager
def quiet(verbose: bool) -> Iterator[None]:
    """Shows the package's own warnings as sentences, and nothing else below an error.

    TensorFlow's lines, logs and other warnings are for `verbose`, and for the logs of the runs'
    processes, which inherit nothing of this.
    """
    if verbose:
        with _notices_as_sentences(others=warnings.showwarning):
            yield
        return
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    finder, disabled = _QuietTensorFlow(), logging.root.manager.disable
    sys.meta_path.insert(0, finder)
    logging.disable(logging.WARNING)
    try:
        with _notices_as_sentences(others=lambda *where: None):
            yield
    finally:
        logging.disable(disabled)
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


@contextmanager
def _notices_as_sentences(others: Callable[..., None]) -> Iterator[None]:
    """Each of the package's own warnings once; `others` shows those of libraries."""
    told = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, Notice):
            others(message, category, filename, lineno, file, line)
        elif str(message) not in told:
            told.add(str(message))
            print(f"Note: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        warnings.showwarning = show
        yield


class _QuietTensorFlow(MetaPathFinder):
    """Finds TensorFlow as ever, and has its import say nothing.

    While it is imported, its C++ writes to descriptor 2 whatever the level is; the level counts
    from then on, and is read then. What is wrong is raised, or kills the process, and is told.
    """

    _asking = False

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != "tensorflow" or self._asking:
            return None
        self._asking = True  # the other finders, and this one too
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking = False
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_quietly(module: ModuleType) -> None:
                level = os.environ.get(LEVEL)
                os.environ[LEVEL] = level or "3"
                try:
                    with _kept_back():
                        load(module)
                        if hasattr(module, "config"):  # a name of TensorFlow's own
                            module.config.list_physical_devices()  # says where there is no CUDA
                finally:
                    del os.environ[LEVEL]
                    if level:
                        os.environ[LEVEL] = level

            spec.loader.exec_module = load_quietly  # type: ignore[method-assign]  # of this one
        return spec


@contextmanager
def _kept_back() -> Iterator[None]:
    """Keeps what is written to descriptor 2, unless the block raises or the process crashes."""
    errors, stream = os.dup(2), sys.stderr
    keeper = subprocess.Popen(
        [sys.executable, "-IS", "-c", _KEEPER],
        stdin=subprocess.PIPE,
        **APART,
    )
    assert keeper.stdin is not None  # it is a pipe
    os.dup2(keeper.stdin.fileno(), 2)
    last = _DONE
    try:
        if _is_descriptor_2(stream):  # what Python writes is shown, such as a progress bar
            sys.stderr = os.fdopen(os.dup(errors), "w", 1, encoding=stream.encoding)
        with waiting("Loading TensorFlow"):
            yield
    except Exception:
        last = b""
        raise
    finally:
        sys.stderr = stream
        os.dup2(errors, 2)
        os.close(errors)
        keeper.communicate(last)


def _is_descriptor_2(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 2
    except (AttributeError, OSError):
        return False
