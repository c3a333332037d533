"""The profile of hypothesis, and the table at the end of `make fuzz`."""

import logging
import warnings

import pytest
from fuzzing import FEW, MEBIBYTES, SECONDS, TARGETS, many
from hypothesis import settings


def pytest_configure(config):
    if not config.getoption("--hypothesis-profile", None):
        settings.load_profile(FEW)


def pytest_terminal_summary(terminalreporter):
    if not (many() and TARGETS):
        return
    row = "{:12} {:>7} {:>7} {:>8} {:>10} {:>11}".format
    terminalreporter.write_line(
        row("target", "inputs", "read", "refused", "slowest, s", "growth, MiB")
    )
    for name, one in TARGETS.items():
        figures = one.outcomes["read"], one.outcomes["refused"]
        terminalreporter.write_line(
            row(name, sum(figures), *figures, f"{one.slowest:.2f}", f"{one.growth:.0f}")
        )
    inputs = sum(one.outcomes.total() for one in TARGETS.values())
    terminalreporter.write_line(f"{inputs} inputs; at most {SECONDS:g} s and {MEBIBYTES} MiB each")


@pytest.fixture(autouse=True)
def without_warnings():
    """What is told of an input that is read is not looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable()
        yield
        logging.disable(logging.NOTSET)
