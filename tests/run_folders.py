"""Finished run folders as `train` leaves them, with predictions that no model made."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd

TYPES = ["elbow", "finger", "forearm", "hand", "humerus", "shoulder", "wrist"]
TWO_TYPES = {"humerus": (30, 24), "wrist": (40, 30)}
FEW_STUDIES = {"elbow": (12, 10), "wrist": (12, 10)}
"""For `views_of`."""
SMALL = {"elbow": (20, 16), "wrist": (24, 20)}
"""For `views_of`, where small samples do."""


def views_of(counts):
    """A views table of one view per study: study type -> (normal, abnormal) studies."""
    rows = []
    for study_type, labels in counts.items():
        for label, studies in enumerate(labels):
            for number in range(studies):
                patient = f"patient{label}{number // 2:04}"
                rows.append(("valid", study_type, patient, f"study{number % 2}", "1.png", label))
    columns = ["split", "study_type", "patient", "study", "view", "label"]
    return pd.DataFrame(rows, columns=columns).assign(path="nowhere.png")


def finish(run, views, skill=1.1, data="0" * 16, **settings):
    """A run folder as `train` leaves it, without a model.

    `data` is the fingerprint, and `settings` replace the recipe's.
    """
    recipe, folder = replace(run.recipe, **settings), run.folder
    text = f"{recipe.backbone} {recipe.stage} {recipe.study_types} {recipe.repeat}"
    shared = np.random.default_rng(zlib.crc32(text.encode()))  # by the members of an ensemble
    folder.mkdir(parents=True)
    recipe.save(folder / "recipe.json")
    history = pd.DataFrame({"epoch": range(1, 9), "learning_rate": 1e-4})
    for column in ("loss", "kappa", "val_loss", "val_kappa"):
        history[column] = np.random.default_rng(recipe.member).uniform(0, 1, 8)
    history.to_csv(folder / "history.csv", index=False)
    info = {"finished": True, "versions": {"keras": "3.15.1"}, "backend": "none"}
    info |= {"device": "none", "data_fingerprint": data, "best_epoch": 2, "seed": 0, "skipped": 0}
    info |= {"seconds_per_epoch": [1.0] * 8, "seconds": 8}
    rows = views[views.study_type.isin(recipe.study_types or TYPES)]
    info["views"] = {"train": 2 * len(rows)} | rows.split.value_counts().to_dict()
    (folder / "run.json").write_text(json.dumps(info))
    logits = skill * (2 * rows.label - 1) + shared.normal(0, 1, len(rows))
    logits += np.random.default_rng([recipe.member, *text.encode()]).normal(0, 0.4, len(rows))
    facts = {name: getattr(recipe, name) for name in ("backbone", "stage", "repeat", "member")}
    rows.assign(**facts, probability=1 / (1 + np.exp(-logits))).to_csv(
        folder / "predictions.csv", index=False
    )


def finished(experiment, out, views, *, lacking=(), **changed):
    """Writes the runs of an experiment, but for `lacking`, and returns the plan."""
    types = sorted(views.study_type.unique())
    plan = experiment.plan(out, types, **changed)
    for index, run in enumerate(plan):
        if index not in lacking:
            finish(run, views)
    return plan
