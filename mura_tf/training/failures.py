"""Trainings that no second try saves: a loss that is not finite, memory that ran out."""

import contextlib
import errno
import re
from collections.abc import Iterator

from mura_tf.training.recipe import Recipe

_WORDS = re.compile(
    r"\bOOM\b|out[ _]?of[ _]?memory|bad_alloc|ALLOC_FAILED|(can't|cannot|failed to) allocate",
    re.IGNORECASE,
)
"""Of memory that ran out: TensorFlow's and XLA's, C++'s, cuDNN's, torch's and the system's."""


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the message names the epoch and the step."""


def is_shortage(error: BaseException | str) -> bool:
    """Whether an error, or the last words of a process that ended, tell that memory ran out."""
    if isinstance(error, str):
        lines = (line for line in error.splitlines() if "not a failure" not in line)
        return any(map(_WORDS.search, lines))  # TensorFlow's allocator tries, and tells so
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, ValueError):  # of a radiograph that is too large, say
        return False
    return isinstance(error, MemoryError) or is_shortage(f"{type(error).__name__}: {error}")


def shortage(recipe: Recipe) -> str:
    """The sentence of a run whose memory ran out; it names half the batch size."""
    half = recipe.batch_size // 2
    smaller = f"batch_size {half} or a smaller image_size"
    return (
        f"memory ran out with batch_size {recipe.batch_size} at {recipe.side} px. Try "
        f"{smaller if half else 'a smaller image_size or backbone'}, in another folder; or fewer "
        "runs at a time."
    )


@contextlib.contextmanager
def shortage_explained(recipe: Recipe) -> Iterator[None]:
    """Memory that runs out within is a MemoryError with `shortage`'s sentence."""
    try:
        yield
    except Exception as error:
        if not is_shortage(error):
            raise
        raise MemoryError(shortage(recipe)) from error
