"""Finished runs -> one `.mura` file, and what it says of itself."""

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mura_tf
from mura_tf.data.table import STUDY_KEY
from mura_tf.evaluation.operating_points import Decisions, decide
from mura_tf.evaluation.scores import score, study_probabilities
from mura_tf.files import written_whole
from mura_tf.inference.bundle import Bundle
from mura_tf.inference.bundle_facts import FORMAT
from mura_tf.inference.model_card import model_card
from mura_tf.training.facts import views_of_trained_patients
from mura_tf.training.run import Run, RunFolders, finished_runs, folders_below
from mura_tf.training.systems import systems_of, the_first

NOTICE = "Not a medical device. Research software: it must not be used to diagnose anybody."


def pack(
    run_dirs: RunFolders,
    path: str | os.PathLike[str],
    *,
    recogniser: str | os.PathLike[str] | None = None,
    name: str | None = None,
    version: str = "1",
    licence: str = "",
) -> Bundle:
    """Packs finished runs of one system as one file that reads new radiographs.

    Args:
        run_dirs: folders of finished runs, or folders above them. Of several systems the one that
            `mura-tf evaluate` lists first is taken: models per study type before one for all, then
            those with more members; a warning names others that are as good.
        path: the `.mura` file.
        recogniser: a finished run of the task study_type, which says the study type where nobody
            does.
        name, version: of the bundle; the file's name by default.
        licence: what the weights and the data allow, a sentence for `MODEL_CARD.md`.

    Returns:
        The bundle, open.

    Raises:
        ValueError: runs that are not finished or damaged, or say nothing of abnormality; a
            recogniser of another task; a path that is no `.mura`.
        FileNotFoundError: no run, or a run without its model.

    Examples:
        >>> bundle = mt.pack("demo/small_cnn/type/wrist", "demo/wrist.mura")
        >>> bundle.study_types, len(bundle.facts["members"])
        (('wrist',), 2)
    """
    path = Path(path)
    require_suffix(path)
    facts = facts_of_runs(run_dirs, recogniser)
    facts |= {"name": name or path.stem, "version": version, "licence": licence}
    with (
        written_whole(path) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive,
    ):
        for number, member in enumerate(facts["members"]):
            member["file"] = _added(archive, member["file"], f"members/member{number}.keras")
        if facts["recogniser"]:
            model = facts["recogniser"]["file"]
            facts["recogniser"]["file"] = _added(archive, model, "members/recogniser.keras")
        archive.writestr("bundle.json", json.dumps(facts, indent=2) + "\n")
        card, drawing = model_card(facts)
        archive.writestr("MODEL_CARD.md", card)
        if drawing:
            archive.writestr("calibration.svg", drawing)
    return Bundle(path)


def require_suffix(path: Path) -> None:
    """ValueError where a path is no bundle's."""
    if path.suffix != ".mura":
        raise ValueError(f"a bundle is a .mura file. Received: '{path}'.")


def facts_of_runs(
    run_dirs: RunFolders, recogniser: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """What `bundle.json` says of finished runs; members' files are where they lie now."""
    system = the_first(systems_of(folders_below(run_dirs)))
    runs, predictions = system.runs, system.predictions
    first = runs[0]
    if predictions.probability.isna().any():
        raise ValueError(
            f"the task {first.recipe.task!r} says nothing about abnormality. Expected runs of "
            "another; one that recognises study types is packed as the recogniser (--recogniser)."
        )
    if len({tuple(run.info.get("classes", ())) for run in runs}) > 1:
        raise ValueError(
            "a bundle has one set of classes. Received: models per study type, each with its own. "
            "Pack those of each study type alone."
        )
    reported = system.split
    studies = study_probabilities(predictions)
    shown = studies[studies.split == reported]
    if shown.empty:
        raise ValueError(
            "a bundle tells how its models score, on test where that has labels, otherwise on "
            f"valid. Received: runs that predicted {', '.join(studies.split.unique())} alone, none "
            "of it to score. Label test, or give them a valid split."
        )
    views = predictions.drop_duplicates([*STUDY_KEY, "view"])
    per_study = views.groupby([*STUDY_KEY]).size().groupby("study_type").median()
    return {
        "format": FORMAT,
        "name": first.recipe.backbone,
        "version": "",
        "made_by": f"mura_tf {mura_tf.__version__}",
        "notice": NOTICE,
        "licence": "",
        "system": system.name,
        "backbone": first.recipe.backbone,
        "image_size": first.recipe.side,
        "preprocessing": first.recipe.preprocessing_mode,
        "classes": list(first.info.get("classes", [])),
        "study_types": sorted(views.study_type.unique()),
        "members": [_member(run) for run in runs],
        "recogniser": _recogniser_facts(recogniser) if recogniser else None,
        "inputs": _inputs(runs),
        "views_per_study": per_study.to_dict(),
        **_decisions(decide(studies, first.recipe.select_on, reported)),
        "scores": json.loads(score(shown).to_json(orient="records")),
        "reliability": shown[["label", "probability"]].round(6).to_dict("list"),
        "data": {
            "fingerprints": sorted({run.info["data_fingerprint"] for run in runs}),
            "training_views": _training_views(runs),
            "of_trained_patients": views_of_trained_patients(runs, reported),
        },
        "recipe": first.recipe.to_dict() | {"study_types": None, "member": 0},
        "versions": first.info["versions"],
    }


def _decisions(found: Decisions) -> dict[str, Any]:
    calibration = found.calibration and {
        "slope": found.calibration.slope,
        "intercept": found.calibration.intercept,
        "error_before": found.error_before,
        "error_after": found.error_after,
    }
    return {
        "chosen_on": found.chosen_on,
        "reported_on": found.reported_on,
        "operating_points": json.loads(found.table.to_json(orient="records")),
        "calibration": calibration,
    }


def _member(run: Run) -> dict[str, Any]:
    return {
        "file": os.fspath(run.model_path),
        "study_types": run.recipe.study_types and list(run.recipe.study_types),
        "member": run.recipe.member,
        "recipe_hash": run.recipe.hash,
        "best_epoch": run.info["best_epoch"],
    }


def _recogniser_facts(folder: str | os.PathLike[str]) -> dict[str, Any]:
    run, *others = finished_runs(folders_below([folder]))
    if others:
        raise ValueError(
            f"a recogniser is one run. Received: {folder}, above {1 + len(others)}, the first two "
            f"{run.path} and {others[0].path}. Name one."
        )
    if run.recipe.task != "study_type":
        raise ValueError(
            f"a recogniser is a run of the task study_type. Received: {run.path} with the task "
            f"{run.recipe.task!r}."
        )
    return {
        "file": os.fspath(run.model_path),
        "classes": list(run.info["classes"]),
        "image_size": run.recipe.side,
        "resize": run.recipe.resize,
        "mirrored": run.recipe.mirrored,
        "preprocessing": run.recipe.preprocessing_mode,
        "recipe_hash": run.recipe.hash,
    }


def _inputs(runs: Sequence[Run]) -> dict[str, Any] | None:
    """What the images of all runs look like together, see `input_statistics`."""
    known = [run.info["inputs"] for run in runs if run.info.get("inputs")]
    if len(known) < len(runs):
        return None
    means, deviations = (np.array([one[name] for one in known]) for name in ("mean", "deviation"))
    together = np.sqrt(np.mean(deviations**2) + np.var(means))
    return known[0] | {"mean": float(means.mean()), "deviation": float(together)}


def _training_views(runs: Sequence[Run]) -> dict[str, int]:
    """Study types, joined, -> views that a model of them was trained on."""
    return {run.trained_on: run.info["views"].get("train", 0) for run in runs}


def _added(archive: zipfile.ZipFile, source: str, name: str) -> str:
    """Stores a model, which is itself a zip, as it is; returns its name inside."""
    archive.write(source, name, zipfile.ZIP_STORED)
    return name
