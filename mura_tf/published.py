"""The documents' own numbers, which lie as CSV in `experiments/published`."""

from functools import cache
from importlib.resources import files

import pandas as pd

OVERALL = "overall"
"""All study types together, where a study type stands otherwise; so none may be called that."""

LONG_FORM = ["system", "study_type", "label", "split", "metric", "value", "source"]
"""Columns of the CSVs of documents 001 to 004, a row per number."""


def published_table(*names: str) -> pd.DataFrame:
    """One of the CSVs, such as "table_vi", or several of one shape, one below the other.

    `source` names each cell's document and place.
    """
    return pd.concat([_read(name) for name in names], ignore_index=True)


def published_digits(*names: str) -> int:
    """How many decimals the document prints of its kappas."""
    kappas = pd.concat([_read(name, dtype=str).kappa for name in names])
    return int(kappas.str.partition(".")[2].str.len().max())


def published_accuracies(
    published: pd.DataFrame, split: str = "test"
) -> dict[tuple[str, str], float]:
    """(system, study type) -> a document's accuracy on its data of that split, or of none named.

    Args:
        published: `published_table` in the long form.
        split: in the document's word.
    """
    rows = published.query("metric == 'accuracy'")
    rows = rows[rows.split.isna() | (rows.split == split)]
    # a value that comes twice in a document comes last as what was finally reached
    return rows.groupby(["system", "study_type"]).value.last().to_dict()


def mura_studies(*splits: str) -> pd.Series:
    """Study type or "overall" -> studies in these splits of MURA (Table I)."""
    counts = published_table("table_i").query("split in @splits and label.notna()")
    return counts.groupby("study_type").studies.sum().rename({"all": OVERALL})


def is_mura(studies: pd.Series, *splits: str) -> bool:
    """Whether study types have as many studies as MURA has of them in these splits.

    Args:
        studies: study type -> studies; "overall" does not count.
    """
    studies = studies.drop(OVERALL, errors="ignore")
    return bool(len(studies) and (studies == mura_studies(*splits).reindex(studies.index)).all())


def mura_kappas() -> pd.DataFrame:
    """Who has read MURA's test set, which is not public: three radiologists and MURA's own model.

    Returns:
        `title, study_type, kappa, kappa_low, kappa_high`; nobody quotes the model's intervals.
    """
    readers = published_table("radiologists").rename(columns={"reader": "title"})
    model = published_table("mura_baseline").drop_duplicates("study_type")
    together = pd.concat([readers, model.assign(title="MURA's own model")], ignore_index=True)
    return together[["title", "study_type", "kappa", "kappa_low", "kappa_high"]]


@cache
def _read(name: str, dtype: type[str] | None = None) -> pd.DataFrame:
    path = files("mura_tf.experiments") / "published" / f"{name}.csv"
    with path.open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=dtype)
