"""Kappas by study type, a row per system, beside those who have read MURA's test set."""

import numpy as np
import pandas as pd

from mura_tf.published import OVERALL
from mura_tf.reports.constant import MARK, NOTE, called
from mura_tf.reports.numbers import interval_text, number_text

HEADING = "Kappa of studies with its 95 % interval, by study type"
BESIDE = ", beside MURA's radiologists and its own model"
BESIDE_NOTE = (
    "The radiologists and MURA's own model read MURA's test set, which is not public: other "
    "studies than these. Their overall is of all seven study types; one of fewer is left out here."
)


def kappa_section(
    scores: pd.DataFrame, references: pd.DataFrame
) -> tuple[str, str, list[str], list[list[str]]]:
    """A table for HTML and Markdown alike.

    Args:
        scores: a row per system and study type: `title, study_type, kappa, kappa_low, kappa_high`,
            and `studies, called_abnormal`, by which what is constant is marked.
        references: of `mura_kappas`, or no rows of it.

    Returns:
        Heading, note, headers, rows of text.
    """
    every = pd.concat([scores, references])
    types = [*sorted(set(every.study_type) - {OVERALL}), OVERALL]
    read = sorted(set(references.get("study_type", ())) - {OVERALL})
    rows, marked = [], False
    for title, group in every.groupby("title", sort=False):
        by_type = group.set_index("study_type").reindex(types)
        if by_type.kappa[read].isna().any():
            by_type.loc[OVERALL, ["kappa", "kappa_low", "kappa_high", "called_abnormal"]] = np.nan
        kappas = []
        for row in by_type.itertuples():
            constant = bool(called(row.studies, row.called_abnormal))
            kappas.append(number_text(row.kappa) + MARK * constant)
            marked |= constant
        rows.append([title, *kappas])
        if by_type.kappa_low.notna().any():
            rows.append(["95 %", *map(interval_text, by_type.kappa_low, by_type.kappa_high)])
    notes = [NOTE] if marked else []
    notes += [BESIDE_NOTE] if len(references) else []
    heading = HEADING + BESIDE * bool(len(references))
    return heading, " ".join(notes), ["System", *types], rows
