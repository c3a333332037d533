"""Model + views -> predictions table -> study probabilities -> scores.

Only `predict_views` needs Keras; the rest works on tables alone.
"""

import io
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mura_tf.data.table import STUDY_KEY, VIEW_KEY, as_labels
from mura_tf.data.tasks import abnormality_of
from mura_tf.evaluation.metrics import (
    THRESHOLD,
    bootstrap_weights,
    interval,
    weighted_scores,
)
from mura_tf.files import written_whole
from mura_tf.models.backend import require_backend
from mura_tf.published import OVERALL
from mura_tf.terminal import track

if TYPE_CHECKING:
    import keras

RunFolders = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""The folder of a run, or of several."""
SYSTEM_KEY = ["backbone", "stage", "repeat"]
STAGE_NAMES = {
    "imagenet": "trained directly",
    "mura": "whole-data model",
    "type": "fine-tuned per study type",
}
EVALUATION_BATCH = 32
"""Views per step where nothing is trained; it changes speed only."""
CLASS_PREFIX = "p:"
"""What the columns of class probabilities begin with."""
SCORES = ["accuracy", "kappa", "auroc", "sensitivity", "specificity"]


def predict_views(
    model: "keras.Model",
    views: pd.DataFrame,
    *,
    preprocessing: str = "caffe",
    mirrored: bool = False,
    batch_size: int = EVALUATION_BATCH,
    cache_dir: str | os.PathLike[str] | None = None,
    resize: str = "bilinear",
    classes: tuple[str, ...] = (),
    backbone: str | None = None,
    stage: str = "imagenet",
    repeat: int = 0,
    member: int = 0,
) -> pd.DataFrame:
    """The probability of abnormality of every view.

    Args:
        model: a `keras.Model` with square inputs (B, S, S, 3) and one sigmoid output (B, 1), or a
            distribution (B, K) over `classes`.
        views: views table; every row is predicted, in its order. A label may be any whole number,
            or NaN where it is unknown; where all are, there need be no such column.
        preprocessing: what the model was trained with, see `make_dataset`.
        mirrored: whether to take the mean of each view and its mirror image.
        batch_size: views per step, 32 by default; it changes speed only.
        cache_dir, resize: where prepared images are kept, and how they are made, see `prepare`.
        classes: of `class_names`, for a model with classes.
        backbone: name for the table; the model's own name by default.
        stage, repeat, member: which of the paper's runs the model is, for the table.

    Returns:
        Predictions table: the columns of `views` and `backbone, stage, repeat, member,
        probability` (float in [0, 1]). With classes, `probability` is the sum over the abnormal
        ones (NaN where there are none), and each class has a column, "p:" and its name. An unknown
        label is <NA>.

    Raises:
        ValueError: a model of another form, a label that is no whole number, or what
            `make_dataset` and `require_backend` raise.

    Examples:
        >>> views = mt.load_mura("demo/MURA-v1.1")
        >>> model = mt.build_model("small_cnn", weights=None, image_size=32)
        >>> predictions = mt.predict_views(model, views[:3], preprocessing="tf")
        >>> list(predictions)[-5:]
        ['backbone', 'stage', 'repeat', 'member', 'probability']
    """
    from mura_tf.data.pipeline import make_dataset

    require_backend()
    views = views.reset_index(drop=True)
    labels = views["label"] if "label" in views else pd.Series(pd.NA, views.index)
    batches = make_dataset(
        views.assign(label=0),  # no prediction hangs on it
        image_size=_square_side(model),
        batch_size=batch_size,
        training=False,
        preprocessing=preprocessing,
        cache_dir=cache_dir,
        resize=resize,
    )
    outputs = model.predict(batches, verbose=0).astype(float)
    if mirrored:
        turned = batches.map(lambda images, *rest: (images[:, :, ::-1], *rest))
        outputs = (outputs + model.predict(turned, verbose=0).astype(float)) / 2
    _require_columns(outputs, classes)
    by_class = {f"{CLASS_PREFIX}{name}": outputs[:, index] for index, name in enumerate(classes)}
    return views.assign(
        label=as_labels(labels),
        backbone=backbone or model.name,
        stage=stage,
        repeat=repeat,
        member=member,
        probability=abnormality_of(outputs, classes),
        **by_class,
    )


def _square_side(model: "keras.Model") -> int:
    _, *sides, channels = model.input_shape
    if channels != 3 or None in sides or len(set(sides)) != 1:
        raise ValueError(
            "the model's input must be a square of a fixed size with 3 channels, (None, S, S, 3). "
            f"Received: {model.input_shape}."
        )
    return sides[0]


def _require_columns(outputs: np.ndarray, classes: Sequence[str]) -> None:
    if outputs.shape[1:] != (len(classes) or 1,):
        raise ValueError(
            "the model's output must be a probability of abnormality, (B, 1), or one for each of "
            f"`classes`. Received: {outputs.shape} and {len(classes)} classes. Of a softmax over "
            "normal and abnormal give the second: keras.Model(model.input, model.output[:, 1:])."
        )


def load_predictions(run_dirs: RunFolders) -> pd.DataFrame:
    """The predictions tables of finished runs, one below the other.

    Raises:
        FileNotFoundError: a folder holds no `predictions.csv`; all such folders are named.

    Examples:
        >>> predictions = mt.load_predictions(Path("demo/small_cnn/type/wrist").iterdir())
        >>> sorted(predictions.member.unique().tolist())
        [0, 1]
    """
    paths = [folder / "predictions.csv" for folder in run_folders(run_dirs)]
    missing = [str(path.parent) for path in paths if not path.is_file()]
    if missing or not paths:
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} run folders hold no predictions.csv, expected a "
            f"finished run in each. Received: {', '.join(missing[:5]) or 'no folder'}. "
            "Repeat the command that trained them: it predicts again where best.keras is there, "
            "and trains where it is not."
        )
    contents = [path.read_bytes() for path in paths]
    header = contents[0].partition(b"\n")[0] + b"\n"
    if all(one.startswith(header) and one.endswith(b"\n") for one in contents):
        rows = (one.removeprefix(header) for one in contents)
        with suppress(ValueError):  # the files one by one say which is damaged
            # all at once, because hundreds of small tables take seconds to parse
            return read_predictions(io.BytesIO(header + b"".join(rows)))
    return pd.concat([read_predictions(path) for path in paths], ignore_index=True)


def run_folders(run_dirs: RunFolders) -> list[Path]:
    """The folders, also where one is given alone."""
    if isinstance(run_dirs, str | os.PathLike):
        run_dirs = [run_dirs]
    return [Path(run_dir) for run_dir in run_dirs]


def read_predictions(path: str | os.PathLike[str] | io.BytesIO) -> pd.DataFrame:
    """Reads one predictions table.

    Probabilities come back bit for bit, and keys stay text: a patient "007" is not the number 7.

    Raises:
        ValueError: the file is no predictions table, or cut short.
    """
    try:
        # probabilities by way of text: pandas' own parser may miss the last bit
        table = pd.read_csv(path, dtype=defaultdict(lambda: str, _COUNTS), keep_default_na=False)
        classes = [column for column in table if column.startswith(CLASS_PREFIX)]
        table = table.astype(dict.fromkeys(["probability", *classes], float))
        return table.assign(label=as_labels(table.label))
    except (ValueError, KeyError) as error:  # pandas' parser and decoding errors are ValueErrors
        raise ValueError(
            f"{path} must be a predictions table, and is damaged: {error}. Delete its folder to "
            "train this run again."
        ) from error


_COUNTS: dict[str, type] = {"repeat": int, "member": int}


def write_predictions(predictions: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Writes a predictions table as `read_predictions` reads it; an unknown label is left empty."""
    labels = predictions.label.astype("Int64").astype("string").fillna("")
    with written_whole(path) as part:
        predictions.assign(label=labels).to_csv(part, index=False, na_rep="nan")


def study_probabilities(predictions: pd.DataFrame) -> pd.DataFrame:
    """The arithmetic mean over a study's views, and over the members of an ensemble.

    Args:
        predictions: predictions table of one or more systems (backbone, stage, repeat).

    Returns:
        One row per study and system, in order of appearance: `split, study_type, patient, study,
        label, backbone, stage, repeat, members, views, probability`. An unknown label stays so.

    Raises:
        ValueError: members saw different views of a study, or a study has two labels, of which one
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
    key = STUDY_KEY + SYSTEM_KEY
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
            probability=("probability", "mean"),
        )
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
    columns = [*STUDY_KEY, "label", *SYSTEM_KEY, "members", "views", "probability"]
    return studies[columns]


def view_probabilities(predictions: pd.DataFrame) -> pd.DataFrame:
    """The mean over the members of an ensemble, view by view, beside the study's probability.

    Args:
        predictions: predictions table of one system.

    Returns:
        One row per view, in order of appearance: `split, study_type, patient, study, view, label,
        path, probability, probability_study`, and `disagreement`, the standard deviation over the
        members of the study's probability.
    """
    views = predictions.groupby(VIEW_KEY, sort=False, as_index=False).agg(
        label=("label", "first"), path=("path", "first"), probability=("probability", "mean")
    )
    by_member = predictions.groupby([*STUDY_KEY, "member"], sort=False).probability.mean()
    spread = by_member.groupby(STUDY_KEY, sort=False).std(ddof=0).rename("disagreement")
    studies = study_probabilities(predictions)[[*STUDY_KEY, "probability"]]
    views = views.merge(studies, on=STUDY_KEY, suffixes=("", "_study"))
    return views.merge(spread, left_on=STUDY_KEY, right_index=True)


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
        ValueError: no study, several systems or splits, a study without a label, or a probability
            that is not in [0, 1].

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
        row = {"study_type": name, "n": len(group)} | {key: point[key][0] for key in SCORES}
        row["called_abnormal"] = int((probabilities > THRESHOLD).sum())
        row["one_class"] = len(np.unique(labels)) == 1
        if intervals:
            weights = bootstrap_weights(group.patient, replicates, seed)
            samples = weighted_scores(labels, probabilities, weights)
            for key in ("kappa", "auroc"):
                row[f"{key}_low"], row[f"{key}_high"] = interval(samples[key])
        rows.append(row)
    columns = ["study_type", "n", "accuracy", "kappa", "kappa_low", "kappa_high"]
    columns += ["auroc", "auroc_low", "auroc_high", "sensitivity", "specificity"]
    columns += ["called_abnormal", "one_class"]
    return pd.DataFrame(rows)[[column for column in columns if column in rows[0]]]


def score_systems(
    predictions: pd.DataFrame, intervals: bool = True, *, progress: bool = False
) -> pd.DataFrame:
    """Scores every system (backbone, stage, repeat) on the split that is reported for it.

    Args:
        predictions: predictions table of one or more systems.
        intervals: whether to add the intervals, see `score`.
        progress: whether to show a progress bar.

    Returns:
        The rows of `score` of each system below `backbone, stage, repeat, members, split`.
        `members` is how many models' mean a probability is, the least where a row's studies
        differ. Systems of the stage "type" come first, then those with more members.

    Examples:
        >>> folders = [path.parent for path in Path("demo/small_cnn").rglob("run.json")]
        >>> scores = mt.score_systems(mt.load_predictions(folders), intervals=False)
        >>> scores[["stage", "members"]].drop_duplicates().values.tolist()
        [['type', 2], ['mura', 1]]
    """
    tables = []
    for system, rows in track(predictions.groupby(SYSTEM_KEY), "Scoring", shown=progress):
        split = reported_split(rows)
        studies = study_probabilities(rows[rows.split == split])
        table = score(studies, intervals=intervals)
        members = studies.groupby("study_type").members.min().to_dict()
        members[OVERALL] = studies.members.min()
        facts = dict(zip(SYSTEM_KEY, system, strict=True))
        facts |= {"members": table.study_type.map(members), "split": split}
        for column, values in reversed(facts.items()):
            table.insert(0, column, values)
        tables.append(table)
    tables.sort(key=lambda table: (table.stage[0] != "type", -table.members.max()))
    return pd.concat(tables, ignore_index=True)


def reported_split(predictions: pd.DataFrame) -> str:
    """The split whose scores are reported: test where there is one, otherwise valid."""
    splits = set(predictions.split)
    return "test" if "test" in splits else "valid"


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
    systems = studies[[*SYSTEM_KEY, "split"]].drop_duplicates()
    if len(systems) > 1:
        raise ValueError(
            f"score takes one system (backbone, stage, repeat) on one split. Received: "
            f"{systems.to_dict('records')}. Select one, or use studies.groupby({SYSTEM_KEY})."
        )
    wrong = studies[~studies.probability.between(0, 1)]
    if len(wrong):
        raise ValueError(
            f"probabilities must lie in [0, 1]. Received: {wrong.probability.iloc[0]} for "
            f"{_name(wrong.iloc[0])}."
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
            f"without, the first: {_name(first)}, whose label is {label}. Score those that have "
            "one: rows[rows.label.isin([0, 1])]."
        )


def _name(study: pd.Series) -> str:
    return "/".join(str(study[column]) for column in STUDY_KEY)
