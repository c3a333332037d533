"""Views tables with the counts of Table I."""

import numpy as np
import pandas as pd
from run_folders import views_of

from mura_tf.published import published_table


def table_i_views():
    """Views with the counts of Table I, the images dealt evenly to the studies."""
    tables = []
    for cell in published_table("table_i").query("study_type != 'all'").itertuples():
        study = np.arange(cell.images) % cell.studies
        patient = [f"{cell.split}-{cell.study_type}-{cell.label:.0f}-{number}" for number in study]
        tables.append(
            pd.DataFrame(
                {
                    "split": cell.split,
                    "study_type": cell.study_type,
                    "patient": patient,
                    "study": "study1",
                    "view": [f"image{number}.png" for number in range(cell.images)],
                    "label": int(cell.label),
                    "path": "",
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def mura_views():
    """Its validation studies, of one view each."""
    valid = published_table("table_i").query("split == 'valid' and study_type != 'all'")
    counts = valid.pivot_table(index="study_type", columns="label", values="studies")
    return views_of({name: row.astype(int) for name, row in counts.iterrows()})
