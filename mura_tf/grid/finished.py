"""Planned runs -> those that can be reported, and a sentence on each that cannot."""

from collections import Counter
from pathlib import Path

from mura_tf.grid.plan import PlannedRun
from mura_tf.training.run import Run, load_predictions


def readable_runs(plan: list[PlannedRun]) -> tuple[dict[Path, Run], list[str]]:
    """Folder -> finished run, and a sentence per run that cannot be read."""
    finished, unreadable = {}, []
    runs = {planned.folder: Run(planned.folder) for planned in plan}
    whole = _have_predictions(list(runs.values()))
    for folder, run in runs.items():
        try:
            if run.finished:
                _ = run.recipe, run.history  # are kept
                if not whole:
                    _ = run.predictions
                finished[folder] = run
        except (OSError, ValueError) as error:
            unreadable.append(str(error))
    return finished, unreadable


def _have_predictions(runs: list[Run]) -> bool:
    """Whether all that are finished have them whole: read at once, which is far quicker."""
    try:
        load_predictions(run.path for run in runs if run.finished)
    except (OSError, ValueError):
        return False
    return True


def complete_ensembles(
    plan: list[PlannedRun], finished: set[Path]
) -> tuple[list[PlannedRun], list[str]]:
    """The runs of ensembles that have all members, and a sentence per ensemble that has not."""
    ensembles: dict[tuple[Path, int], list[PlannedRun]] = {}
    for planned in plan:
        key = (planned.folder.parent, planned.recipe.repeat)
        ensembles.setdefault(key, []).append(planned)
    complete, missing = [], []
    for (folder, repeat), ensemble in ensembles.items():
        lacking = [str(one.recipe.member) for one in ensemble if one.folder not in finished]
        if lacking:
            missing.append(
                f"{folder}: repeat {repeat} lacks {len(lacking)} of {len(ensemble)} members, "
                f"numbers {', '.join(lacking)}."
            )
        else:
            complete += ensemble
    return complete, missing


def lost_starts(complete: list[PlannedRun], finished: set[Path]) -> list[str]:
    """A sentence per run that reported ones started from, where it is gone."""
    lost = Counter(run.needs for run in complete if run.needs and run.needs not in finished)
    return [
        f"{folder}: {count} of the runs reported started from its model, and it is not there, or "
        "not finished."
        for folder, count in lost.items()
    ]
