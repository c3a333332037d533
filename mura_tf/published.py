"""The documents' own numbers, which lie as CSV in `experiments/published`."""

from importlib.resources import files

import pandas as pd

from mura_tf.layouts import OVERALL


def published_table(*names: str) -> pd.DataFrame:
    """One of the CSVs, such as "table_vi", or several of one shape, one below the other.

    `source` names each cell's document and place.
    """
    return pd.concat([_read(name) for name in names], ignore_index=True)


def published_digits(*names: str) -> int:
    """How many decimals the document prints of its kappas."""
    kappas = pd.concat([_read(name, dtype=str).kappa for name in names])
    return int(kappas.str.partition(".")[2].str.len().max())


def mura_studies(*splits: str) -> pd.Series:
    """Study type or "overall" -> studies in these splits of MURA (Table I)."""
    counts = published_table("table_i").query("split in @splits and label.notna()")
    return counts.groupby("study_type").studies.sum().rename({"all": OVERALL})


def _read(name: str, **settings) -> pd.DataFrame:
    path = files("mura_tf.experiments").joinpath("published", f"{name}.csv")
    with path.open(encoding="utf-8") as file:
        return pd.read_csv(file, **settings)
