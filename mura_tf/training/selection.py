"""Recipe + views table -> the views it trains on, selects on and predicts. No Keras."""

import os

import pandas as pd

from mura_tf.data.boxes import boxes_above
from mura_tf.data.cache import data_fingerprint, picture_marks, prepare, prepare_readable
from mura_tf.data.required import scoring_findings
from mura_tf.data.splits import dealt
from mura_tf.data.table import in_order, plain_views
from mura_tf.models.specs import boxes_weight, parse_sizes
from mura_tf.training.recipe import Recipe


def selected_views(views: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """The views of the recipe's study types in `dealt_views`, checked for what training needs.

    Raises:
        ValueError: no views table, see `plain_views`; views that could not be scored, see
            `scoring_findings`; an unknown study type, a split that is needed and lacking, a view to
            train or select on without a label, a type without training views, or whose training
            views have one label, or study types to be told apart that are one.
    """
    views = plain_views(views)
    if recipe.select_on == "holdout":  # which is drawn from all types
        _require_labels(views, {"train"})
    views = dealt_views(views, recipe)
    known = sorted(views.study_type.unique())
    unknown = sorted(set(recipe.study_types or ()) - set(known))
    if unknown:
        raise ValueError(
            f"study_types must be among those of the data set: {', '.join(known)}. "
            f"Received: {', '.join(unknown)}."
        )
    chosen = views[views.study_type.isin(recipe.study_types or known)].reset_index(drop=True)
    _require_labels(chosen, {"train", recipe.select_on})
    _require_scorable(chosen)
    _require_trainable(chosen, recipe)
    return chosen


def dealt_views(views: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """All views, with the split "holdout" where the recipe holds them out of train.

    They are in order, since that of the rows decides what a batch holds. A holdout is drawn from
    all types, so that the stages of an experiment share it.
    """
    views = in_order(views)
    is_train = views.split == "train"
    if recipe.select_on == "holdout" and is_train.any():
        parts = {"train": 1 - recipe.holdout, "holdout": recipe.holdout}
        split = dealt(views[is_train], parts, recipe.holdout_by, recipe.seed)
        return views.assign(split=split.reindex(views.index).fillna(views.split))
    return views


def usable_views(
    views: pd.DataFrame,
    recipe: Recipe,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    skip_bad: bool | float = False,
    progress: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None, str]:
    """Prepares the views at the recipe's sizes.

    Returns:
        The readable views; `path, reason` of the others; the boxes of the training views, where
        they are learned from; `data_fingerprint` of the readable views and of these.

    Raises:
        BadViewsError: some files are unreadable, unless `skip_bad`.
        ValueError: without them, what is left cannot be trained on; boxes that do not fit, see
            `boxes_above`.
        FileNotFoundError: boxes that the recipe's head is to be trained on.
    """
    views, problems, prepared = prepare_readable(
        views, recipe.side, cache_dir, resize=recipe.resize, skip_bad=skip_bad, progress=progress
    )
    if len(problems):
        _require_trainable(views, recipe)
    parts = split_views(views, recipe)
    for side, _ in parse_sizes(recipe.first_sizes):
        for name in ("train", "select"):
            prepare(parts[name], side, cache_dir, resize=recipe.resize, progress=progress)
    boxes = None
    if boxes_weight(recipe.head):
        sizes = dict(zip(views.path, map(tuple, prepared.sizes.tolist()), strict=True))
        boxes = boxes_above(parts["train"], views, sizes)
    return views, problems, boxes, data_fingerprint(views, prepared.digests, boxes)


def split_views(views: pd.DataFrame, recipe: Recipe) -> dict[str, pd.DataFrame]:
    """What is trained on ("train"), selected on ("select") and predicted ("predict").

    What is predicted may have views whose label is unknown.
    """
    chosen = {
        "train": views.split == "train",
        "select": views.split == recipe.select_on,
        "predict": views.split != "train",
    }
    parts = {name: views[rows].reset_index(drop=True) for name, rows in chosen.items()}
    for name in ("train", "select"):
        parts[name] = parts[name].astype({"label": int})  # none is unknown here
    return parts


def _require_labels(views: pd.DataFrame, splits: set[str]) -> None:
    unknown = views[views.split.isin(splits) & ~views.label.isin([0, 1])]
    if len(unknown):
        raise ValueError(
            "what is trained or selected on needs a label, 0 or 1. Received: "
            f"{len(unknown)} views without, in {' and '.join(sorted(set(unknown.split)))}, the "
            f"first: {unknown.iloc[0].path}. Label them, leave them out, or move them to the split "
            "test, where they are predicted."
        )


def predicted_pictures(
    views: pd.DataFrame, recipe: Recipe, cache_dir: str | os.PathLike[str] | None = None
) -> list[str]:
    """`picture_marks` of the views to be predicted, so that a picture replaced later is noticed."""
    predicted = split_views(views, recipe)["predict"]
    prepared = prepare(predicted, recipe.side, cache_dir, resize=recipe.resize)
    return picture_marks(predicted, prepared.digests)


def _require_scorable(views: pd.DataFrame) -> None:
    """What scoring would refuse after hours of training."""
    if findings := scoring_findings(views):
        reasons = "; ".join(f"{one.path}: {one.reason}" for one in findings[:3])
        more = f"; and {len(findings) - 3} more" if len(findings) > 3 else ""
        raise ValueError(f"the views cannot be scored: {reasons}{more}.")


def _require_trainable(chosen: pd.DataFrame, recipe: Recipe) -> None:
    whose = "the data set"
    if recipe.study_types:
        whose = f"study_types {', '.join(recipe.study_types)}: the data set"
    if set(chosen.split) <= {"train", "holdout"}:
        raise ValueError(
            f"{whose} needs a valid or a test split to report on. Received: train only. Hold out a "
            "part of the patients (--split patient:0.15, in Python load_views(..., "
            "split='patient:0.15')), move patients into a folder valid, or leave out the types "
            "that have none."
        )
    needed = ["train", recipe.select_on]
    lacking = [split for split in needed if split not in set(chosen.split)]
    if lacking:
        raise ValueError(
            f"{whose} needs views in the splits {' and '.join(needed)}. Received: none in "
            f"{' and '.join(lacking)}."
            + (" Without a valid split, select on 'holdout'." if lacking == ["valid"] else "")
        )
    selecting = chosen[chosen.split == recipe.select_on]
    if recipe.monitor == "val_auroc" and selecting.label.nunique() < 2:
        raise ValueError(
            "the monitor 'val_auroc' needs normal and abnormal views to select on. Received: the "
            f"split {recipe.select_on} with label {selecting.label.iloc[0]} only. Use another "
            "monitor, or leave these study types out."
        )
    training = chosen[chosen.split == "train"]
    untrained = sorted(set(chosen.study_type) - set(training.study_type))
    if untrained:
        raise ValueError(
            f"every study type needs training views. Received: none of {', '.join(untrained)}, in "
            f"{' and '.join(chosen[chosen.study_type.isin(untrained)].split.unique())} alone. "
            "Leave them out of the data set, or give some of them to train."
        )
    if recipe.task == "study_type":
        if len(set(chosen.study_type)) == 1:
            raise ValueError(
                "the task study_type needs two study types or more. Received: "
                f"{chosen.study_type.iloc[0]} alone."
            )
        return
    for study_type, labels in training.groupby("study_type").label:
        if set(labels) != {0, 1}:
            raise ValueError(
                f"every study type needs normal and abnormal training views. Received: "
                f"{study_type!r} with label {labels.iloc[0]} only. Leave this type out of "
                "study_types, or, where one model is trained on all types, out of the data set."
            )
