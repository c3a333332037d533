"""Bars on a terminal; the terminal itself is in tests/cli."""

import io
import os
import sys

import pytest

from mura_tf import terminal
from mura_tf.terminal import Output, track, waiting


@pytest.fixture
def shown(monkeypatch):
    """What a terminal is sent; its size is known, as no other's is."""
    sent = io.StringIO()
    console = Output(file=sent, force_terminal=True, force_interactive=True, width=100)
    monkeypatch.setattr(terminal, "_ERRORS", console)
    return sent


def test_a_bar_tells_what_is_done_and_goes(shown):
    assert list(track("abc", "Reading")) == ["a", "b", "c"]
    text = shown.getvalue()
    assert "Reading" in text and "━" in text and "100%" in text
    assert text.endswith("\x1b[1A\x1b[2K")  # up a line, and cleared


def test_things_without_a_length_have_a_total(shown):
    assert sum(track(iter(range(4)), "Adding", 4)) == 6
    assert "100%" in shown.getvalue()


def test_without_a_total_time_is_told(shown):
    with waiting("Thinking") as step:
        step()
    assert "Thinking" in shown.getvalue() and "%" not in shown.getvalue()
    assert "0:00:00" in shown.getvalue()


def test_bars_stand_below_each_other(shown):
    for _ in track([1], "Outer"):
        for _ in track([1, 2], "Inner"):
            terminal._ERRORS._live_stack[0].refresh()
    frames = shown.getvalue()
    assert frames.index("Outer") < frames.index("Inner")


def test_an_error_passes_through_and_ends_the_bar(shown):
    with pytest.raises(ZeroDivisionError), waiting("Dividing"):
        print(1 / 0)
    assert shown.getvalue().endswith("\x1b[2K")
    assert terminal._ERRORS._live_stack == []


def test_nothing_is_shown_if_not_asked(shown):
    assert list(track([1, 2], "Reading", shown=False)) == [1, 2]
    assert shown.getvalue() == ""


def test_nothing_is_shown_in_a_pipe(capfd):
    assert list(track([1, 2], "Reading")) == [1, 2]
    assert capfd.readouterr() == ("", "")


def test_what_is_printed_meanwhile_goes_where_it_would(shown, capsys):
    for number in track([1, 2], "Reading"):
        print(number)
    assert capsys.readouterr().out == "1\n2\n"


def test_a_broken_pipe_is_for_the_caller():
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError), open(writing, "w") as pipe:
        Output(file=pipe).print("nobody reads this")
    assert not sys.stdout.closed
