"""What goes wrong, as one sentence on standard error and an exit status that means something.

0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C, 141 nobody read what was printed.
"""

import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from typer.core import TyperGroup

_SHORTAGE = "memory ran out. Free some, or give less at a time."


class Commands(TyperGroup):
    """The commands, whose failures are sentences."""

    # typer's own kind of context, which it takes here, is private
    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """`--verbose` is the app's, and may stand behind the command as well.

        An empty path would be this folder, and an empty list everything.
        """
        empty = any(re.fullmatch("(--[a-z-]+=)?", one) for one in args)
        if empty and not ctx.resilient_parsing:  # which a shell's completion asks for
            raise typer.BadParameter(
                "an argument is empty, as a variable that is not set leaves it. Expected a value "
                f"for each. Received: {shlex.join(args)}"
            )
        return super().parse_args(ctx, sorted(args, key=lambda one: one != "--verbose"))

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        with _failures_as_sentences():
            return super().invoke(ctx)


@contextmanager
def wrong_usage() -> Iterator[None]:
    """What is refused in this block was wrong on the command line: exit status 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise typer.BadParameter(_sentence(error)) from None


@contextmanager
def _failures_as_sentences() -> Iterator[None]:
    try:
        try:
            yield
        finally:
            if sys.stdout:  # which a parent may have left out
                sys.stdout.flush()  # or Python itself would find the broken pipe, at its end
    except typer.Exit:  # a RuntimeError, too
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(141) from None
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        print(f"Error: {_sentence(error)}", file=sys.stderr)
        raise typer.Exit(1) from None
    except Exception as error:
        from mura_tf.training.failures import is_shortage

        if not is_shortage(error):  # TensorFlow's has a class of its own
            raise
        print(f"Error: {_SHORTAGE}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("Stopped. What is finished is kept; the same command does the rest.", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGINT) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:  # Python's own
        return f"{error.filename}: {error.strerror}. Give another path, or mend this one."
    if isinstance(error, MemoryError) and not str(error):
        return _SHORTAGE
    return str(error) or type(error).__name__
