"""Many runs: which there are, which needs which, and all of them done, on any engine."""

import dataclasses
import os
import uuid
from collections.abc import Container, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mura_tf.data.table import plain_views, views_mark
from mura_tf.data.text import beside
from mura_tf.data.views import read_views
from mura_tf.evaluation.scores import reported_split, require_labels
from mura_tf.files import remove_lost_parts, remove_parts, whole_path, written_whole
from mura_tf.grid.engines import Engine, LocalEngine
from mura_tf.grid.progress import Board
from mura_tf.grid.worker import LOG, STARTED, RunError
from mura_tf.models.backbones import require_weights
from mura_tf.models.backend import require_backend
from mura_tf.terminal import track
from mura_tf.training.failures import is_shortage, shortage
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import RESUME, Run
from mura_tf.training.selection import selected_views, split_views, usable_views

SCHEMES = {
    "two-stage": "one model on all study types, then from it one per study type (the paper's)",
    "direct": "one model per study type, straight from the recipe's weights (Table IV, left)",
    "whole": "one model on all study types together",
}
SET_HERE = {
    "study_types": "choose study types with `study_types` (--types)",
    "stage": "the scheme has its stages (--scheme)",
    "member": "`members` (--members) says how many there are",
    "repeat": "`repeats` (--repeats) says how many there are",
}
"""Settings that a plan sets run by run, and what chooses them."""
SELECTING = (
    "study_types",
    "task",
    "select_on",
    "holdout",
    "holdout_by",
    "seed",
    "side",
    "first_sizes",
    "resize",
    "head",
    "monitor",
)
"""What decides which views a run uses, and how; runs that agree in it are checked once."""
ATTEMPTS = 2
"""A run that fails is tried once more, unless that is of no use: a machine's fault is often gone by
then."""


class PlannedRun(NamedTuple):
    """A run and its folder."""

    recipe: Recipe
    folder: Path

    @property
    def needs(self) -> Path | None:
        """The folder of the run whose model it starts from, if any; relative where its own is, so
        that it is known among a plan's, wherever that lies."""
        initial = self.recipe.initial_path(self.folder)
        if initial is None:
            return None
        needed = initial.parent
        if needed.is_absolute() and not self.folder.is_absolute():
            with suppress(ValueError):  # on another drive of Windows
                return Path(os.path.relpath(needed))
        return needed


def plan_runs(
    recipe: Recipe,
    out: str | os.PathLike[str],
    study_types: Iterable[str],
    *,
    scheme: str = "two-stage",
    members: int = 5,
    repeats: int = 1,
) -> list[PlannedRun]:
    """The runs of an experiment, each after the one it starts from.

    Args:
        recipe: what all runs share, without what is `SET_HERE`.
        out: the folder above the run folders.
        study_types: those that get a model of their own; the whole-data model trains on all.
        scheme: a key of `SCHEMES`.
        members: models per ensemble. The two-stage scheme has one whole-data model, from which
            all members start, as in the paper.
        repeats: how often the ensembles are trained anew.

    Raises:
        ValueError: an unknown scheme, a count below 1, a recipe that has itself what is `SET_HERE`,
            or one of classes whose models of a type would start with the head of all types.

    Source: the paper, sections V-D and VI-A.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}. Received: {scheme!r}.")
    require_counts(members=members, repeats=repeats)
    require_unset(vars(recipe), SET_HERE)
    copies = [(repeat, member) for repeat in range(repeats) for member in range(members)]
    whole = dataclasses.replace(recipe, stage="mura", study_types=None)
    if scheme == "whole":
        recipes = [dataclasses.replace(whole, repeat=r, member=m) for r, m in copies]
        return [PlannedRun(one, run_folder(out, one)) for one in recipes]
    recipes = []
    single = dataclasses.replace(recipe, stage="imagenet")
    if scheme == "two-stage":
        if recipe.task != "abnormality" and recipe.initial_part == "model":
            raise ValueError(
                "a model of one study type has fewer classes than that of all, from which it "
                f"starts in the scheme 'two-stage'. Received: task {recipe.task!r} with "
                "initial_part 'model'. Use initial_part 'without_output', or another scheme."
            )
        recipes.append(whole)
        # relative to the run folder, so that `out` can be moved as a whole
        start = (
            Path("../../..") / run_folder(".", whole).relative_to(recipe.backbone) / "best.keras"
        )
        single = dataclasses.replace(recipe, stage="type", initial=start.as_posix())
    recipes += [
        dataclasses.replace(single, study_types=(study_type,), repeat=repeat, member=member)
        for study_type in dict.fromkeys(study_types)
        for repeat, member in copies
    ]
    return [PlannedRun(one, run_folder(out, one)) for one in recipes]


def require_counts(**counts: int) -> None:
    """ValueError where one of them is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1. Received: {count!r}.")


def require_unset(settings: Mapping[str, Any], mends: Mapping[str, str]) -> None:
    """ValueError where a recipe's settings hold what a plan sets run by run.

    Args:
        settings: all of a recipe's, or some.
        mends: what is set run by run -> what chooses it, such as `SET_HERE`.
    """
    for name, mend in mends.items():
        unset = getattr(Recipe(), name)
        if settings.get(name, unset) != unset:
            raise ValueError(
                f"{name} of an experiment's recipe is set run by run, so it must be {unset!r}. "
                f"Received: {settings[name]!r}. Take it out; {mend}."
            )


def run_folder(out: str | os.PathLike[str], recipe: Recipe) -> Path:
    """`out/backbone/stage/types/repeatR-memberM`: two experiments that share a run share it."""
    types = "+".join(recipe.study_types or ["all"])
    copy = f"repeat{recipe.repeat}-member{recipe.member}"
    return Path(out) / recipe.backbone / recipe.stage / types / copy


def run_plan(
    plan: list[PlannedRun],
    views: pd.DataFrame,
    out: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    skip_bad: bool | float = False,
    tensorboard: bool = False,
    verbose: bool = True,
) -> dict[Path, str]:
    """Trains what is not finished yet, each run in a process of its own.

    A run waits for the one it starts from. One that fails is tried once more, unless it would fail
    the same way (a wrong setting, no network, too little memory); then it is reported, with those
    that needed it, and the rest goes on. Stopped in any way, the same call goes on from
    there: finished runs are left alone, and begun ones resume.

    Args:
        plan: of `plan_runs`, or several put together; a folder that comes twice is trained once.
        views: views table; kept as `out/views.csv` for the runs.
        out: a folder that all runs can reach.
        engine: where the runs are executed, closed at the end; by default one at a time on this
            machine.
        cache_dir, skip_bad, tensorboard: see `train`.
        verbose: whether to show what is done, running and left.

    Returns:
        Folder -> reason, of the runs that are not finished; empty if all is well.

    Raises:
        ValueError: before anything is trained: views that cannot be trained on, a run folder that
            holds another recipe or data set, an `out` whose runs are of other views, or what
            `require_backend` refuses; once all others are trained, runs that wait for each other.
        OSError: before anything is trained: `out` cannot be written to; weights or a model to start
            from that are not there.
    """
    plan = [PlannedRun(recipe, Path(os.path.normpath(folder))) for recipe, folder in plan]
    views_path = Path(out) / "views.csv"
    name = uuid.uuid4().hex
    order = {
        "plan": name,
        "directory": os.getcwd(),
        "views": os.fspath(views_path),
        "settings": {
            "cache_dir": cache_dir and os.fspath(cache_dir),
            "skip_bad": skip_bad,
            "tensorboard": tensorboard,
            "verbose": 2,
        },
    }
    engine = engine or LocalEngine()
    try:
        require_backend(training=True)
        plan = _each_once(plan)
        views = plain_views(views)
        remove_lost_parts(out)  # other commands may be writing theirs
        with written_whole(views_path) as part:
            _require_same_views(views_path, views)
            images = _check(plan, views, cache_dir, skip_bad, verbose)
            _require_same_views(views_path, views)  # another command may have begun meanwhile
            paths = [_unmistakable(path, out) for path in views.path]
            views.assign(path=paths).to_csv(part, index=False)
        order["mark"] = views_mark(views)
        with Board(plan, images, name, verbose) as board:
            return _execute(plan, order, engine, board)
    finally:
        engine.close()


def _unmistakable(path: str, folder: str | os.PathLike[str]) -> str:
    """A path that a table in `folder` may hold: not one that is taken for another there."""
    return path if beside(folder, path) == path else whole_path(path)


def _each_once(plan: Iterable[PlannedRun]) -> list[PlannedRun]:
    by_folder: dict[Path, PlannedRun] = {}
    for run in plan:
        if by_folder.setdefault(run.folder, run).recipe != run.recipe:
            raise ValueError(
                f"a folder holds a run of one recipe. Received: two for {run.folder}. Give each "
                "recipe an `out` of its own."
            )
    return list(by_folder.values())


def require_reported_labels(plan: Iterable[PlannedRun], views: pd.DataFrame) -> None:
    """ValueError where what a plan's runs are scored on has no label, before hours of training."""
    every = views.study_type.unique()
    types = {name for run in plan for name in run.recipe.study_types or every}
    views = views[views.study_type.isin(types)]
    split = reported_split(views)
    reported = views[views.split == split]
    if "test" in set(views.split) and reported.empty:
        raise ValueError(
            "what is reported, test or valid, needs labels. Received: a test split without any, "
            "and no valid split. Label its views, or hold some out."
        )
    require_labels(reported)


def _require_same_views(path: Path, views: pd.DataFrame) -> None:
    """ValueError where runs beside `path` were begun with other views than these.

    The files may lie elsewhere now. Whether they are the same, `Run.require_data` knows.
    """
    try:
        before = read_views(path)
    except (OSError, ValueError):  # there is none, or it has to be written anew
        return
    before, now = (
        set(table.drop(columns="path").itertuples(index=False, name=None))
        for table in (before, views)
    )
    if before != now and _has_runs(path.parent):
        raise ValueError(
            f"{path.parent} holds runs on other views: {len(before - now)} of the "
            f"{len(before)} views in {path.name} are not among those given now, and "
            f"{len(now - before)} of {len(now)} are new, or have another split or label. Use "
            "another folder for each data set and each split."
        )


def _has_runs(out: Path) -> bool:
    """Whether a run below is one of `out`'s own views.csv, and not of one further down."""
    for info in out.rglob("run.json"):
        above = takewhile(lambda folder: folder != out, info.parents)
        if not any((folder / "views.csv").exists() for folder in above):
            return True
    return False


def _check(
    plan: list[PlannedRun],
    views: pd.DataFrame,
    cache_dir: str | os.PathLike[str] | None,
    skip_bad: bool | float,
    verbose: bool,
) -> dict[Path, int]:
    """Raises what would fail hours later; returns how many views each run trains on."""
    known: dict[tuple[object, ...], tuple[int, str]] = {}
    images = {}
    trained = {run.folder for run in plan if not Run(run.folder).finished}
    for recipe, folder in track(plan, "Checking the runs", shown=verbose):
        run = Run(folder)
        run.require_recipe(recipe)
        if folder in trained:
            _require_start(PlannedRun(recipe, folder), trained)
        key = tuple(getattr(recipe, name) for name in SELECTING)
        if key not in known:
            chosen, _, _, fingerprint = usable_views(
                selected_views(views, recipe),
                recipe,
                cache_dir,
                skip_bad=skip_bad,
                progress=verbose,
            )
            known[key] = len(split_views(chosen, recipe)["train"]), fingerprint
        images[folder], fingerprint = known[key]
        run.require_data(fingerprint)
    return images


def _require_start(run: PlannedRun, trained: Container[Path]) -> None:
    """What a run starts from has to be there, or to be `trained` by the plan."""
    start = run.recipe.initial_path(run.folder)
    if start is None:
        require_weights(run.recipe.backbone, run.recipe.weights)
    elif run.needs not in trained and not start.is_file():
        raise FileNotFoundError(
            f"{run.folder} starts from another run's model, and there is no {start}. Restore "
            "it, or delete that run's folder, and it is trained again where the plan has it."
        )


def _execute(
    plan: list[PlannedRun], order: dict[str, Any], engine: Engine, board: Board
) -> dict[Path, str]:
    by_folder = {run.folder: run for run in plan}
    finished = {run.folder for run in plan if Run(run.folder).finished}
    for folder in finished:
        _remove_leftovers(folder)
    waiting = [run for run in plan if run.folder not in finished]
    attempts: dict[Path, int] = dict.fromkeys(by_folder, 0)
    failed: dict[Path, str] = {}
    running: dict[Future[None], PlannedRun] = {}

    def submit(run: PlannedRun) -> None:
        attempts[run.folder] += 1
        one = {"recipe": run.recipe.to_dict(), "folder": os.fspath(run.folder)}
        running[engine.submit(order | one)] = run

    while waiting or running:
        held = []
        for run in waiting:
            if run.needs in failed:
                failed[run.folder] = f"not begun, because {run.needs} failed"
                board.failed(run, failed[run.folder])
            elif run.needs in by_folder and run.needs not in finished:
                held.append(run)
            else:
                submit(run)
        if held and held == waiting and not running:
            raise ValueError(
                "each run of a plan starts from one that can be trained before it. Received: "
                f"{', '.join(f'{run.folder} from {run.needs}' for run in held[:5])}, which wait "
                "for each other. Take `initial` out of the recipe."
            )
        waiting = held
        done, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
        for future in done:
            run = running.pop(future)
            try:
                future.result()
                _require_finished(run.folder)
            except Exception as error:
                failure = _failure(error, run.recipe)
                if attempts[run.folder] < ATTEMPTS and not failure.final:
                    board.retried(run, str(failure))
                    submit(run)
                else:
                    failed[run.folder] = str(failure)
                    board.failed(run, str(failure))
            else:
                finished.add(run.folder)
                board.finished(run)
        board.refresh()
    return failed


def _remove_leftovers(folder: Path) -> None:
    """Removes what a kill between a run's end and its clearing up has left."""
    for name in (LOG, STARTED, RESUME):
        with suppress(OSError):  # another command may be removing it
            (folder / name).unlink()
    remove_parts(folder)


def _require_finished(folder: Path) -> None:
    if not Run(folder).finished:
        raise RunError(
            f"the process ended well, but {folder} holds no finished run. Expected a folder that "
            "all nodes share under one path."
        )


def _failure(error: Exception, recipe: Recipe) -> RunError:
    """The run's own failure, or what the engine says in a line."""
    cause = getattr(error, "cause", None) or error  # Ray wraps what a task has raised
    if isinstance(cause, RunError):
        return cause
    if is_shortage(cause):  # Ray ends a task before the system does
        return RunError(shortage(recipe), final=True)
    text = str(cause) or type(cause).__name__
    return RunError(text.splitlines()[0])
