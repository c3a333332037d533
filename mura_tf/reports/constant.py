"""What is said where all decisions are the same: such a kappa of 0 or accuracy says nothing."""

from collections.abc import Mapping

import pandas as pd

from mura_tf.evaluation.metrics import THRESHOLD
from mura_tf.evaluation.scores import SYSTEM_KEY, system_name
from mura_tf.published import OVERALL
from mura_tf.reports.numbers import with_interval

CONSTANT = "Constant decisions"
"""The heading above such sentences."""
MARK = " ‡"
NOTE = f"‡ All studies are called the same at {THRESHOLD}."


def called(studies: int, abnormal: float) -> str:
    """What all studies are called, "normal" or "abnormal"; "" where some are called otherwise.

    Args:
        studies: how many there are.
        abnormal: how many of them are called abnormal.
    """
    if not studies or abnormal not in (0, studies):  # NaN, of a published system, is neither
        return ""
    return "abnormal" if abnormal else "normal"


def constant_call(counts: Mapping[str, tuple[int, float]]) -> str:
    """What a system does that decides the same for all studies, or for all of each type; or "".

    Args:
        counts: study type -> studies, and how many are called abnormal.

    >>> constant_call({"elbow": (20, 0), "wrist": (30, 0)})
    'calls all 50 studies normal at 0.5'
    >>> constant_call({"elbow": (20, 0), "wrist": (30, 30)})
    'calls all studies of a type the same at 0.5: elbow normal, wrist abnormal'
    """
    calls = {study_type: called(*numbers) for study_type, numbers in counts.items()}
    if not counts or "" in calls.values():
        return ""
    if len(set(calls.values())) == 1:
        total = sum(studies for studies, _ in counts.values())
        return f"calls all {total:,} studies {next(iter(calls.values()))} at {THRESHOLD}"
    told = ", ".join(f"{study_type} {call}" for study_type, call in calls.items())
    return f"calls all studies of a type the same at {THRESHOLD}: {told}"


def constant_systems(scores: pd.DataFrame) -> list[str]:
    """A sentence for each system that is constant.

    Args:
        scores: table of `score_systems`, or with a `system`, its name, instead of the `SYSTEM_KEY`.
    """
    keys = ["system"] if "system" in scores else SYSTEM_KEY
    sentences = []
    for _, rows in scores.groupby(keys, sort=False):
        by_type = rows[rows.study_type != OVERALL]
        counts = zip(by_type.n, by_type.called_abnormal, strict=True)
        call = constant_call(dict(zip(by_type.study_type, counts, strict=True)))
        if call:
            pooled = rows[rows.study_type == OVERALL]
            told = pooled if len(pooled) else by_type
            named = [
                f"{row.study_type} " * (len(told) > 1)
                + with_interval(row.auroc, row.auroc_low, row.auroc_high)
                for row in told.itertuples()
            ]
            sentences.append(f"{system_name(rows.iloc[0])} {call}; AUROC {', '.join(named)}.")
    return sentences
