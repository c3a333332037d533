"""Predictions table -> study probabilities -> scores of each system."""

import warnings

import numpy as np
import pandas as pd

from mura_tf.data.table import STUDY_KEY, VIEW_KEY, require_columns
from mura_tf.evaluation.metrics import (
    THRESHOLD,
    bootstrap_blocks,
    interval,
    weighted_scores,
)
from mura_tf.published import OVERALL
from mura_tf.terminal import Notice, track

SYSTEM_KEY = ["backbone", "stage", "repeat"]
"""What tells systems apart in a predictions table; see `system_key`."""
STAGE_NAMES = {
    "imagenet": "trained directly",
    "mura": "whole-data model",
    "type": "fine-tuned per study type",
}


def system_key(table: pd.DataFrame) -> list[str]:
    """`SYSTEM_KEY`, and `system` where a table has the names of its systems."""
    return [*SYSTEM_KEY, *table.columns.intersection(["system"])]


def study_probabilities(predictions: pd.DataFrame) -> pd.DataFrame:
    """The mean over a study's views, and over the members of an ensemble.

    Over the views it is the arithmetic mean; by `weight`, where the table has it.

    Args:
        predictions: predictions table of one or more systems, see `system_key`.

    Returns:
        One row per study and system, in order of appearance: `split, study_type, patient, study,
        label, backbone, stage, repeat, members, views, probability`, with `system` where it is
        given. An unknown label stays so.

    Raises:
        ValueError: no predictions table; a probability outside [0, 1], or NaN of a system that has
            others; members saw different views of a study, or a study has two labels, of which one
            may be unknown.

    Source: the paper, section V-D.

    Examples:
        >>> one_study = pd.DataFrame({
        ...     "split": "valid", "study_type": "finger", "patient": "p1", "study": "study1",
        ...     "view": ["image1.png", "image2.png"], "label": 1, "backbone": "efficientnet_b3",
        ...     "stage": "type", "repeat": 0, "member": 0, "probability": [0.715, 0.957]})
        >>> round(float(mt.study_probabilities(one_study).probability[0]), 3)
        0.836
    """
    _require_predictions(predictions)
    system = system_key(predictions)
    key = STUDY_KEY + system
    studies = (
        predictions.assign(
            again=predictions.duplicated([*key, "view", "member"]),
            unknown=predictions.label.isna(),
        )
        .groupby(key, sort=False)
        .agg(
            label=("label", "first"),
            labels=("label", "nunique"),
            unknown=("unknown", "any"),
            members=("member", "nunique"),
            views=("view", "nunique"),
            rows=("view", "size"),
            again=("again", "any"),
        )
        .assign(probability=mean_probability(predictions, key))
        .reset_index()
    )
    uneven = studies[studies.again | (studies.rows != studies.members * studies.views)]
    if len(uneven):
        raise ValueError(
            f"every member must predict every view of a study once. {len(uneven)} studies do not "
            f"fit, the first: {_name(uneven.iloc[0])} has {uneven.iloc[0].rows} predictions for "
            f"{uneven.iloc[0].views} views and {uneven.iloc[0].members} members. "
            "Give each run once, and evaluate all members on the same views table."
        )
    doubtful = studies[studies.labels + studies.unknown > 1]
    if len(doubtful):
        raise ValueError(
            f"a study has one label. {len(doubtful)} studies have two, the first: "
            f"{_name(doubtful.iloc[0])}. Mend the data set's labels; `mura-tf check` lists them."
        )
    columns = [*STUDY_KEY, "label", *system, "members", "views", "probability"]
    return studies[columns]


def _require_predictions(predictions: pd.DataFrame) -> None:
    system = system_key(predictions)
    keys = [*VIEW_KEY, *system, "member"]
    names = [*keys, "label", "probability"]
    require_columns(predictions, names, "expected a predictions table")
    if (empty := predictions[keys].isna()).any(axis=None):
        raise ValueError(
            f"a prediction must have {', '.join(keys)}. Received: {empty.any(axis=1).sum()} rows "
            f"without {', '.join(empty.columns[empty.any()])}."
        )
    none = predictions.probability.isna()
    some = none.groupby([predictions[name] for name in system]).transform("nunique") > 1
    wrong = predictions[(none & some) | ~(none | predictions.probability.between(0, 1))]
    if len(wrong):
        raise ValueError(
            f"probabilities must lie in [0, 1]. Received: {wrong.probability.iloc[0]} for "
            f"{_name(wrong.iloc[0])}, the first of {len(wrong)}."
        )


def mean_probability(predictions: pd.DataFrame, key: list[str]) -> pd.Series:
    """The mean over views, by how much each counts, then over members: a probability per key.

    Args:
        predictions: of which some may have a `weight`; the others' views count alike.
        key: columns that tell what a mean is taken over; the series' index.
    """
    if "weight" not in predictions:
        return predictions.groupby(key, sort=False).probability.mean()
    weight = predictions.weight.fillna(1.0)
    weighed = predictions.assign(weight=weight, probability=predictions.probability * weight)
    of_members = list(dict.fromkeys([*key, *weighed.columns.intersection(["member"])]))
    sums = weighed.groupby(of_members, sort=False)[["probability", "weight"]].sum(min_count=1)
    return (sums.probability / sums.weight).groupby(key, sort=False).mean()


def view_probabilities(predictions: pd.DataFrame) -> pd.DataFrame:
    """The mean over the members of an ensemble, view by view, beside the study's probability.

    Args:
        predictions: predictions table of one system.

    Returns:
        One row per view, in order of appearance: `split, study_type, patient, study, view, label,
        path, probability, probability_study`, and `disagreement`, the standard deviation over the
        members of the study's probability. Where the views have a `weight`, `counts` is the share
        of its study that each makes up.

    Raises:
        ValueError: several systems, and see `study_probabilities`.
    """
    studies = study_probabilities(predictions)
    systems = studies[system_key(studies)].drop_duplicates()
    if len(systems) > 1:
        raise ValueError(f"expected one system. Received: {systems.to_dict('records')}.")
    views = predictions.groupby(VIEW_KEY, sort=False, as_index=False).agg(
        label=("label", "first"), path=("path", "first"), probability=("probability", "mean")
    )
    by_member = mean_probability(predictions, [*STUDY_KEY, "member"])
    spread = by_member.groupby(STUDY_KEY, sort=False).std(ddof=0).rename("disagreement")
    means = studies[[*STUDY_KEY, "probability"]]
    views = views.merge(means, on=STUDY_KEY, suffixes=("", "_study"))
    views = views.merge(spread, left_on=STUDY_KEY, right_index=True)
    if "weight" not in predictions or predictions.weight.isna().all():
        return views
    weighed = predictions.assign(weight=predictions.weight.fillna(1.0))  # as `mean_probability`
    whole = weighed.groupby([*STUDY_KEY, "member"], sort=False).weight.transform("sum")
    shares = weighed.assign(counts=weighed.weight / whole)
    counts = shares.groupby(VIEW_KEY, sort=False, as_index=False).counts.mean()
    return views.merge(counts, on=VIEW_KEY)


def score(
    studies: pd.DataFrame, intervals: bool = True, *, replicates: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Scores one system per study type and overall, at study level.

    "overall" pools the studies of all types. The intervals are 95 % percentile intervals of a
    bootstrap that resamples patients, with all their studies.

    Args:
        studies: table of `study_probabilities`, one system and one split.
        intervals: whether to add the intervals.
        replicates: number of bootstrap samples.
        seed: of the bootstrap.

    Returns:
        One row per study type and "overall": `study_type, n, accuracy, kappa, kappa_low,
        kappa_high, auroc, auroc_low, auroc_high, sensitivity, specificity, called_abnormal,
        one_class`. n counts studies, `called_abnormal` those above the threshold: where it is 0 or
        n, kappa and accuracy say nothing of the system. `one_class` flags a row whose studies all
        have one label: its kappa is 0, and its AUROC and sensitivity or specificity, which are not
        defined then, are NaN.

    Raises:
        ValueError: no study, several systems or splits, a study without a label or given twice, or
            a probability that is not in [0, 1].

    Examples:
        >>> run = mt.Run("demo/small_cnn/type/wrist/repeat0-member0")
        >>> scores = mt.score(mt.study_probabilities(run.predictions))
        >>> scores.study_type.tolist()
        ['wrist', 'overall']
    """
    _require_one_system(studies)
    require_labels(studies)
    groups = [(study_type, rows) for study_type, rows in studies.groupby("study_type", sort=True)]
    rows = []
    for name, group in [*groups, (OVERALL, studies)]:
        labels, probabilities = group.label.to_numpy(), group.probability.to_numpy()
        point = weighted_scores(labels, probabilities, np.ones((1, len(group))))
        blocks = bootstrap_blocks(group.patient, replicates, seed) if intervals else ()
        samples = [weighted_scores(labels, probabilities, weights) for weights in blocks]
        row = {"study_type": name, "n": len(group)}
        for key, (value,) in point.items():
            row[key] = value
            if intervals and key in ("kappa", "auroc"):
                values = np.concatenate([block[key] for block in samples])
                row[f"{key}_low"], row[f"{key}_high"] = interval(values)
        row["called_abnormal"] = int((probabilities > THRESHOLD).sum())
        row["one_class"] = len(np.unique(labels)) == 1
        rows.append(row)
    return pd.DataFrame(rows)


def score_systems(
    predictions: pd.DataFrame, intervals: bool = True, *, progress: bool = False
) -> pd.DataFrame:
    """Scores every system, see `system_key`, on the split that is reported for it.

    Args:
        predictions: predictions table of one or more systems.
        intervals: whether to add the intervals, see `score`.
        progress: whether to show a progress bar.

    Returns:
        The rows of `score` of each system below its key, `members` and `split`.
        `members` is how many models' mean a probability is, the least where a row's studies
        differ. Systems of the stage "type" come first, then those with more members.

    Examples:
        >>> folders = [path.parent for path in Path("demo/small_cnn").rglob("run.json")]
        >>> scores = mt.score_systems(mt.load_predictions(folders), intervals=False)
        >>> scores[["stage", "members"]].drop_duplicates().values.tolist()
        [['type', 2], ['mura', 1]]
    """
    _require_predictions(predictions)
    tables, key = [], system_key(predictions)
    for system, rows in track(predictions.groupby(key, sort=False), "Scoring", shown=progress):
        split = reported_split(rows)
        studies = study_probabilities(rows[rows.split == split])
        if lost := sorted(set(rows.study_type) - set(studies.study_type)):
            warnings.warn(
                f"{', '.join(lost)} {'has' if len(lost) == 1 else 'have'} no view in the split "
                f"{split!r}, which is reported, and so no row. Give every study type that split.",
                Notice,
                stacklevel=2,
            )
        table = score(studies, intervals=intervals)
        members = studies.groupby("study_type").members.min().to_dict()
        members[OVERALL] = studies.members.min()
        facts = dict(zip(key, system, strict=True))
        facts |= {"members": table.study_type.map(members), "split": split}
        for column, values in reversed(facts.items()):
            table.insert(0, column, values)
        tables.append(table)
    tables.sort(key=lambda table: (table.stage[0] != "type", -table.members.max()))
    return pd.concat(tables, ignore_index=True)


def reported_split(predictions: pd.DataFrame) -> str:
    """The split whose scores are reported: test where it has labels, otherwise valid."""
    return "test" if predictions.label[predictions.split == "test"].notna().any() else "valid"


def system_name(row: pd.Series) -> str:
    """What a system is called in titles and legends.

    Args:
        row: `backbone, stage, repeat`; or `system`, the name itself.
    """
    if "system" in row:
        return row.system
    name = f"{row.backbone}, {STAGE_NAMES.get(row.stage, row.stage)}"
    return f"{name}, repeat {row['repeat']}" if row["repeat"] else name


def _require_one_system(studies: pd.DataFrame) -> None:
    if studies.empty:
        raise ValueError("studies holds no row, expected at least one study to score.")
    if "view" in studies:
        raise ValueError(
            "score takes one row per study. Received: a table with a column 'view', one row per "
            "view. Average first: mura_tf.study_probabilities(predictions)."
        )
    key = system_key(studies)
    names = [*STUDY_KEY, "label", *key, "probability"]
    require_columns(studies, names, "expected a table of studies")
    systems = studies[[*key, "split"]].drop_duplicates()
    if len(systems) > 1:
        raise ValueError(
            f"score takes one system ({', '.join(key)}) on one split. Received: "
            f"{systems.to_dict('records')}. Select one, or use studies.groupby({key})."
        )
    wrong = studies[~studies.probability.between(0, 1)]
    if len(wrong):
        raise ValueError(
            f"probabilities must lie in [0, 1]. Received: {wrong.probability.iloc[0]} for "
            f"{_name(wrong.iloc[0])}."
        )
    again = studies[studies.duplicated(STUDY_KEY)]
    if len(again):
        raise ValueError(
            f"a study counts once. Received: {_name(again.iloc[0])} again, the first of "
            f"{len(again)}. Give each once."
        )


def require_labels(rows: pd.DataFrame) -> None:
    """ValueError unless every study, or view, has a label of 0 or 1 to be scored by.

    Args:
        rows: with the `STUDY_KEY` and `label`.
    """
    known = rows.label.isin([0, 1])
    if not known.all():
        first = rows[~known].iloc[0]
        label = "unknown" if pd.isna(first.label) else first.label
        raise ValueError(
            f"scores need labels of 0 and 1. Received: {(~known).sum()} of {len(rows)} rows "
            f"without, the first: {_name(first)}, whose label is {label}. Label them, or leave "
            "them out; in Python: rows[rows.label.isin([0, 1])]."
        )


def _name(study: pd.Series) -> str:
    return "/".join(str(study[column]) for column in STUDY_KEY)
