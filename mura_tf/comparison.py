"""Studies of several systems -> their scores over repeats, and the differences between them.

A system here is a backbone and a stage; its repeats are ensembles trained anew. Every interval
comes from the same bootstrap samples of patients, so that two systems can be compared in pairs.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mura_tf.layouts import STUDY_KEY
from mura_tf.metrics import (
    accuracy_of_confusion,
    bootstrap_weights,
    interval,
    kappa_of_confusion,
    weighted_confusion,
)

System = tuple[str, str]
"""(backbone, stage)"""


@dataclass(frozen=True)
class RepeatedScore:
    """One system on the studies of one study type, or "overall".

    Attributes:
        studies: (n,) names of the studies, to know whether two systems saw the same.
        members: models per ensemble.
        accuracy, kappa: float (repeats,), at study level.
        samples: float (replicates,), kappa's mean over the repeats in each bootstrap sample.
    """

    studies: tuple[str, ...]
    members: int
    accuracy: np.ndarray
    kappa: np.ndarray
    samples: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of kappa's mean over the repeats."""
        return interval(self.samples)


def repeated_scores(
    studies: pd.DataFrame, study_types: list[str], *, replicates: int = 2000, seed: int = 0
) -> dict[System, dict[str, RepeatedScore]]:
    """Scores every system on each study type and, where it has all of them, "overall".

    Args:
        studies: table of `study_probabilities`: systems with any number of repeats, on one split.
        study_types: what "overall" consists of.
        replicates: number of bootstrap samples.
        seed: of the bootstrap.

    Returns:
        (backbone, stage) -> study type or "overall" -> scores. A repeat counts for "overall" if it
        has all study types.
    """
    draws: dict[tuple, np.ndarray] = {}
    scores: dict[System, dict[str, RepeatedScore]] = {}
    for system, rows in studies.groupby(["backbone", "stage"], sort=False):
        tables = {name: _by_repeat(group) for name, group in rows.groupby("study_type")}
        if set(tables) >= set(study_types):
            parts = [tables[name] for name in study_types]
            tables["overall"] = pd.concat(parts, join="inner")
        scores[system] = {}
        for name, table in tables.items():
            if table.empty or not len(table.columns):
                continue
            patients = tuple(table.index.get_level_values("patient"))
            if patients not in draws:
                draws[patients] = bootstrap_weights(patients, replicates, seed)
            members = rows.members if name == "overall" else rows[rows.study_type == name].members
            scores[system][name] = _score(table, int(members.min()), draws[patients])
    return scores


def difference(one: RepeatedScore, other: RepeatedScore) -> tuple[float, float, float]:
    """Mean kappa of `one` minus that of `other`, with a paired 95 % bootstrap interval.

    Returns:
        (difference, low, high); positive where `one` is better.

    Raises:
        ValueError: they were not scored on the same studies.
    """
    if one.studies != other.studies:
        raise ValueError(
            f"a paired comparison needs the same studies. Received: {len(one.studies)} and "
            f"{len(other.studies)}, {len(set(one.studies) & set(other.studies))} of them shared."
        )
    low, high = interval(one.samples - other.samples)
    return float(one.kappa.mean() - other.kappa.mean()), low, high


def _by_repeat(group: pd.DataFrame) -> pd.DataFrame:
    """Probabilities: a row per study (its key and label), a column per repeat."""
    return group.set_index([*STUDY_KEY, "label", "repeat"]).probability.unstack()  # noqa: PD010


def _score(table: pd.DataFrame, members: int, weights: np.ndarray) -> RepeatedScore:
    labels = table.index.get_level_values("label").to_numpy()
    once = np.ones((1, len(table)))
    accuracy, kappa, samples = [], [], []
    for repeat in table.columns:
        probabilities = table[repeat].to_numpy()
        confusion = weighted_confusion(labels, probabilities, once)
        accuracy.append(accuracy_of_confusion(confusion)[0])
        kappa.append(kappa_of_confusion(confusion)[0])
        samples.append(kappa_of_confusion(weighted_confusion(labels, probabilities, weights)))
    return RepeatedScore(
        studies=tuple("/".join(map(str, key)) for key in table.index),
        members=members,
        accuracy=np.array(accuracy),
        kappa=np.array(kappa),
        samples=np.mean(samples, axis=0),
    )
