"""Studies of several systems -> their scores over repeats, and the differences between them.

A system here is a backbone and a stage; its repeats are ensembles trained anew. All intervals come
from the same bootstrap samples of the patients of all study types, so that systems can be compared
in pairs and study types added up. They tell what other patients would change; the deviation over
the repeats tells what training anew changes.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mura_tf.evaluate import SYSTEM_KEY
from mura_tf.layouts import OVERALL, STUDY_KEY
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
        members: models per ensemble, the least where ensembles differ.
        accuracy, kappa: float (repeats,), at study level.
        samples: float (replicates,), kappa's mean over the repeats in each bootstrap sample; NaN
            where none of the studies was drawn.
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

    Raises:
        ValueError: two systems or repeats saw different studies of a type.
    """
    patients = pd.Index(np.unique(studies.patient))
    draws = np.vstack([np.ones(len(patients)), bootstrap_weights(patients, replicates, seed)])
    systems = studies[["backbone", "stage"]].drop_duplicates().itertuples(index=False, name=None)
    parts: dict[System, dict[str, _Part]] = {system: {} for system in systems}
    for study_type, rows in studies.groupby("study_type"):
        for system, part in _parts(rows, patients, draws).items():
            parts[system][study_type] = part
    scores = {}
    for system, by_type in parts.items():
        scores[system] = {name: _score([part]) for name, part in by_type.items()}
        if set(by_type) >= set(study_types) and _shared([by_type[name] for name in study_types]):
            scores[system][OVERALL] = _score([by_type[name] for name in study_types])
    return scores


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


@dataclass(frozen=True)
class _Part:
    """One system on one study type.

    Attributes:
        studies, members: of `RepeatedScore`.
        confusion: repeat -> float (1 + replicates, 2, 2): of the studies, then of the samples.
    """

    studies: tuple[str, ...]
    members: int
    confusion: dict[int, np.ndarray]


def _parts(rows: pd.DataFrame, patients: pd.Index, draws: np.ndarray) -> dict[System, _Part]:
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
    parts = {system: _Part(names, int(count), {}) for system, count in members.items()}
    confusions = weighted_confusion(labels, table.to_numpy().T, weights)
    for (backbone, stage, repeat), confusion in zip(table, confusions, strict=True):
        parts[backbone, stage].confusion[repeat] = confusion
    return parts


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


def _shared(parts: list[_Part]) -> list[int]:
    """The repeats that all parts have."""
    return sorted(set.intersection(*(set(part.confusion) for part in parts)))


def _score(parts: list[_Part]) -> RepeatedScore:
    """One system on the study types of the parts together."""
    confusion = np.array(
        [sum(part.confusion[repeat] for part in parts) for repeat in _shared(parts)]
    )
    kappa = kappa_of_confusion(confusion)
    kappa[confusion.sum(axis=(-2, -1)) == 0] = np.nan  # a sample may hold no patient of a rare type
    return RepeatedScore(
        studies=tuple(name for part in parts for name in part.studies),
        members=min(part.members for part in parts),
        accuracy=accuracy_of_confusion(confusion[:, 0]),
        kappa=kappa[:, 0],
        samples=kappa[:, 1:].mean(axis=0),
    )
