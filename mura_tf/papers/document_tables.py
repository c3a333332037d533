"""Finished runs of a document's systems -> the tables of their report."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from mura_tf.evaluation.comparison import RepeatedScore, pooled
from mura_tf.evaluation.scores import score
from mura_tf.papers.documents import Comparison, System
from mura_tf.published import OVERALL, published_accuracies
from mura_tf.training.run import Run
from mura_tf.training.selection import dealt_views

CHOSEN = ("loss", "accuracy", "val_loss", "val_accuracy", "val_f1", "data_loss", "val_data_loss")
"""What is told of a run's chosen epoch, of the columns of its history."""
_SCORED = ["kappa", "kappa_low", "kappa_high", "auroc", "auroc_low", "auroc_high"]
_SCORED += ["called_abnormal", "one_class"]


def score_rows(
    comparison: Comparison,
    systems: Iterable[System],
    runs: dict[System, list[Run]],
    studies: pd.DataFrame,
    scored: dict[tuple[str, str], dict[str, RepeatedScore]],
) -> pd.DataFrame:
    """`DocumentReport.scores`.

    Args:
        comparison: of the document.
        systems: those that are told.
        runs: those of each system that was trained.
        studies: table of `study_probabilities`, with the systems' names as backbones.
        scored: of `repeated_scores`, of the same studies and their views.
    """
    published = published_accuracies(comparison.published())
    backbones = {system.name: found[0].recipe.backbone for system, found in runs.items()}
    rows = []
    for system in systems:
        of_system = studies[studies.backbone == system.name]
        if of_system.empty:
            continue
        by_type = dict(scored[system.name, ""])
        for row in score(of_system).to_dict("records"):
            name, pools = row["study_type"], row["study_type"] == OVERALL
            if system.together and pools:
                types = sorted(by_type.keys() - {OVERALL})
                name = " and ".join(types)
                by_type[name] = pooled([by_type[each] for each in types])
            if name not in by_type:  # overall, of some types
                continue
            low, high = by_type[name].interval("class_accuracy")
            theirs = system.published if system.published and system.is_scored_on(name) else ""
            rows.append(
                {
                    "system": system.name,
                    "title": system.title,
                    "backbone": backbones[system.specialists or system.name],
                    "study_type": name,
                    "pooled": pools,
                    "views": by_type[name].view_count,
                    "studies": row["n"],
                    "accuracy": by_type[name].values("class_accuracy").item(),
                    "accuracy_low": low,
                    "accuracy_high": high,
                    "published_accuracy": published.get((theirs, name), np.nan),
                }
                | {key: row[key] for key in _SCORED}
            )
    return pd.DataFrame(rows)


def quoted_accuracies(comparison: Comparison) -> pd.DataFrame:
    """`DocumentReport.quoted`."""
    rows = [
        {"title": comparison.quoted[system], "study_type": study_type, "accuracy": value}
        for (system, study_type), value in published_accuracies(comparison.published()).items()
        if system in comparison.quoted
    ]
    return pd.DataFrame(rows, columns=["title", "study_type", "accuracy"])


def data_counts(comparison: Comparison, views: pd.DataFrame) -> pd.DataFrame:
    """What the data has beside what the document says of its own, if it does.

    Returns:
        `title, study_type, count`; of all splits.
    """
    rows = comparison.published().query("system == 'data'")
    parts = []
    for metric, title, ours in (
        ("total_images", "studies", study_counts(views)),
        ("augmented_total", "views", _with_overall(views.study_type.value_counts())),
    ):
        theirs = rows[rows.metric == metric].set_index("study_type").value
        if len(theirs):
            for name, counts in ((title, ours), (f"published: {metric.replace('_', ' ')}", theirs)):
                part = counts.rename("count").rename_axis("study_type").reset_index()
                parts.append(part.assign(title=name))
    columns = ["title", "study_type", "count"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def study_counts(views: pd.DataFrame) -> pd.Series:
    """Study type or "overall" -> studies, of all splits."""
    studies = views.drop_duplicates(["study_type", "patient", "study"])
    return _with_overall(studies.study_type.value_counts())


def _with_overall(counts: pd.Series) -> pd.Series:
    counts = counts.sort_index()
    counts[OVERALL] = counts.sum()
    return counts


def epoch_rows(comparison: Comparison, runs: dict[System, list[Run]]) -> pd.DataFrame:
    """`DocumentReport.epochs`."""
    published = comparison.published()
    rows = []
    for system, found in runs.items():
        histories = [run.history.set_index("epoch") for run in found]
        best = [run.info["best_epoch"] for run in found]
        chosen = pd.DataFrame(
            [history.loc[epoch] for history, epoch in zip(histories, best, strict=True)]
        )
        row = {
            "system": system.name,
            "title": system.title,
            "models": len(found),
            "epochs": np.mean([len(history) for history in histories]),
            "chosen": np.mean(best),
        } | chosen.reindex(columns=CHOSEN).mean().to_dict()
        # those over several study types are not of a model that has one
        types = " and ".join(found[0].recipe.study_types or [OVERALL])
        theirs = published[
            (published.system == system.published)
            & (published.study_type == types)
            & (not system.per_type)
        ]
        for name in CHOSEN[:4]:
            split = "valid" if name.startswith("val_") else "train"
            metric = name.removeprefix("val_")
            values = theirs[(theirs.split == split) & (theirs.metric == metric)].value
            row[f"published_{name}"] = values.iloc[-1] if len(values) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def split_counts(
    comparison: Comparison, views: pd.DataFrame, runs: dict[System, list[Run]], reported: str
) -> pd.DataFrame:
    """Images by study type, label and what they are for, beside the document's, if it counts them.

    Args:
        comparison: of the document.
        views: the views table of the runs.
        runs: of each system; all select their epochs on the same views.
        reported: the split.

    Returns:
        `study_type, label, split, count, published`; `split` has the document's words, "valid" for
        what epochs are selected on and "test" for what is reported.
    """
    theirs = comparison.published().query("system == 'data' and metric == 'images'")
    theirs = theirs.dropna(subset=["study_type", "label", "split"]).astype({"label": int})
    columns = ["study_type", "label", "split", "count", "published"]
    if theirs.empty:
        return pd.DataFrame(columns=columns)
    recipe = next(iter(runs.values()))[0].recipe
    dealt = dealt_views(views, recipe)
    words = {"train": "train", recipe.select_on: "valid", reported: "test"}
    dealt = dealt.assign(split=dealt.split.map(words)).dropna(subset="split")
    key = columns[:3]
    ours = dealt.groupby(key).size().rename("count").reset_index()
    theirs = theirs.rename(columns={"value": "published"})[[*key, "published"]]
    return ours.merge(theirs, on=key, how="left")


def leaderboard(comparison: Comparison, scores: pd.DataFrame) -> pd.DataFrame:
    """The document's list of models by kappa with ours among them, the best first; if it has one.

    Args:
        comparison: of the document.
        scores: of `score_rows`.

    Returns:
        `title, rank` (the document's, NaN where it gives none, and of ours), `kappa, kappa_low,
        kappa_high`.
    """
    published = comparison.published().query("system in @comparison.leaderboard")
    columns = ["title", "rank", "kappa", "kappa_low", "kappa_high"]
    if published.empty:
        return pd.DataFrame(columns=columns)
    theirs = published.pivot(index="system", columns="metric", values="value")  # noqa: PD010
    theirs = theirs.assign(title=theirs.index.map(comparison.leaderboard))
    ours = scores[scores.study_type == OVERALL]
    ours = ours.assign(title="here: " + ours.title)
    return (
        pd.concat([theirs, ours])
        .reindex(columns=columns)
        .sort_values("kappa", ascending=False, ignore_index=True, kind="stable")
    )


def chosen_epochs(comparison: Comparison, runs: dict[System, list[Run]]) -> pd.DataFrame:
    """The chosen epoch of each model, the mean over members, beside the document's.

    Returns:
        `title, study_type, epoch, published`, of the systems whose chosen epochs it tells.
    """
    published = comparison.published().query("metric == 'best_epoch'")
    published = published.set_index(["system", "study_type"]).value
    rows = []
    for system, found in runs.items():
        if system.published not in published.index.get_level_values("system"):
            continue
        best: dict[str, list[int]] = {}
        for run in found:
            types = run.recipe.study_types or [OVERALL]
            best.setdefault(" and ".join(types), []).append(run.info["best_epoch"])
        for name, epochs in best.items():
            theirs = published.get((system.published, name), np.nan)
            rows.append((system.title, name, np.mean(epochs), theirs))
    return pd.DataFrame(rows, columns=["title", "study_type", "epoch", "published"])
