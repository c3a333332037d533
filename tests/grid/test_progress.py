"""What is printed of a plan: lines where there is no terminal, a live table where there is one."""

import functools
import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from mura_tf.files import write_json
from mura_tf.grid import progress
from mura_tf.grid.plan import plan_runs
from mura_tf.grid.progress import Board, duration, failures_told
from mura_tf.terminal import Output
from mura_tf.training.recipe import Recipe

RECIPE = Recipe(backbone="small_cnn", weights=None)


@pytest.fixture
def plan(tmp_path):
    """The whole-data run, which sees 100 images an epoch, and three of a type, 10 each."""
    return plan_runs(RECIPE, tmp_path, ["elbow"], members=3)


@pytest.fixture
def images(plan):
    return {run.folder: 100 if run.recipe.stage == "mura" else 10 for run in plan}


@pytest.fixture
def clock(monkeypatch):
    """Set `clock.now`, seconds."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal is sent."""
    monkeypatch.setenv("TERM", "xterm-256color")
    sent = io.StringIO()
    console = functools.partial(Output, file=sent, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "Output", console)
    return sent


def reach(run, epochs, finished=False, plan="this"):
    """The run has so many epochs behind it, and still runs or is finished."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "history.csv").write_text("epoch\n" + "1\n" * epochs)
    if finished:
        write_json(run.folder / "run.json", {"finished": True})
        (run.folder / "predictions.csv").touch()
        (run.folder / "started.json").unlink(missing_ok=True)
    else:
        write_json(run.folder / "started.json", {"plan": plan, "host": "a", "process": 1})


def counts(terminal, stage):
    """The last table's row of a stage: done, running, waiting, failed."""
    row = [line for line in terminal.getvalue().splitlines() if f" {stage} " in line][-1]
    return [int(cell.strip() or 0) for cell in row.split("│")[3:7]]


# ------------------------------------------------------------------------------------------------
# Lines


def test_a_line_per_run_and_no_control_codes(plan, images, clock, capsys):
    whole, first, second, third = plan
    reach(third, 4, finished=True)
    with Board(plan, images, "this", True) as board:
        board.refresh()
        clock.now = 100
        reach(whole, 5, finished=True)
        board.finished(whole)
        board.retried(first, "the disk [/full] is full")
        board.failed(first, "the disk is full")
        board.failed(first, "the disk is full")
        board.failed(second, "a line\nand another")
        board.failed(third, f"see {third.folder}/log.txt")
        board.failed(second, f"see {second.folder}/log.txt")
    assert capsys.readouterr().out.splitlines() == [
        "1 of 4 runs were finished before.",
        f"2 of 4 done: {whole.folder}, 5 epochs; 5.0 images/s, about 18.0 s left",
        f"failed and is tried again: {first.folder}: the disk [/full] is full",
        f"failed: {first.folder}: the disk is full",
        f"failed again: {first.folder}",
        f"failed: {second.folder}: a line",
        "and another",
        f"failed: {third.folder}: see {third.folder}/log.txt",
        f"failed: {second.folder}, as {third.folder} did",
    ]


def test_a_reason_is_told_once_with_how_many_and_the_first(plan):
    folders = [Path(f"out/{number}") for number in range(5)]
    failed = {folder: f"see {folder}/log.txt" for folder in folders}
    failed[Path("out/alone")] = "the disk is full"
    names = "5 runs (out/0, out/1, out/2, ...)"
    assert failures_told(failed, 9, reasons=True) == (
        "6 of 9 runs are not finished; the others are. "
        f"{names}: see .../log.txt; out/alone: the disk is full"
    )
    assert failures_told(failed, 6, reasons=False) == (
        f"6 of 6 runs are not finished. Why is told above: {names}; out/alone"
    )


def test_a_run_that_decides_nothing_is_told(plan, images, clock, capsys):
    run = plan[0]
    with Board(plan, images, "this", True) as board:
        clock.now = 1
        reach(run, 1, finished=True)
        run.recipe.save(run.folder / "recipe.json")
        write_json(run.folder / "run.json", {"finished": True, "constant": True, "auroc": 0.7125})
        board.finished(run)
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{run.folder}: the chosen epoch calls all views that it was selected on the same, so no "
        "score of its decisions says anything; their AUROC at image level is 0.713."
    )


def test_nothing_is_shown_on_request(plan, images, terminal):
    with Board(plan, images, "this", False) as board:
        board.refresh()
        board.failed(plan[0], "the disk is full")
    assert terminal.getvalue() == ""


# ------------------------------------------------------------------------------------------------
# Images/s and the time left


def pace(board, run, capsys):
    """What stands behind "done"."""
    board.finished(run)
    return capsys.readouterr().out.partition("epochs")[2].strip("; \n")


def test_images_per_second_are_of_this_session_and_of_all_that_runs(plan, images, clock, capsys):
    whole, first, second, third = plan
    reach(whole, 50, finished=True)
    reach(first, 2, plan="an earlier one")
    board = Board(plan, images, "this", True)
    clock.now = 10
    reach(first, 7, finished=True)  # five epochs of it now
    reach(second, 3)
    reach(third, 1)
    assert pace(board, first, capsys).startswith("9.0 images/s")


def test_time_left_is_that_of_the_epochs_a_finished_run_took(plan, images, clock, capsys):
    whole, first, second, third = plan
    board = Board(plan, images, "this", True)
    clock.now = 60
    reach(whole, 6, finished=True)  # 10 images/s
    # three runs of six epochs of ten images
    assert pace(board, whole, capsys) == "10.0 images/s, about 18.0 s left"
    clock.now = 78
    reach(first, 10, finished=True)
    reach(second, 8)
    # 780 images in 78 s; a run takes (6 + 10) / 2 epochs, and the second, which has eight, one more
    assert pace(board, first, capsys) == "10.0 images/s, about 9.0 s left"
    board.failed(second, "no luck")
    reach(third, 2)
    clock.now = 80
    capsys.readouterr()
    reach(third, 4, finished=True)
    assert pace(board, third, capsys) == "10 images/s"  # 820 in 80 s, and nothing is left


def test_the_pace_stands_until_the_next_epoch(plan, images, clock, terminal):
    whole = plan[0]
    with Board(plan, images, "this", True) as board:
        for clock.now, epochs, shown in [(1, 0, ""), (50, 1, "2.0 images/s"), (99, 1, "2.0 im")]:
            reach(whole, epochs)
            terminal.truncate(0)
            board.refresh()
            assert shown in terminal.getvalue()
            assert ("images/s" in terminal.getvalue()) == bool(shown)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (5.64, "5.6 s"),
        (59.96, "1 min 0 s"),
        (184, "3 min 4 s"),
        (3600, "1 h 0 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_a_duration_is_for_people(seconds, text):
    assert duration(seconds) == text


# ------------------------------------------------------------------------------------------------
# The live table


def test_the_table_counts_the_runs_by_backbone_and_stage(plan, images, terminal):
    whole, first, second, third = plan
    reach(first, 3, plan="an earlier one")  # its process was killed with the plan
    with Board(plan, images, "this", True) as board:
        board.refresh()
        assert counts(terminal, "mura") == [0, 0, 1, 0]
        reach(whole, 0)
        board.refresh()
        assert counts(terminal, "mura") == [0, 1, 0, 0]
        reach(whole, 2, finished=True)
        board.finished(whole)
        reach(first, 3)
        reach(second, 0)
        board.refresh()
        assert counts(terminal, "mura") == [1, 0, 0, 0]
        assert counts(terminal, "type") == [0, 2, 1, 0]
        (second.folder / "started.json").unlink()
        board.retried(second, "no luck")
        board.refresh()
        assert counts(terminal, "type") == [0, 1, 2, 0]
        board.failed(second, "no luck")
        board.failed(third, "no luck")
    assert counts(terminal, "type") == [0, 1, 0, 2]
    shown = terminal.getvalue()
    for header in ("backbone", "stage", "done", "running", "waiting", "failed"):
        assert header in shown
    assert shown.endswith("\x1b[?25h")  # the cursor is back


def test_a_file_half_written_or_of_another_program_is_no_running_run(plan, images, terminal):
    with Board(plan, images, "this", True) as board:
        plan[0].folder.mkdir(parents=True)
        for content in ("", '{"plan"', '{"plan": "another"}', "[]", "{}", "5"):
            (plan[0].folder / "started.json").write_text(content)
            board.refresh()
            assert counts(terminal, "mura") == [0, 0, 1, 0]
