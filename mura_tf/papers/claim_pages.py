"""Answered claims as a table's text."""

import pandas as pd

from mura_tf.reports.numbers import with_interval

CLAIMS = "The document's claims"
CLAIM_HEADERS = ["Claim", "Holds here", "Measure", "Value [95 %]", "Holds above", "Source"]
CLAIM_WORDS = (0, 1, 2, 5)
CLAIM_NOTE = (
    "Answered on the document's own measure first, and below it on kappa of studies where that is "
    "another; the intervals are paired, of a bootstrap that resamples patients."
)
_CONSTANT_NOTE = (
    "A system that decides the same for everything has no answer at 0.5; its AUROC stands below."
)


def claim_rows(claims: pd.DataFrame) -> list[list[str]]:
    """`answer_claims` as text, below `CLAIM_HEADERS`; a claim is named once."""
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


def claim_notes(claims: pd.DataFrame) -> list[str]:
    """What is to be said below the table: why two measures disagree, and what cannot be told."""
    notes = [why for why in claims.why if why]
    if (claims.measure == "auroc").any():
        notes.append(_CONSTANT_NOTE)
    return notes
