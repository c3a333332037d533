"""Beyond the paper, on FracAtlas: the tries behind `--recipe modern`, and its ablations.

    python experiments/modern.py FRACATLAS WEIGHTS.h5 runs/modern           # what is left, on valid
    python experiments/modern.py FRACATLAS WEIGHTS.h5 runs/modern --test    # once

Cost: about 40 minutes a try on two CPU cores. Tries and ablations are trained in their order, each
a line of `results/modern/tries.csv` with its seconds and its scores on valid, by which alone a try
is chosen: by AUROC, where that differs by less than the members of one recipe do, by the cost. The
chosen one becomes the recipe, as the ablations are of that. Its members together are one more line,
and so is what `--beside` names, such as the runs of the recipe before it. What a run folder holds
besides its weights is kept in `results/modern/`, so that a try is left when it was trained on
another machine; where its map points is scored where its model is. Several of these may run at a
time, each with its own `--only`. `--test` scores the members and what is beside them on test, each
of them once, and writes `test.csv` when all are scored.
"""

import argparse
import shutil
from collections.abc import Iterator, Sequence
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
    score,
    study_probabilities,
    train,
)
from mura_tf.data.table import STUDY_KEY
from mura_tf.evaluation.metrics import (
    THRESHOLD,
    bootstrap_weights,
    interval,
    kappa_of_confusion,
    weighted_auroc,
    weighted_confusion,
)
from mura_tf.evaluation.operating_points import decide, operating_points
from mura_tf.explain.scores import score_detections, score_heatmaps, write_scores
from mura_tf.files import locked, write_json, written_whole
from mura_tf.models.specs import parse_head
from mura_tf.published import OVERALL
from mura_tf.training.recipe import find_settings
from mura_tf.training.run import finished_runs, folders_below

MODERN = "modern"
TRIES: dict[str, dict[str, object]] = {
    MODERN: {},
    "member_1": {"member": 1},
    "member_2": {"member": 2},
    "all_blocks": {"trainable": "all"},
    "all_blocks_1": {"trainable": "all", "member": 1},
    "all_blocks_2": {"trainable": "all", "member": 2},
}
"""Name -> what differs from the recipe. It was chosen among these before test was opened:
`all_blocks` came first, with its members, by which a difference is told from noise."""
MEMBERS = (MODERN, "member_1", "member_2")
"""What `mura-tf train --recipe modern --scheme whole --members 3` trains."""
ENSEMBLE = "members"
TOGETHER: dict[str, tuple[str, ...]] = {
    ENSEMBLE: MEMBERS,
    "all_blocks_members": ("all_blocks", "all_blocks_1", "all_blocks_2"),
}
"""Lines of several together, after the last of them."""
METHODS = ("learned", "cam", "grad_cam")
"""How their maps are scored against boxes, in `results/modern/heatmap_scores.csv`."""
ABLATIONS: dict[str, dict[str, object]] = {
    "without_boxes": {"head": ("map:16:0", "pool", "dropout:0.5")},
    "without_map": {"head": ("pool", "dropout:0.5")},
    "without_averaging": {"averaging": 0.0},
    "without_mirror": {"mirrored": False},
    "at_256": {"image_size": 256, "first_sizes": ()},
    "balanced": {"balance": "all"},
    "stride_8": {"head": ("map:8:0.2", "pool", "dropout:0.5")},
    "boxes_1": {"head": ("map:16:1", "pool", "dropout:0.5")},
    "longer": {"first_sizes": ("256:6",), "max_epochs": 14},
}
"""The same, to see what each part of the recipe is worth, and what more of it would be. They are of
valid alone, and nothing is chosen by them."""
ENDS = ("", "_low", "_high")
"""Of a score's name: itself, and its 95 % interval."""
PREDICTED = {"mirrored"}
"""What is of prediction alone: where no more differs, the model is trained already."""
RESULTS = Path(__file__).parent / "results" / "modern"
TRIED, OPENED = "tries.csv", "test.csv"
"""There: a line for each system, on valid and on test."""
KEPT = ("recipe.json", "run.json", "history.csv", "predictions.csv")
"""What stays of a run folder."""


def recipe_of(name: str, weights: str | None) -> Recipe:
    """Of a try or an ablation, as a plan of models on all study types has it."""
    settings = find_settings(MODERN) | {"weights": weights, "stage": "mura"}
    return Recipe.from_dict(settings).changed((TRIES | ABLATIONS)[name])


def is_kept(name: str, weights: str | None) -> bool:
    """Whether a try or an ablation was trained by the recipe as it is."""
    run = Run(RESULTS / name)
    return run.finished and run.recipe.hash == recipe_of(name, weights).hash


def is_told(name: str, weights: str | None) -> bool:
    """Whether it is kept and has its line, beside the recipe as it is; the last of several has to
    have that of all, too."""
    path = RESULTS / TRIED
    if not is_kept(name, weights) or not path.exists():
        return False
    told = pd.read_csv(path, index_col="try", dtype=str).reindex(columns=["recipe", "against"])
    lines = {line: members for line, members in TOGETHER.items() if name == members[-1]}
    expected = {
        line: [recipe_of(members[0], weights).hash, against(line, len(members), weights)]
        for line, members in ({name: (name,)} | lines).items()
    }
    return all(line in told.index and [*told.loc[line]] == row for line, row in expected.items())


def keep(run: Run, folder: Path) -> Run:
    """Copies what a run folder holds besides its weights; it counts once all is there."""
    if folder.resolve() != run.path.resolve():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / KEPT[-1]).unlink(missing_ok=True)
        for name in KEPT:
            with written_whole(folder / name) as part:
                shutil.copyfile(run.path / name, part)
    return Run(folder)


def begin_from(trained: Path, recipe: Recipe, folder: Path) -> None:
    """Makes the run folder of a recipe that differs in `PREDICTED` alone: it has yet to predict.

    Raises:
        ValueError: there is one of a recipe that differs in more.
    """
    run = Run(trained)
    if (folder / "recipe.json").exists():
        before = Run(folder).recipe.to_dict()
        Run(folder).require_recipe(recipe.changed({name: before[name] for name in PREDICTED}))
    (folder / "predictions.csv").unlink(missing_ok=True)
    shutil.copytree(
        trained,
        folder,
        ignore=shutil.ignore_patterns("predictions.csv", ".lock"),
        dirs_exist_ok=True,
    )
    recipe.save(folder / "recipe.json")
    write_json(folder / "run.json", run.info | {"recipe_hash": recipe.hash})


def scored(runs: Sequence[Run], split: str) -> dict[str, object]:
    """Of a system: ranking, and decisions by thresholds and a calibration chosen on valid."""
    studies = studies_of(runs)
    decisions = decide(studies, "valid", split)
    points = decisions.table.set_index("point")
    shown = studies[studies.split == split]
    labels, probability = shown.label.to_numpy(), shown.probability.to_numpy()
    assert decisions.calibration, "valid has studies of both labels"
    overall = score(shown).iloc[-1]
    return {
        "split": split,
        **{f"auroc{end}": overall[f"auroc{end}"] for end in ENDS},
        **{f"kappa{end}": points.loc["paper", f"kappa{end}"] for end in ENDS},
        "kappa_calibrated": cohen_kappa(labels, decisions.calibration(probability) > THRESHOLD),
        **{f"kappa_at_best{end}": points.loc["kappa", f"kappa{end}"] for end in ENDS},
        "calibration_error": decisions.error_after,
    }


def has_model(folder: Path, recipe: Recipe) -> bool:
    """Whether a run folder has the model of that recipe."""
    return (folder / "best.keras").exists() and Run(folder).recipe.hash == recipe.hash


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
    """One system less another, each difference with its paired 95 % interval over patients.

    Returns:
        `gain` of AUROC and `kappa_gain`, of kappa where each has its best threshold on valid, with
        their `_low` and `_high`.
    """
    ours, theirs = studies_of(runs), studies_of(others)
    key = [*STUDY_KEY, "label"]
    sides = [table[table.split == split] for table in (ours, theirs)]
    pairs = sides[0].merge(sides[1][[*key, "probability"]], on=key, validate="1:1")
    if not len(pairs) == len(sides[0]) == len(sides[1]):
        raise ValueError(
            f"a system is compared on the same studies. Received: {len(sides[0])} and "
            f"{len(sides[1])} of {split}, of which {len(pairs)} are in both. Give runs of one data "
            "set."
        )
    drawn = bootstrap_weights(pairs.patient, 2000, seed=0)
    weights = np.vstack([np.ones(len(pairs)), drawn])  # the studies as they are come first
    scores = []
    for studies, probability in ((ours, pairs.probability_x), (theirs, pairs.probability_y)):
        _, best, _ = operating_points(studies[studies.split == "valid"])
        confusion = weighted_confusion(pairs.label, probability > best.high, weights)
        auroc = weighted_auroc(pairs.label, probability, weights)
        scores.append((auroc, kappa_of_confusion(confusion)))
    found = {}
    for name, (one, other) in zip(("gain", "kappa_gain"), zip(*scores, strict=True), strict=True):
        gains = one - other
        found[name] = gains[0]
        found[f"{name}_low"], found[f"{name}_high"] = interval(gains[1:])
    return found


def against(line: str, models: int, weights: str | None) -> str:
    """What a line is compared with, and its recipe's hash: one model with `modern`, several with
    its members together once all are trained, and these with `modern`."""
    several = models > 1 and line != ENSEMBLE and all(is_kept(one, weights) for one in MEMBERS)
    return f"{ENSEMBLE if several else MODERN} {recipe_of(MODERN, weights).hash}"


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
    with written_whole(path) as part:
        table.to_csv(part)


def systems(
    names: Sequence[str], data: Path, weights: str, out: Path, beside: Path | None
) -> Iterator[tuple[str, list[Run], list[Path]]]:
    """Name, kept runs and where their models may be: each name trained where it is left."""
    views, first_run = load_fracatlas(data), Run(RESULTS / MODERN)
    untrained = views["view"][views.split != "train"]
    if first_run.finished and not first_run.predictions["view"].isin(untrained).all():
        raise ValueError(
            f"{data} must be split as when {RESULTS / MODERN} was trained: others are compared "
            "with it on the same images. Received: images that are not there, or are trained on. "
            f"Remove what is in {RESULTS}, to train all on these."
        )
    for place, name in enumerate(names):
        if not is_kept(name, weights):
            recipe, first = recipe_of(name, weights), recipe_of(MODERN, weights)
            differs = (TRIES | ABLATIONS)[name].keys()
            if differs and differs <= PREDICTED and has_model(out / MODERN, first):
                begin_from(out / MODERN, recipe, out / name)
            keep(train(recipe, views, out / name, skip_bad=True), RESULTS / name)
        yield name, [Run(RESULTS / name)], [out / name]
        for line, members in TOGETHER.items():
            last = name in members and not {*members} & {*names[place + 1 :]}
            if last and all(is_kept(one, weights) for one in members):
                yield line, [Run(RESULTS / one) for one in members], [out / one for one in members]
    if beside:
        runs = finished_runs(folders_below(beside))
        kept = [keep(run, RESULTS / beside.name / run.path.relative_to(beside)) for run in runs]
        yield beside.name, kept, [run.path for run in runs]


def names_asked(arguments: argparse.Namespace) -> list[str]:
    """The tries and ablations to be told of: those named, on test the members, else what is left.

    Raises:
        ValueError: what cannot be told of, and why.
    """
    weights, known = arguments.weights, TRIES | ABLATIONS
    names = [name for name in known if not is_told(name, weights)]
    if arguments.only:
        names = arguments.only.split(",")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--only must name some of {', '.join(known)}. Received: {unknown[0]!r}.")
    beside = arguments.beside
    if beside and beside.name in {*known, *TOGETHER, ""}:
        raise ValueError(f"--beside must have a name of its own. Received: {beside}.")
    if beside:
        finished_runs(folders_below(beside))  # before hours of training
    if arguments.test:
        if arguments.only:
            raise ValueError(f"--test is of {', '.join(MEMBERS)}. Received: --only. Leave it out.")
        opened = opened_systems()
        if opened and (not beside or beside.name in opened):
            raise ValueError(
                f"test is opened once, and was: {RESULTS / OPENED} has its rows. Leave --test out."
            )
        if left := [name for name in MEMBERS if not is_kept(name, weights)]:
            raise ValueError(f"--test is of all members. Train {', '.join(left)} first.")
        out = arguments.out
        lost = [one for one in MEMBERS if not has_model(out / one, recipe_of(one, weights))]
        if lost and not opened:
            raise ValueError(
                f"--test scores where each member's map points, too. {out} has no model of "
                f"{', '.join(lost)}: run this where they were trained, or remove their folders "
                f"in {RESULTS}, to have them trained anew."
            )
        return list(MEMBERS)
    if names[:1] != [MODERN] and not is_kept(MODERN, weights):
        Run(RESULTS / MODERN).require_recipe(recipe_of(MODERN, weights))
        raise ValueError(
            f"others are compared with {MODERN!r}, which is not trained. Train it first."
        )
    return names


def opened_systems() -> set[str]:
    """What has been scored on test."""
    path = RESULTS / OPENED
    return {*pd.read_csv(path)["try"]} if path.exists() else set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", help="names of tries and ablations, with commas between them")
    parser.add_argument("--beside", type=Path, help="a folder of finished runs of one system")
    parser.add_argument("--test", action="store_true", help="score test, each system once")
    arguments = parser.parse_args()
    data, weights, out = arguments.data, arguments.weights, arguments.out
    try:
        names = names_asked(arguments)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    split, path = ("test", RESULTS / OPENED) if arguments.test else ("valid", RESULTS / TRIED)
    told = opened_systems() if arguments.test else set()
    RESULTS.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for name, runs, folders in systems(names, data, weights, out, arguments.beside):
        if name in told:
            continue
        row = {"try": name, "recipe": runs[0].recipe.hash, "models": len(runs)}
        row["seconds"] = sum(run.info["seconds"] for run in runs)
        compared = against(name, len(runs), weights)
        other, _ = compared.split()
        row |= scored(runs, split) | {"against": compared}
        row |= gain(runs, [Run(RESULTS / one) for one in TOGETHER.get(other, (other,))], split)
        models = all(
            has_model(*pair) for pair in zip(folders, (run.recipe for run in runs), strict=True)
        )
        if models:
            row |= located(folders, data, split)
        rows.append(row)
        if models and name == ENSEMBLE:
            write_scores(explained(folders, data, split), data, RESULTS, METHODS)
        if not arguments.test:
            with locked(RESULTS):
                write_tries([row], path)
    if arguments.test:
        write_tries(rows, path)
    if path.exists():
        print(pd.read_csv(path).to_string())


if __name__ == "__main__":
    main()
