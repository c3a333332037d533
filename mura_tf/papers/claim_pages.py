"""Answered claims as a table's text."""

import pandas as pd

from mura_tf.reports.numbers import with_interval
from mura_tf.reports.section import Section

_HEADING = "The document's claims"
_HEADERS = ["Claim", "Holds here", "Measure", "Value [95 %]", "Holds above", "Source"]
_WORDS = (0, 1, 2, 5)
_NOTE = (
    "Answered on the document's own measure first, and below it on kappa of studies where that is "
    "another; the intervals are paired, of a bootstrap that resamples patients."
)
_CONSTANT_NOTE = (
    "A system that decides the same for everything has no answer at 0.5; its AUROC stands below."
)


def claim_section(claims: pd.DataFrame) -> Section:
    """The table of `answer_claims`, and below it why two measures disagree, and what cannot be
    told."""
    below = [why for why in claims.why if why]
    if (claims.measure == "auroc").any():
        below.append(_CONSTANT_NOTE)
    return Section(_HEADING, _NOTE, _HEADERS, _rows(claims), _WORDS, below)


def _rows(claims: pd.DataFrame) -> list[list[str]]:
    """As text, below `_HEADERS`; a claim is named once."""
    again = claims.duplicated(["claim", "source"])
    rows = []
    for row, named in zip(claims.itertuples(), again, strict=True):
        rows.append(
            [
                "" if named else row.claim,
                row.answer,
                row.what,
                with_interval(row.value, row.low, row.high),
                f"{row.above:.3f}",
                "" if named else row.source,
            ]
        )
    return rows
