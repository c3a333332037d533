"""Bars on a terminal; the terminal itself is in tests/cli."""

import os
import sys

import pytest

from mura_tf import terminal
from mura_tf.terminal import Output, track, waiting


def test_a_bar_tells_what_is_done_and_goes(bars):
    assert list(track("abc", "Reading")) == ["a", "b", "c"]
    text = bars.getvalue()
    assert "Reading" in text and "━" in text and "100%" in text
    assert text.endswith("\x1b[1A\x1b[2K")  # up a line, and cleared


def test_things_without_a_length_have_a_total(bars):
    assert sum(track(iter(range(4)), "Adding", 4)) == 6
    assert "100%" in bars.getvalue()


def test_things_without_a_length_need_no_total(bars):
    assert list(track(iter("ab"), "Reading")) == ["a", "b"]
    assert "Reading" in bars.getvalue() and "%" not in bars.getvalue()


def test_without_a_total_time_is_told(bars):
    with waiting("Thinking") as step:
        step()
    assert "Thinking" in bars.getvalue() and "%" not in bars.getvalue()
    assert "0:00:00" in bars.getvalue()


def test_bars_stand_below_each_other(bars):
    for _ in track([1], "Outer"):
        for _ in track([1, 2], "Inner"):
            terminal._ERRORS._live_stack[0].refresh()
    frames = bars.getvalue()
    assert frames.index("Outer") < frames.index("Inner")


def test_an_error_passes_through_and_ends_the_bar(bars):
    with pytest.raises(ZeroDivisionError), waiting("Dividing"):
        print(1 / 0)
    assert bars.getvalue().endswith("\x1b[2K")
    assert terminal._ERRORS._live_stack == []


def test_nothing_is_shown_if_not_asked(bars):
    assert list(track([1, 2], "Reading", shown=False)) == [1, 2]
    assert bars.getvalue() == ""


def test_standard_output_may_be_closed(bars, monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert list(track([1, 2], "Reading")) == [1, 2]
    assert "Reading" in bars.getvalue()


def test_nothing_is_shown_in_a_pipe(capfd, monkeypatch):
    monkeypatch.setattr(terminal, "_ERRORS", Output(stderr=True, force_terminal=True))
    assert list(track([1, 2], "Reading")) == [1, 2]
    assert capfd.readouterr() == ("", "")


def test_what_is_printed_meanwhile_goes_where_it_would(bars, capsys):
    for number in track([1, 2], "Reading"):
        print(number)
    assert capsys.readouterr().out == "1\n2\n"


def test_a_broken_pipe_is_for_the_caller():
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError), open(writing, "w", encoding="utf-8") as pipe:
        Output(file=pipe).print("nobody reads this")
    assert not sys.stdout.closed
