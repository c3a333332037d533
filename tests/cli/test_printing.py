import numpy as np
import pandas as pd

from mura_tf.cli.printing import print_table
from mura_tf.reports.numbers import NOTHING


def test_cells_are_for_people(capsys):
    table = pd.DataFrame(
        {
            "[name]": ["small_cnn", "[bold]"],
            "count": pd.array([2264385, None], dtype="Int64"),
            "equal": pd.array([True, None], dtype="boolean"),
            "share": [0.5, np.nan],
            "other": [False, True],
        }
    )
    print_table(table)
    header, first, second = (
        [cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")]
        for line in capsys.readouterr().out.splitlines()
        if line[0] in "┃│"
    )
    assert header == list(table.columns)
    assert first == ["small_cnn", "2,264,385", "yes", "0.5", "no"]
    assert second == ["[bold]", NOTHING, NOTHING, NOTHING, "yes"]
