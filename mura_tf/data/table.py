"""The views table: its columns, its keys and its order."""

import hashlib
import re

import numpy as np
import pandas as pd

SPLITS = ("train", "valid", "test")
STUDY_KEY = ["split", "study_type", "patient", "study"]
VIEW_KEY = [*STUDY_KEY, "view"]
VIEW_COLUMNS = [*VIEW_KEY, "label", "path"]


def unsplit_key(views: pd.DataFrame) -> list[str]:
    """What names a view where its split may have been dealt anew: `VIEW_KEY` without it, if unique.

    Args:
        views: a row per view, or several, as boxes have.
    """
    key = [name for name in VIEW_KEY if name != "split"]
    if not set(VIEW_KEY) <= set(views) or not views.drop_duplicates(VIEW_KEY).duplicated(key).any():
        return key
    return VIEW_KEY


def views_mark(views: pd.DataFrame) -> str:
    """Hexadecimal digits of a table's views and their labels, in whatever order, wherever files
    lie."""
    said = in_order(views)[[*VIEW_KEY, "label"]].to_csv(index=False)
    return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


def plain_views(views: pd.DataFrame) -> pd.DataFrame:
    """A views table as a file of it would say it: its columns alone, of text and `as_labels`.

    Raises:
        ValueError: a column is lacking, or empty in a row, but that of the label, see `as_labels`;
            a split that is not of `SPLITS`.
    """
    require_columns(views, VIEW_COLUMNS, "views must be a views table")
    said = [*VIEW_KEY, "path"]
    if (empty := views[said].isna() | (views[said] == "")).any(axis=None):
        raise ValueError(
            f"each view must have {', '.join(said)}. Received: {empty.any(axis=1).sum()} without "
            f"{', '.join(empty.columns[empty.any()])}."
        )
    views = views[VIEW_COLUMNS].astype(dict.fromkeys(said, str))
    if unknown := sorted(set(views.split) - {*SPLITS}):
        raise ValueError(
            f"split must be one of {', '.join(SPLITS)}. Received: {', '.join(unknown)}."
        )
    return views.assign(label=as_labels(views.label))


def require_columns(table: pd.DataFrame, names: list[str], expected: str) -> None:
    """ValueError, which begins with what is expected, where a table lacks one of the columns."""
    if lacking := [name for name in names if name not in table]:
        raise ValueError(
            f"{expected}, with {', '.join(names)}. Received one without {', '.join(lacking)}."
        )


def as_views(table: pd.DataFrame) -> pd.DataFrame:
    """The views table's columns and order: by split, then naturally, image2 before image10."""
    views = table[VIEW_COLUMNS].astype(dict.fromkeys(VIEW_COLUMNS, str) | {"label": int})
    return in_order(views.sort_values("label", kind="stable"))


def in_order(views: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order of `as_views`, with all their columns."""
    keys = views[VIEW_KEY].reset_index(drop=True).astype(str)
    order = keys.sort_values(VIEW_KEY, key=_rank, kind="stable").index
    return views.iloc[order].reset_index(drop=True)


def as_labels(labels: pd.Series) -> pd.Series:
    """Labels as whole numbers; where some are unknown, as pandas' `Int64` with <NA> for these.

    Args:
        labels: numbers or their text; unknown is NaN, None, <NA> or the empty text.

    Raises:
        ValueError: a label that is no whole number.

    >>> as_labels(pd.Series(["1", "", "0"])).tolist()
    [1, <NA>, 0]
    """
    rows = labels.reset_index(drop=True)  # an index may name several
    known = rows[rows.notna() & (rows.astype(str) != "")]
    try:
        numbers = pd.to_numeric(known).astype("Int64")
    except (ValueError, TypeError, OverflowError):
        raise ValueError(
            "a label must be 1 (abnormal) or 0 (normal), or NaN or nothing where it is unknown. "
            f"Received: {', '.join(map(repr, known.unique()[:5]))}."
        ) from None
    numbers = numbers.reindex(rows.index).set_axis(labels.index)
    return numbers if numbers.isna().any() else numbers.astype(int)


def label_names(labels: pd.Series) -> pd.Series:
    """Labels as text, "unknown" where they are.

    >>> label_names(pd.Series([1, None], dtype="Int64")).tolist()
    ['1', 'unknown']
    """
    return labels.astype(object).where(labels.notna(), "unknown").astype(str)


def _rank(column: pd.Series) -> pd.Series:
    if column.name == "split":
        return column.map(lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS))

    def natural(value: str) -> tuple[str, str]:
        return re.sub(r"\d+", lambda digits: digits[0].zfill(20), value), value

    codes, values = pd.factorize(column)
    ranks = np.empty(len(values), int)
    ranks[sorted(range(len(values)), key=lambda code: natural(values[code]))] = range(len(values))
    return pd.Series(ranks[codes], index=column.index)
