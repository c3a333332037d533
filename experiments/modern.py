"""Beyond the paper, on FracAtlas: the tries behind `--recipe modern`, and its ablations.

    python experiments/modern.py FRACATLAS WEIGHTS.h5 runs/modern            # trains what is left
    python experiments/modern.py FRACATLAS WEIGHTS.h5 runs/modern --only modern --test  # once

Cost: about 50 minutes a try on two CPU cores. Tries and ablations are trained in their order, each
a line of `results/modern/tries.csv` with its seconds and its scores on valid, by which alone a try
is chosen: by AUROC, where that differs by less than the members of one recipe do, by the cost. The
chosen one becomes the recipe, as the ablations are of that. Its members together are one more line,
and so is what `--beside` names, such as the runs of the recipe before it. What a run folder holds
besides its weights is kept in `results/modern/`, so that a try is left when it was trained on
another machine; where its map points is scored where its model is. Test is scored with `--test` for
these, the try that `--only` names and the ablations, written when all are scored, and refused a
second time.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mura_tf import (
    Ensemble,
    Recipe,
    Run,
    cohen_kappa,
    load_fracatlas,
    load_predictions,
    study_probabilities,
    train,
)
from mura_tf.data.table import STUDY_KEY
from mura_tf.evaluation.metrics import THRESHOLD, bootstrap_weights, interval, weighted_auroc
from mura_tf.evaluation.operating_points import decide
from mura_tf.explain.scores import score_detections, score_heatmaps, write_scores
from mura_tf.files import write_json
from mura_tf.models.specs import parse_head
from mura_tf.published import OVERALL
from mura_tf.training.recipe import find_settings
from mura_tf.training.run import finished_runs, folders_below

MODERN = "modern"
TRIES: dict[str, dict[str, object]] = {
    MODERN: {},
    "member_1": {"member": 1},
    "member_2": {"member": 2},
    "stride_8": {"head": ("map:8:0.2", "pool", "dropout:0.5")},
    "boxes_1": {"head": ("map:16:1", "pool", "dropout:0.5")},
    "longer": {"first_sizes": ("256:6",), "max_epochs": 14},
}
"""Name -> what differs from the recipe, in the order in which they are trained."""
MEMBERS = (MODERN, "member_1", "member_2")
"""What `mura-tf train --recipe modern --scheme whole --members 3` trains."""
TOGETHER = "members"
"""The line of these together."""
METHODS = ("learned", "cam", "grad_cam")
"""How their maps are scored against boxes, in `results/modern/heatmap_scores.csv`."""
ABLATIONS: dict[str, dict[str, object]] = {
    "without_boxes": {"head": ("map:16:0", "pool", "dropout:0.5")},
    "without_map": {"head": ("pool", "dropout:0.5")},
    "without_averaging": {"averaging": 0.0},
    "without_mirror": {"mirrored": False},
    "at_256": {"image_size": 256, "first_sizes": ()},
    "balanced": {"balance": "all"},
}
"""The same, to see what each part of the recipe is worth."""
PREDICTED = {"mirrored"}
"""What is of prediction alone: where no more differs, the model is trained already."""
RESULTS = Path(__file__).parent / "results" / "modern"
KEPT = ("recipe.json", "run.json", "history.csv", "predictions.csv")
"""What stays of a run folder."""


def recipe_of(name: str, weights: str | None) -> Recipe:
    """Of a try or an ablation, as a plan of models on all study types has it."""
    settings = find_settings(MODERN) | {"weights": weights, "stage": "mura"}
    return Recipe.from_dict(settings).changed((TRIES | ABLATIONS)[name])


def is_kept(name: str, weights: str | None) -> bool:
    """Whether a try or an ablation was trained by the recipe as it is."""
    run = Run(RESULTS / name)
    return run.finished and spelled(run.recipe) == spelled(recipe_of(name, weights))


def spelled(recipe: Recipe) -> Recipe:
    """With the name of the weights' file alone: where it lies makes no other recipe."""
    return recipe.changed({"weights": recipe.weights_name})


def keep(run: Run, folder: Path) -> Run:
    """Copies what a run folder holds besides its weights; it counts once all is there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KEPT[-1]).unlink(missing_ok=True)
    for name in KEPT:
        shutil.copyfile(run.path / name, folder / name)
    return Run(folder)


def begin_from(trained: Path, recipe: Recipe, folder: Path) -> None:
    """Makes the run folder of a recipe that differs in `PREDICTED` alone: it has yet to predict."""
    run = Run(trained)
    said = {"recipe_hash": recipe.hash, "constant": None, "auroc": None}  # of its predictions
    shutil.copytree(
        trained,
        folder,
        ignore=shutil.ignore_patterns("predictions.csv", ".lock"),
        dirs_exist_ok=True,
    )
    recipe.save(folder / "recipe.json")
    write_json(folder / "run.json", run.info | said)


def scored(runs: Sequence[Run], split: str) -> dict[str, object]:
    """Of a system: ranking, and decisions by thresholds and a calibration chosen on valid."""
    studies = studies_of(runs)
    decisions = decide(studies, "valid", split)
    kappas = decisions.table.set_index("point").kappa
    shown = studies[studies.split == split]
    labels, probability = shown.label.to_numpy(), shown.probability.to_numpy()
    assert decisions.calibration, "valid has studies of both labels"
    weights = bootstrap_weights(shown.patient, 2000, seed=0)
    low, high = interval(weighted_auroc(labels, probability, weights))
    return {
        "split": split,
        "auroc": weighted_auroc(labels, probability, np.ones((1, len(shown))))[0],
        "auroc_low": low,
        "auroc_high": high,
        "kappa": kappas["paper"],
        "kappa_calibrated": cohen_kappa(labels, decisions.calibration(probability) > THRESHOLD),
        "kappa_at_best": kappas["kappa"],
        "calibration_error": decisions.error_after,
    }


def has_model(folder: Path, recipe: Recipe) -> bool:
    """Whether a run folder has the model of that recipe."""
    return (folder / "best.keras").exists() and spelled(Run(folder).recipe) == spelled(recipe)


def explained(folders: Sequence[Path], data: Path, split: str) -> Ensemble:
    """A system, to be explained on a split."""
    ensemble = Ensemble(folders, data)
    ensemble.split = split
    return ensemble


def located(folders: Sequence[Path], data: Path, split: str) -> dict[str, float]:
    """How often the learned map of a system points into a box, and its average precision."""
    heads = [parse_head(Run(folder).recipe.head) for folder in folders]
    if not all("map" in dict(head) for head in heads):
        return {}
    ensemble = explained(folders, data, split)
    table = score_heatmaps(ensemble, data, ["learned"])
    chosen = table[(table.study_type == OVERALL) & (table.method == "learned")]
    found = {"pointing": chosen.set_index("score").value["pointing"]}
    for one in score_detections(ensemble, data, ["learned"]).itertuples():
        found[f"ap_{one.iou:g}"] = one.average_precision
    return found


def gain(runs: Sequence[Run], others: Sequence[Run], split: str) -> dict[str, float]:
    """The AUROC of one system less that of another, with its paired 95 % interval over patients."""
    ours, theirs = studies_of(runs), studies_of(others)
    key = [*STUDY_KEY, "label"]
    pairs = ours[ours.split == split].merge(theirs[[*key, "probability"]], on=key, validate="1:1")
    drawn = bootstrap_weights(pairs.patient, 2000, seed=0)
    weights = np.vstack([np.ones(len(pairs)), drawn])  # the studies as they are come first
    aurocs = [
        weighted_auroc(pairs.label, pairs[name], weights)
        for name in ("probability_x", "probability_y")
    ]
    gains = aurocs[0] - aurocs[1]
    low, high = interval(gains[1:])
    return {"gain": gains[0], "gain_low": low, "gain_high": high}


def studies_of(runs: Sequence[Run]) -> pd.DataFrame:
    """Of the members of one system, by the mean of their probabilities."""
    return study_probabilities(load_predictions(run.path for run in runs))


def write_tries(rows: list[dict[str, object]], path: Path) -> None:
    """Writes a table of tries, in which these rows take the place of those of the same name.

    What a row does not say, such as where a map points without its model, it keeps of one of the
    same recipe.
    """
    table = pd.DataFrame(rows).set_index("try")
    if path.exists():
        before = pd.read_csv(path, index_col="try")
        same = before[before.recipe == table.recipe.reindex(before.index)]
        others = before[~before.index.isin(table.index)]
        columns = list(dict.fromkeys([*before, *table]))
        table = pd.concat([others, table.combine_first(same)])[columns]
    table.to_csv(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", help="names of tries and ablations, with commas between them")
    parser.add_argument("--beside", type=Path, help="a folder of finished runs of one system")
    parser.add_argument("--test", action="store_true", help="score test, once")
    arguments = parser.parse_args()
    known = TRIES | ABLATIONS
    names = [name for name in known if not is_kept(name, arguments.weights)]
    if arguments.only:
        names = arguments.only.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"--only must name some of {', '.join(known)}. Received: {unknown[0]!r}.")
    path = RESULTS / "tries.csv"
    against = MODERN
    if arguments.test:
        path = RESULTS / "test.csv"
        if path.exists():
            parser.error(f"test was opened before: {path}.")
        if not arguments.only or len(names) != 1 or names[0] not in TRIES:
            parser.error("--test needs the chosen one of the tries. Give it with --only.")
        against = names[0]
        names += list(ABLATIONS)
        if left := [name for name in MEMBERS if not is_kept(name, arguments.weights)]:
            parser.error(f"--test is of the members, too. Train {', '.join(left)} first.")
    reference = Run(RESULTS / against)
    if names and names[0] != against and not is_kept(against, arguments.weights):
        parser.error(f"others are compared with {against!r}, which is not trained. Train it first.")
    beside = finished_runs(folders_below(arguments.beside)) if arguments.beside else []
    if beside and arguments.beside.name in {*known, TOGETHER, ""}:
        parser.error(f"--beside must have a name of its own. Received: {arguments.beside}.")
    views = load_fracatlas(arguments.data)
    split = "test" if arguments.test else "valid"
    rows: list[dict[str, object]] = []
    RESULTS.mkdir(parents=True, exist_ok=True)

    def tell(name: str, runs: Sequence[Run], trained: Sequence[Path]) -> None:
        row = {"try": name, "recipe": spelled(runs[0].recipe).hash, "models": len(runs)}
        row["seconds"] = sum(run.info["seconds"] for run in runs)
        row |= scored(runs, split) | gain(runs, [reference], split)
        pairs = zip(trained, runs, strict=True)
        if all(has_model(folder, run.recipe) for folder, run in pairs):
            row |= located(trained, arguments.data, split)
            if name == TOGETHER:
                ensemble = explained(trained, arguments.data, split)
                write_scores(ensemble, arguments.data, RESULTS, METHODS)
        rows.append(row)
        if not arguments.test:
            write_tries(rows[-1:], path)

    for name in names:
        folder = arguments.out / name
        if not is_kept(name, arguments.weights):
            recipe, first = (recipe_of(one, arguments.weights) for one in (name, MODERN))
            trained = arguments.out / MODERN
            if known[name].keys() <= PREDICTED and name != MODERN and has_model(trained, first):
                begin_from(trained, recipe, folder)
            keep(train(recipe, views, folder, skip_bad=True), RESULTS / name)
        tell(name, [Run(RESULTS / name)], [folder])
    if set(names) & set(MEMBERS) and all(is_kept(name, arguments.weights) for name in MEMBERS):
        runs = [Run(RESULTS / name) for name in MEMBERS]
        tell(TOGETHER, runs, [arguments.out / name for name in MEMBERS])
    if beside:
        name = arguments.beside.name
        kept = [
            keep(run, RESULTS / name / run.path.relative_to(arguments.beside)) for run in beside
        ]
        tell(name, kept, [run.path for run in beside])
    if arguments.test:
        write_tries(rows, path)
    print(pd.read_csv(path).to_string())


if __name__ == "__main__":
    main()
