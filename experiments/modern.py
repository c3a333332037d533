"""Beyond the paper, on FracAtlas: the tries behind `--recipe modern`, and its ablations.

    python experiments/modern.py FRACATLAS WEIGHTS.h5 runs/modern            # trains what is left
    python experiments/modern.py FRACATLAS WEIGHTS.h5 runs/modern --test     # once, at the end

Cost: about 50 minutes a try on two CPU cores. Tries are trained in their order, each a line of
`results/modern/tries.csv` with its seconds and its scores on valid, by which alone one is chosen:
by AUROC, where that differs by less than the repeats of one recipe do, by the cost. Test is scored
for the chosen one and for each ablation of it, with `--test`, which is refused a second time.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from mura_tf import Ensemble, Recipe, Run, load_fracatlas, study_probabilities, train
from mura_tf.evaluation.metrics import bootstrap_weights, interval, weighted_scores
from mura_tf.evaluation.operating_points import decide
from mura_tf.explain.scores import score_detections, score_heatmaps
from mura_tf.models.specs import parse_head
from mura_tf.published import OVERALL
from mura_tf.training.recipe import find_settings

MODERN = "modern"
TRIES: dict[str, dict[str, object]] = {
    MODERN: {},
    "seed_1": {"seed": 1},
    "seed_2": {"seed": 2},
    "stride_8": {"head": ("map:8:0.2", "pool", "dropout:0.5")},
    "boxes_1": {"head": ("map:16:1", "pool", "dropout:0.5")},
    "longer": {"first_sizes": ("256:6",), "max_epochs": 14},
    # what each part is worth
    "without_boxes": {"head": ("map:16:0", "pool", "dropout:0.5")},
    "without_map": {"head": ("pool", "dropout:0.5")},
    "without_averaging": {"averaging": 0.0},
    "without_mirror": {"mirrored": False},
    "at_256": {"image_size": 256, "first_sizes": ()},
    "balanced": {"balance": "all"},
}
"""Name -> what differs from the recipe, in the order in which they are trained."""
RESULTS = Path(__file__).parent / "results" / "modern"


def scored(run: Run, data: Path, split: str) -> dict[str, object]:
    """The row of a try: ranking, decisions by thresholds chosen on valid, and where it points."""
    studies = study_probabilities(run.predictions)
    decisions = decide(studies, "valid", split)
    kappas = decisions.table.set_index("point").kappa
    shown = studies[studies.split == split]
    labels, probability = shown.label.to_numpy(), shown.probability.to_numpy()
    weights = bootstrap_weights(shown.patient, 2000, seed=0)
    low, high = interval(weighted_scores(labels, probability, weights)["auroc"])
    row = {
        "split": split,
        "auroc": weighted_scores(labels, probability, np.ones((1, len(shown))))["auroc"][0],
        "auroc_low": low,
        "auroc_high": high,
        "kappa": kappas["paper"],
        "kappa_at_best": kappas["kappa"],
        "calibration_error": decisions.error_after,
    }
    if "map" not in [name for name, _ in parse_head(run.recipe.head)]:
        return row
    ensemble = Ensemble(run.path, data)
    ensemble.split = split
    table = score_heatmaps(ensemble, data, ["learned"])
    chosen = table[(table.study_type == OVERALL) & (table.method == "learned")]
    row["pointing"] = chosen.set_index("score").value["pointing"]
    for one in score_detections(ensemble, data, ["learned"]).itertuples():
        row[f"ap_{one.iou:g}"] = one.average_precision
    return row


def gain(one: Run, other: Run, split: str) -> dict[str, float]:
    """The AUROC of one run less that of another, with its paired 95 % interval over patients."""
    tables = [study_probabilities(run.predictions) for run in (one, other)]
    ours, theirs = (table[table.split == split] for table in tables)
    weights = bootstrap_weights(ours.patient, 2000, seed=0)
    samples = [
        weighted_scores(rows.label.to_numpy(), rows.probability.to_numpy(), weights)["auroc"]
        for rows in (ours, theirs)
    ]
    low, high = interval(samples[0] - samples[1])
    return {"gain_low": low, "gain_high": high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", help="names of tries, with commas between them")
    parser.add_argument("--test", action="store_true", help="score test, once")
    arguments = parser.parse_args()
    if arguments.test and (RESULTS / "test.csv").exists():
        parser.error(f"test was opened before: {RESULTS / 'test.csv'}")
    views = load_fracatlas(arguments.data)
    base = Recipe.from_dict(find_settings("modern") | {"weights": arguments.weights})
    names = arguments.only.split(",") if arguments.only else list(TRIES)
    split = "test" if arguments.test else "valid"
    rows = []
    for name in names:
        recipe = base.changed(TRIES[name])
        run = train(recipe, views, arguments.out / name, skip_bad=True)
        row = {"try": name, "recipe": recipe.hash, "seconds": run.info["seconds"]}
        row |= scored(run, arguments.data, split)
        rows.append(row | gain(run, Run(arguments.out / MODERN), split))
        RESULTS.mkdir(parents=True, exist_ok=True)
        path = RESULTS / ("test.csv" if arguments.test else "tries.csv")
        pd.DataFrame(rows).to_csv(path, index=False)
        print(pd.DataFrame(rows).to_string())


if __name__ == "__main__":
    main()
