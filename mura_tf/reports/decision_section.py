"""How a system's probabilities are decided by: its operating points and its calibration."""

import pandas as pd

from mura_tf.evaluation.operating_points import Decisions, decide
from mura_tf.evaluation.scores import SYSTEM_KEY, study_probabilities, system_name
from mura_tf.reports.numbers import number_text, with_interval
from mura_tf.reports.section import Section
from mura_tf.training.systems import System

POINTS = {
    "paper": "0.5, the paper's",
    "kappa": "highest kappa",
    "doubt": "doubtful between sensitivity and specificity 0.95",
}
HEADERS = ["Operating point", "Normal up to", "Abnormal above", "Sensitivity [95 %]"]
HEADERS += ["Specificity [95 %]", "Kappa [95 %]", "Doubtful"]


def decisions_of(systems: list[System]) -> dict[str, Decisions]:
    """The name of a system -> its decisions, chosen where its epochs were."""
    return {
        system.name: decide(
            study_probabilities(system.predictions), system.recipe.select_on, system.split
        )
        for system in systems
    }


def decision_table(systems: list[System], decisions: dict[str, Decisions]) -> pd.DataFrame:
    """What `operating_points.csv` has: a row per system and operating point."""
    tables = []
    for system in systems:
        found = decisions[system.name]
        facts = {name: getattr(system.recipe, name) for name in SYSTEM_KEY}
        facts |= {"system": system.name}
        facts |= {"chosen_on": found.chosen_on, "reported_on": found.reported_on}
        calibration = {
            "slope": found.calibration.slope if found.calibration else float("nan"),
            "intercept": found.calibration.intercept if found.calibration else float("nan"),
            "calibration_error_before": found.error_before,
            "calibration_error_after": found.error_after,
        }
        table = found.table.assign(**facts, **calibration)
        tables.append(table[[*facts, *found.table, *calibration]])
    return pd.concat(tables, ignore_index=True)


def decision_section(system: pd.Series, found: Decisions) -> str:
    """HTML: the operating points of a system beside 0.5, and its calibration."""
    where = (
        "the split that is reported" if found.chosen_on == found.reported_on else "another split"
    )
    note = (
        f"Chosen on {found.chosen_on}, {where}, and scored on {found.reported_on}. Sensitivity "
        "counts abnormal studies that are not called normal, specificity normal ones that are not "
        "called abnormal; kappa leaves doubtful ones out. "
    )
    heading, rows = f"Operating points of {system_name(system)}", point_rows(found.table)
    return Section(heading, "", HEADERS, rows, below=[note + calibration_text(found)]).html


def point_rows(table: pd.DataFrame) -> list[list[str]]:
    """`score_points` as text, below `HEADERS`."""
    return [
        [
            f"{row.point}: {POINTS[row.point]}",
            number_text(row.low),
            number_text(row.high),
            *(
                with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])
                for name in ("sensitivity", "specificity", "kappa")
            ),
            number_text(row.doubtful, ".0%"),
        ]
        for _, row in table.iterrows()
    ]


def calibration_text(found: Decisions) -> str:
    """Slope, intercept and the expected calibration error before and after, in a sentence."""
    if found.calibration is None:
        return f"Nothing else could be chosen: {found.chosen_on} has studies of one label alone."
    return (
        f"Calibrated by Platt's slope {found.calibration.slope:.3f} and intercept "
        f"{found.calibration.intercept:.3f}, the expected calibration error is "
        f"{found.error_after:.3f}, and {found.error_before:.3f} before."
    )
