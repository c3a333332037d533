"""What appears while one waits, how tables are printed, and what the package itself warns of."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


class Notice(UserWarning):
    """What the package itself warns of; `mura-tf` shows it as a sentence."""


class Output(Console):
    """rich's console, which leaves it to the caller what a pipe without a reader means."""

    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError at hand; rich would end the process


_ERRORS = Output(stderr=True)
"""Shared by all bars, so that one can stand below another."""


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "member"), counted(2, "member")
    ('1 member', '2 members')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


@contextmanager
def waiting(
    doing: str, total: int | None = None, *, shown: bool = True
) -> Iterator[Callable[[], None]]:
    """Shows a progress bar on standard error while the block runs, if that is a terminal.

    The bar goes when the block ends. Without `total` it tells that something is done, and how long.

    Args:
        doing: what is done, such as "Drawing".
        total: of how many steps.
        shown: whether to show it at all.

    Yields:
        A function that says that a step is done; any thread may call it.
    """
    if not (shown and _is_watched()):
        yield lambda: None
        return
    known = total is not None
    times = (TaskProgressColumn(), TimeRemainingColumn()) if known else (TimeElapsedColumn(),)
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        *times,
        console=_ERRORS,
        transient=True,
        # what goes into a file or a pipe is no bar's affair
        redirect_stdout=bool(sys.stdout and sys.stdout.isatty()),
    )
    with bars:
        yield partial(bars.advance, bars.add_task(doing, total=total))


def track(
    things: Iterable[T], doing: str, total: int | None = None, *, shown: bool = True
) -> Iterator[T]:
    """Yields `things`, of which there are `total` (their length by default), behind `waiting`."""
    if total is None and isinstance(things, Sized):
        total = len(things)
    with waiting(doing, total, shown=shown) as step:
        for thing in things:
            yield thing
            step()


def _is_watched() -> bool:
    """Whether somebody sees standard error; FORCE_COLOR makes no terminal of a pipe."""
    return _ERRORS.is_jupyter or (_ERRORS.is_interactive and _ERRORS.file.isatty())
