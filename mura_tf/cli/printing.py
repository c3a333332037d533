"""How tables appear on the terminal."""

import io
import sys
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

from rich.markup import escape
from rich.table import Table

from mura_tf.terminal import Output


def print_in_any_encoding() -> None:
    """What the terminal, or the file behind it, has no letters for is printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_table(table: "pd.DataFrame") -> None:
    """A DataFrame with rules around its cells."""
    drawn = Table()
    for name in table.columns:
        drawn.add_column(escape(name), overflow="fold")  # nothing is cut off where it is narrow
    for row in table.itertuples(index=False):
        drawn.add_row(*(escape(_cell(value)) for value in row))
    Output().print(drawn)


def print_report(scores: "pd.DataFrame", out: Path) -> None:
    """The table of `score_systems`, and where it lies."""
    from mura_tf.experiment import print_scores

    print_scores(scores)
    for name, file in (
        ("Scores", "scores.csv"),
        ("Operating points", "operating_points.csv"),
        ("Report", "report.html"),
    ):
        print(f"{name}: {out / file}")


def print_summary(data: Path) -> None:
    """Table I of a data set, and whether it is the paper's."""
    import mura_tf as mt

    table = mt.summarize(mt.load_views(data, progress=True))
    print(table.to_string())
    published = table.attrs["published"]
    if published is not None:
        print("The counts are " + ("" if published else "not ") + "those of the paper's Table I.")


def _cell(value: object) -> str:
    import pandas as pd

    from mura_tf.reports.numbers import NOTHING

    if pd.isna(value):
        return NOTHING
    if pd.api.types.is_bool(value):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, Integral) else str(value)
