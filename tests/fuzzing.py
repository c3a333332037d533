"""What fuzzing asks of whatever reads: its input right, or a sentence; soon, and in little memory.

`fuzzed` makes a property of a target, `read_or_refused` holds it, and the strategies here damage
what is whole.
"""

import dataclasses
import os
import resource
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

SECONDS = 5.0
"""Of processors' time that an input may take. Held by `make fuzz`, because a test is not timed."""
MEBIBYTES = 512
"""That the process may grow by while one is read."""
FEW, MANY = "few", "fuzz"
"""Profiles of hypothesis: what `make test` has, and `make fuzz`."""

settings.register_profile(
    MANY,
    max_examples=500,
    deadline=None,
    database=None,
    print_blob=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    FEW, settings.get_profile(MANY), max_examples=4, derandomize=True, print_blob=False
)


@dataclasses.dataclass
class Target:
    """What became of the inputs of one target."""

    outcomes: Counter = dataclasses.field(default_factory=Counter)
    slowest: float = 0.0
    growth: float = 0.0


TARGETS: dict[str, Target] = {}


def fuzzed(share: int):
    """A test's `share` of the inputs, of which there are forty-six."""
    return settings(max_examples=share * settings.default.max_examples)


def many() -> bool:
    return settings.default.max_examples >= settings.get_profile(MANY).max_examples


def read_or_refused(target: str, read, helper: int | None = None):
    """Returns `read()`; None where it was refused with a sentence. Anything else fails the test.

    Args:
        target: what it counts for.
        read: raises ValueError or FileNotFoundError to refuse.
        helper: number of another process that does the work.
    """
    one = TARGETS.setdefault(target, Target())
    started, before = _seconds(helper), _resident(helper)
    try:
        result, outcome = read(), "read"
    except (ValueError, FileNotFoundError) as error:
        result, outcome = None, "refused"
        assert is_sentence(str(error)), f"no sentence: {error!r}"
    seconds, growth = _seconds(helper) - started, _most_resident(helper) - before
    one.outcomes[outcome] += 1
    one.slowest, one.growth = max(one.slowest, seconds), max(one.growth, growth)
    if many():
        assert seconds <= SECONDS, f"{seconds:.1f} s"
    assert growth <= MEBIBYTES, f"{growth:.0f} MiB"
    return result


def is_sentence(text: str) -> bool:
    """Whether it is words, and none of a traceback's."""
    return len(text.split()) >= 3 and "Traceback" not in text and '  File "' not in text


def _seconds(helper: int | None) -> float:
    """Of processors' time that this process and the helper have had."""
    own = time.process_time()
    if helper is None:
        return own
    _, _, fields = Path(f"/proc/{helper}/stat").read_text(encoding="utf-8").rpartition(")")
    return own + sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")


def _resident(process: int | None) -> float:
    """MiB; from here on `_most_resident` counts anew."""
    try:
        Path(f"/proc/{process or 'self'}/clear_refs").write_text("5", encoding="utf-8")
        return _status(process, "VmRSS")
    except OSError:  # no Linux
        return _most_resident(process)


def _most_resident(process: int | None) -> float:
    try:
        return _status(process, "VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _status(process: int | None, name: str) -> float:
    lines = Path(f"/proc/{process or 'self'}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


# ------------------------------------------------------------------------------------------------
# Strategies

ODD_TEXT = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", " ", "nan", "-1", "1e999", "0x10", "\0", "\n", '"', "..", "/", "9" * 400]),
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.sampled_from([10**400, -1, 0, 2**63])
    | st.floats()
    | st.text(st.characters(), max_size=12),  # surrogates, too, which JSON can name
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def damaged(draw, content: bytes, most: int = 4) -> bytes:
    """`content` after one to `most` bytes or blocks were changed, lost or put between."""
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, len(content)))
        block = draw(st.binary(min_size=1, max_size=16))
        length = draw(st.integers(1, max(1, len(content) // 4)))
        match draw(st.sampled_from(["over", "between", "lost", "cut", "zeros", "twice"])):
            case "over":
                content = content[:place] + block + content[place + len(block) :]
            case "between":
                content = content[:place] + block + content[place:]
            case "lost":
                content = content[:place] + content[place + length :]
            case "cut":
                content = content[:place]
            case "zeros":
                content = content[:place] + bytes(length) + content[place + length :]
            case "twice":
                content = content[: place + length] + content[place:]
    return content


@st.composite
def changed(draw, value):
    """Plain JSON after one of its values, anywhere, was replaced or lost."""
    if not value or not isinstance(value, dict | list) or draw(st.integers(0, 9)) == 0:
        return draw(JSON_VALUES)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = draw(st.sampled_from(keys))
    copy = value.copy()
    if draw(st.integers(0, 4)) == 0:
        del copy[key]
    else:
        copy[key] = draw(changed(value[key]))
    return copy
