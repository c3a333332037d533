"""The documents' own numbers, which lie as CSV in `experiments/published`."""

from importlib.resources import files

import pandas as pd


def published_table(name: str) -> pd.DataFrame:
    """One of the CSVs, such as "table_vi"; `source` names each cell's document and place."""
    return _read(name)


def published_digits(name: str) -> int:
    """How many decimals the document prints of its kappas."""
    return int(_read(name, dtype=str).kappa.str.partition(".")[2].str.len().max())


def _read(name: str, **settings) -> pd.DataFrame:
    path = files("mura_tf.experiments").joinpath("published", f"{name}.csv")
    with path.open(encoding="utf-8") as file:
        return pd.read_csv(file, **settings)
