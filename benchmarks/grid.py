"""Planning and reporting the paper's whole grid: seconds and memory, with finished run folders.

    python benchmarks/grid.py

Writes 7 backbones x (1 whole-data run + 7 types x 5 members x 3 repeats) run folders with random
predictions for studies as many as MURA's validation set has, about as good as the published ones,
then plans and reports Tables V and VI in a process of its own.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
from memory import IMPORTED

from mura_tf.data.table import VIEW_COLUMNS, VIEW_KEY
from mura_tf.experiments.tables_v_vi import EXPERIMENT
from mura_tf.files import write_json
from mura_tf.grid.plan import PlannedRun
from mura_tf.published import published_table
from mura_tf.training.recipe import Recipe

REPORT = f"""{IMPORTED}
import time
from memory import most_resident
from mura_tf.papers.reproduce import find_experiment, reproduce
start = time.perf_counter()
reproduce(find_experiment("tables_v_vi"), sys.argv[1])
seconds = time.perf_counter() - start
print(f"{{seconds:.1f}} s, {{most_resident():.0f}} MiB at most")
"""

PUBLISHED = published_table(*EXPERIMENT.published).set_index(["backbone", "study_type"]).kappa


def main() -> None:
    views = mura_views()
    with tempfile.TemporaryDirectory() as out:
        views.to_csv(Path(out) / "views.csv", index=False)
        plan = EXPERIMENT.plan(out, sorted(views.study_type.unique()))
        for run in plan:
            write_finished(run, views)
        print(f"{len(plan)} finished runs, {len(views)} views")
        subprocess.run([sys.executable, "-c", REPORT, out], check=True)


def mura_views() -> pd.DataFrame:
    """A views table with the studies and images of MURA's validation set."""
    rows = []
    table = published_table("table_i").query("split == 'valid' and study_type != 'all'")
    for cell in table.itertuples():
        for image in range(cell.images):
            study = f"{cell.study_type}{cell.label:.0f}-{image % cell.studies:04d}"
            path = f"MURA-v1.1/valid/XR_{cell.study_type.upper()}/{study}/study1/image{image}.png"
            rows.append(("valid", cell.study_type, study, "study1", f"image{image}.png", path))
    views = pd.DataFrame(rows, columns=[*VIEW_KEY, "path"])
    label = [int(name.split("-")[0][-1]) for name in views.patient]
    return views.assign(label=label)[VIEW_COLUMNS]


def write_finished(run: PlannedRun, views: pd.DataFrame) -> None:
    """A run folder as `train` leaves it, its model empty."""
    recipe, folder = run
    rng = np.random.default_rng(int(recipe.hash, 16))
    folder.mkdir(parents=True)
    recipe.save(folder / "recipe.json")
    rows = views[views.study_type.isin(recipe.study_types or views.study_type.unique())]
    epochs = int(rng.integers(7, 20))
    write_json(
        folder / "run.json",
        {
            "finished": True,
            "versions": {},
            "backend": "none",
            "device": "none",
            "seed": recipe.run_seed,
            "views": {"train": 0, "valid": len(rows)},
            "skipped": 0,
            "data_fingerprint": "0" * 16,
            "best_epoch": epochs - 6,
            "seconds_per_epoch": [1.0] * epochs,
            "seconds": epochs,
        },
    )
    learnt = 1 - np.exp(-np.arange(1, epochs + 1) / 4)
    history = pd.DataFrame({"epoch": range(1, epochs + 1), "learning_rate": 1e-4})
    for column, start, gain in (
        ("loss", 0.7, -0.5),
        ("kappa", 0.0, 0.8),
        ("val_loss", 0.7, -0.2),
        ("val_kappa", 0.0, 0.6),
    ):
        history[column] = start + gain * learnt + rng.normal(0, 0.03, epochs)
    history.to_csv(folder / "history.csv", index=False)
    facts = {name: getattr(recipe, name) for name in ("backbone", "stage", "repeat", "member")}
    probability = 1 / (1 + np.exp(-2 * evidence(recipe, rows, rng)))
    rows.assign(**facts, probability=probability).to_csv(folder / "predictions.csv", index=False)


def evidence(recipe: Recipe, rows: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """How much speaks for abnormal in each view, (n,).

    Most of what misleads is shared: by all systems, and by the members of an ensemble. So the mean
    over the members is right about as often as the published one.
    """
    study = pd.factorize(rows.patient)[0]
    kind = recipe.study_types[0] if recipe.study_types else "overall"
    skill = NormalDist().inv_cdf((1 + PUBLISHED[recipe.backbone, kind]) / 2)
    systems, members = map(ord, kind), map(ord, recipe.backbone + recipe.stage + kind)
    hard = np.random.default_rng([*systems]).normal(0, 0.8, study.max() + 1)
    misled = np.random.default_rng([recipe.repeat, *members]).normal(0, 0.6, study.max() + 1)
    own = rng.normal(0, 0.4, len(rows))
    return skill * (2 * rows.label - 1) + hard[study] + misled[study] + own


if __name__ == "__main__":
    main()
