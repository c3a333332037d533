"""What a plan's runs are doing, on a terminal as a live table, elsewhere as a line per run.

It reads the run folders only, so it shows runs on other machines as well.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from mura_tf.grid.worker import STARTED
from mura_tf.terminal import Output
from mura_tf.training.run import Run

if TYPE_CHECKING:
    from mura_tf.grid.plan import PlannedRun

NAMED = 3
"""Folders that are named of those that failed for one reason."""
STATES = ("done", "running", "waiting", "failed")


class Board:
    """Shows done, running, waiting and failed runs, images/s and the time left.

    Args:
        plan: the runs (recipe, folder).
        images: folder -> views that the run trains on.
        name: the plan's, by which its running runs are known from those of an earlier one.
        shown: whether to show anything.
    """

    def __init__(self, plan: "list[PlannedRun]", images: dict[Path, int], name: str, shown: bool):
        self._plan, self._images, self._name = plan, images, name
        self._states = {
            run.folder: "done" if Run(run.folder).finished else "waiting" for run in plan
        }
        self._epochs = {run.folder: _epochs(run.folder) for run in plan}
        self._seen_before = self._seen = self._images_seen()
        self._began = time.monotonic()
        self._rate = 0.0
        self._told: dict[str, Path] = {}
        self._console = Output(quiet=not shown)
        self._live: Live | None = None
        if shown and self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._table, auto_refresh=False)

    def __enter__(self) -> "Board":
        if self._live:
            self._live.start()
        done = Counter(self._states.values())["done"]
        if done:
            self._console.print(f"{done} of {len(self._plan)} runs were finished before.")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self.refresh()
            self._live.stop()

    def finished(self, run: "PlannedRun") -> None:
        self._states[run.folder] = "done"
        self._epochs[run.folder] = _epochs(run.folder)
        self._look()
        done = Counter(self._states.values())["done"]
        line = f"{done} of {len(self._plan)} done: {run.folder}, {self._epochs[run.folder]} epochs"
        pace = self._pace()
        self._console.print(escape(f"{line}; {pace}" if pace else line), soft_wrap=True)
        if warning := Run(run.folder).warning:
            self._console.print(escape(warning), soft_wrap=True)

    def retried(self, run: "PlannedRun", reason: str) -> None:
        self._states[run.folder] = "waiting"
        self._say(run, "failed and is tried again", reason)

    def failed(self, run: "PlannedRun", reason: str) -> None:
        self._states[run.folder] = "failed"
        self._say(run, "failed", reason)

    def refresh(self) -> None:
        """Shows what the runs have reached."""
        if self._live:
            self._look()
            self._live.refresh()

    def _look(self) -> None:
        for folder, state in self._states.items():
            if state in ("waiting", "running"):
                running = self._is_running(folder)
                self._states[folder] = "running" if running else "waiting"
                if running:
                    self._epochs[folder] = _epochs(folder)
        if self._images_seen() > self._seen:  # only then, or it would fall until the next epoch
            self._seen = self._images_seen()
            self._rate = (self._seen - self._seen_before) / (time.monotonic() - self._began)

    def _say(self, run: "PlannedRun", what: str, reason: str) -> None:
        """A line, with the reason if it is told for the first time."""
        first = self._told.get(_of_any_run(reason, run.folder))
        if first is None:
            self._told[_of_any_run(reason, run.folder)] = run.folder
            line = f"[red]{what}:[/] {escape(str(run.folder))}: {escape(reason)}"
        elif first == run.folder:
            line = f"[red]{what} again:[/] {escape(str(run.folder))}"
        else:
            line = f"[red]{what}:[/] {escape(str(run.folder))}, as {escape(str(first))} did"
        self._console.print(line, soft_wrap=True)

    def _is_running(self, folder: Path) -> bool:
        try:
            started = json.loads((folder / STARTED).read_text(encoding="utf-8"))
            return started["plan"] == self._name
        except (OSError, ValueError, TypeError, KeyError):  # there is none, or it is damaged
            return False

    def _images_seen(self) -> int:
        return sum(epochs * self._images[folder] for folder, epochs in self._epochs.items())

    def _pace(self) -> str:
        """Images/s of this session, and the time left once a finished run tells how long one is."""
        if not self._rate:
            return ""
        pace = f"{self._rate:.{0 if self._rate > 10 else 1}f} images/s"
        left = self._images_left()
        return f"{pace}, about {duration(left / self._rate)} left" if left else pace

    def _images_left(self) -> float | None:
        done = [self._epochs[folder] for folder, state in self._states.items() if state == "done"]
        if not done:
            return None
        expected = sum(done) / len(done)
        return sum(
            max(1, expected - self._epochs[folder]) * self._images[folder]
            for folder, state in self._states.items()
            if state in ("waiting", "running")
        )

    def _table(self) -> Table:
        table = Table("backbone", "stage", *STATES, caption=self._pace())
        counts: dict[tuple[str, str], Counter[str]] = {}
        for run in self._plan:
            key = (run.recipe.backbone, run.recipe.stage)
            counts.setdefault(key, Counter())[self._states[run.folder]] += 1
        for (backbone, stage), states in counts.items():
            table.add_row(backbone, stage, *(str(states[state] or "") for state in STATES))
        return table


def failures_told(failed: Mapping[Path, str], planned: int, *, reasons: bool) -> str:
    """How many runs failed for the same reason, and the first of them.

    Args:
        failed: folder -> reason, of `run_plan`.
        planned: how many runs there were.
        reasons: whether to say these, too, each once; they are told above if the board was shown.
    """
    folders: dict[str, list[Path]] = {}
    for folder, reason in failed.items():
        folders.setdefault(_of_any_run(reason, folder), []).append(folder)
    told = []
    for reason, alike in folders.items():
        names = ", ".join(map(str, alike[:NAMED])) + ", ..." * (len(alike) > NAMED)
        who = f"{len(alike)} runs ({names})" if len(alike) > 1 else names
        told.append(f"{who}: {reason}" if reasons else who)
    others = "; the others are" if len(failed) < planned else ""
    above = "" if reasons else "Why is told above: "
    return f"{len(failed)} of {planned} runs are not finished{others}. {above}{'; '.join(told)}"


def _of_any_run(reason: str, folder: Path) -> str:
    """A reason without the name of the run's folder."""
    return reason.replace(str(folder), "...")


def _epochs(folder: Path) -> int:
    """How many epochs the run has in its history."""
    try:
        return max(0, len((folder / "history.csv").read_bytes().splitlines()) - 1)
    except OSError:
        return 0


def duration(seconds: float) -> str:
    """For people: 1 h 2 min, 3 min 4 s, 5.6 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
