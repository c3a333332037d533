"""Trainings that no second try saves."""

import dataclasses
import errno

import pytest

from mura_tf.training.failures import is_shortage, shortage, shortage_explained
from mura_tf.training.recipe import Recipe

RECIPE = Recipe(batch_size=12)


def named(name, said):
    return type(name, (Exception,), {})(said)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (named("ResourceExhaustedError", "OOM when allocating tensor with shape[8]"), True),
        (named("ResourceExhaustedError", "best.keras; No space left on device"), False),
        (named("XlaRuntimeError", "RESOURCE_EXHAUSTED: Out of memory while trying to"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate"), True),
        (named("OutOfMemoryError", "Task was killed"), True),
        (RuntimeError("the room is bloomy"), False),
        (ValueError("a.png: its 9 images are out of memory"), False),
        ("terminate called\n  what():  std::bad_alloc\n", True),
        ("Segmentation fault", False),
    ],
)
def test_the_words_of_memory_that_ran_out(error, expected):
    assert is_shortage(error) is expected


def test_half_the_batch_size_is_named():
    assert "with batch_size 12 at 300 px. Try batch_size 6 or" in shortage(RECIPE)
    one = shortage(dataclasses.replace(RECIPE, batch_size=1))
    assert "Try a smaller image_size or backbone, in" in one


def test_other_failures_are_left_as_they_are():
    with pytest.raises(MemoryError, match="Try batch_size 6"), shortage_explained(RECIPE):
        bytearray(2**62)
    with pytest.raises(KeyError, match="kappa"), shortage_explained(RECIPE):
        raise KeyError("kappa")
