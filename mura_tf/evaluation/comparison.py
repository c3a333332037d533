"""Studies of several systems -> their scores over repeats, and the differences between them.

A system here is a backbone and a stage; its repeats are ensembles trained anew. All intervals come
from the same bootstrap samples of the patients of all study types, so that systems can be compared
in pairs and study types added up. They tell what other patients would change; the deviation over
the repeats tells what training anew changes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from mura_tf.data.table import STUDY_KEY
from mura_tf.evaluation.metrics import (
    accuracy_of_confusion,
    bootstrap_weights,
    interval,
    kappa_of_confusion,
    weighted_confusion,
)
from mura_tf.evaluation.predictions import SYSTEM_KEY, require_labels
from mura_tf.published import OVERALL

System = tuple[str, str]
"""(backbone, stage)"""


@dataclass(frozen=True)
class RepeatedScore:
    """One system on the studies of one study type, or of several together.

    Attributes:
        studies: (n,) names of the studies, to know whether two systems saw the same.
        members: models per ensemble, the least where ensembles differ.
        confusion: repeat -> float (1 + replicates, 2, 2): of the studies, then of the bootstrap
            samples.
    """

    studies: tuple[str, ...]
    members: int
    confusion: dict[int, np.ndarray]

    @cached_property
    def accuracy(self) -> np.ndarray:
        """float (repeats,), at study level."""
        return accuracy_of_confusion(self._confusions[:, 0])

    @cached_property
    def kappa(self) -> np.ndarray:
        """float (repeats,), at study level."""
        return self._kappas[:, 0]

    @cached_property
    def samples(self) -> np.ndarray:
        """float (replicates,), kappa's mean over the repeats in each bootstrap sample; NaN where
        none of the studies was drawn."""
        return self._kappas[:, 1:].mean(axis=0)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of kappa's mean over the repeats."""
        return interval(self.samples)

    @cached_property
    def _kappas(self) -> np.ndarray:
        kappas = kappa_of_confusion(self._confusions)
        kappas[self._confusions.sum(axis=(-2, -1)) == 0] = np.nan
        return kappas

    @cached_property
    def _confusions(self) -> np.ndarray:
        return np.array([self.confusion[repeat] for repeat in sorted(self.confusion)])


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

    Raises:
        ValueError: two systems or repeats saw different studies of a type, or a study without a
            label.
    """
    require_labels(studies)
    patients = pd.Index(np.unique(studies.patient))
    draws = np.vstack([np.ones(len(patients)), bootstrap_weights(patients, replicates, seed)])
    systems = studies[["backbone", "stage"]].drop_duplicates().itertuples(index=False, name=None)
    scores: dict[System, dict[str, RepeatedScore]] = {system: {} for system in systems}
    for study_type, rows in studies.groupby("study_type"):
        for system, score in _scores(rows, patients, draws).items():
            scores[system][study_type] = score
    for by_type in scores.values():
        if set(by_type) >= set(study_types):
            overall = pooled([by_type[name] for name in study_types])
            if overall.confusion:
                by_type[OVERALL] = overall
    return scores


def pooled(scores: list[RepeatedScore]) -> RepeatedScore:
    """One system on several study types together, in the repeats that have all of them."""
    repeats = set.intersection(*(set(score.confusion) for score in scores))
    return RepeatedScore(
        studies=tuple(name for score in scores for name in score.studies),
        members=min(score.members for score in scores),
        confusion={
            repeat: np.sum([score.confusion[repeat] for score in scores], axis=0)
            for repeat in sorted(repeats)
        },
    )


def difference(one: RepeatedScore, other: RepeatedScore) -> tuple[float, float, float]:
    """Mean kappa of `one` minus that of `other`, with a paired 95 % bootstrap interval.

    Args:
        one, other: of one `repeated_scores`, so that their samples are in pairs.

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


def _scores(
    rows: pd.DataFrame, patients: pd.Index, draws: np.ndarray
) -> dict[System, RepeatedScore]:
    """Every system on one study type.

    Args:
        rows: of `studies`.
        patients: (p,), of all study types.
        draws: float (1 + replicates, p), how often each patient counts.
    """
    probabilities = rows.set_index([*STUDY_KEY, "label", *SYSTEM_KEY]).probability
    table = probabilities.unstack(SYSTEM_KEY)  # noqa: PD010
    _require_same_studies(table)
    names = tuple("/".join(key[:-1]) for key in table.index)
    labels = table.index.get_level_values("label")
    weights = draws[:, patients.get_indexer(table.index.get_level_values("patient"))]
    members = rows.groupby(["backbone", "stage"]).members.min()
    scores = {system: RepeatedScore(names, int(count), {}) for system, count in members.items()}
    confusions = weighted_confusion(labels, table.to_numpy().T, weights)
    for (backbone, stage, repeat), confusion in zip(table, confusions, strict=True):
        scores[backbone, stage].confusion[repeat] = confusion
    return scores


def _require_same_studies(table: pd.DataFrame) -> None:
    lacking = table.isna().sum()
    if lacking.any():
        backbone, stage, repeat = lacking.idxmax()
        study = table.index[table[lacking.idxmax()].isna()][0]
        raise ValueError(
            f"systems are compared on the same studies with the same labels. {backbone}, stage "
            f"{stage}, repeat {repeat} lacks {lacking.max()} of {len(table)}, the first: "
            f"{'/'.join(study[:-1])} with the label {study[-1]}. The data set changed between the "
            "runs: train them again in another folder."
        )
