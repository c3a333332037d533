"""A document's claims as checks: yes, no, or too few studies to say."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from mura_tf.evaluation.comparison import RepeatedScore, System, pooled
from mura_tf.evaluation.metrics import interval
from mura_tf.models.backbones import BACKBONES
from mura_tf.published import OVERALL

WIDE = "interval too wide"
Scores = dict[System, dict[str, RepeatedScore]]
Statistic = Callable[[Scores], tuple[float, np.ndarray] | None]
"""Scores -> (value, float (replicates,) under the bootstrap samples), or None where a system it
speaks of is lacking."""


@dataclass(frozen=True)
class Claim:
    """A sentence of a document that a statistic decides.

    Attributes:
        text: the sentence.
        source: where it stands.
        statistic: what decides it.
        above: the sentence holds where the statistic is above this.
        measure: what the statistic is; "{types}" in it becomes the number of study types.
    """

    text: str
    source: str
    statistic: Statistic
    above: float
    measure: str


def answer_claims(claims: tuple[Claim, ...], scores: Scores) -> pd.DataFrame:
    """`claim, answer, measure, value, low, high, above, source`, a row per claim.

    The answer is "yes" or "no" where the whole 95 % interval says so, "interval too wide" where it
    does not, and "systems lacking" where the claim speaks of what was not trained.
    """
    rows = []
    types = {name for of_system in scores.values() for name in of_system} - {OVERALL}
    for claim in claims:
        measure = claim.measure.format(types=len(types))
        found = claim.statistic(scores)
        if found is None:
            answer, value, low, high = "systems lacking", np.nan, np.nan, np.nan
        else:
            value, samples = found
            low, high = interval(samples)
            answer = "yes" if low > claim.above else "no" if high <= claim.above else WIDE
        facts = (claim.text, answer, measure, value, low, high, claim.above, claim.source)
        rows.append(facts)
    columns = ["claim", "answer", "measure", "value", "low", "high", "above", "source"]
    return pd.DataFrame(rows, columns=columns)


def types_ahead(stage: str, other: str) -> Statistic:
    """Share of study types in which one stage is ahead of another, with the same backbones.

    Of backbones that have all study types in both stages.
    """

    def statistic(scores: Scores) -> tuple[float, np.ndarray] | None:
        pairs = [
            (one[name], two[name])
            for one, two in _stages(scores, stage, other)
            if OVERALL in one and OVERALL in two
            for name in one
            if name in two and name != OVERALL
        ]
        if not pairs:
            return None
        value = np.mean([one.kappa.mean() > two.kappa.mean() for one, two in pairs])
        ahead = [np.heaviside(one.samples - two.samples, 0) for one, two in pairs]  # NaN stays NaN
        return float(value), np.nanmean(ahead, axis=0)

    return statistic


def stage_ahead(stage: str, other: str) -> Statistic:
    """Overall kappa of one stage minus that of another, the mean over backbones that have both."""

    def statistic(scores: Scores) -> tuple[float, np.ndarray] | None:
        pairs = [
            (one[OVERALL], two[OVERALL])
            for one, two in _stages(scores, stage, other)
            if OVERALL in one and OVERALL in two
        ]
        if not pairs:
            return None
        value = np.mean([one.kappa.mean() - two.kappa.mean() for one, two in pairs])
        return float(value), np.mean([one.samples - two.samples for one, two in pairs], axis=0)

    return statistic


def backbone_ahead(backbone: str, other: str) -> Statistic:
    """Overall kappa of one backbone's ensembles minus that of another's."""
    return backbones_ahead((backbone,), other)


def backbones_ahead(group: tuple[str, ...], other: str) -> Statistic:
    """The least overall kappa of a group's ensembles minus that of another backbone's."""

    def statistic(scores: Scores) -> tuple[float, np.ndarray] | None:
        if not all(OVERALL in scores.get((name, "type"), {}) for name in (*group, other)):
            return None
        *ours, theirs = (scores[name, "type"][OVERALL] for name in (*group, other))
        value = min(one.kappa.mean() for one in ours) - theirs.kappa.mean()
        return float(value), np.min([one.samples for one in ours], axis=0) - theirs.samples

    return statistic


def highest_in_types(*group: str) -> Statistic:
    """Share of study types whose highest kappa, of all two-stage backbones, one of a group has.

    Only where all of them have all study types.
    """

    def statistic(scores: Scores) -> tuple[float, np.ndarray] | None:
        rows = {backbone: rows for (backbone, stage), rows in scores.items() if stage == "type"}
        others = set(rows) - set(group)
        if not rows.keys() >= set(group) or not others:
            return None
        if not all(OVERALL in of_system for of_system in rows.values()):
            return None
        types = set.intersection(*map(set, rows.values())) - {OVERALL}

        def share(kappas_of: Callable[[RepeatedScore], np.ndarray]) -> np.ndarray:
            def best(systems: Iterable[str]) -> np.ndarray:
                of_types = [[kappas_of(rows[one][name]) for one in systems] for name in types]
                return np.max(of_types, axis=1)

            ours, theirs = best(group), best(others)
            # an equal best is the group's, too, but not of those that learnt nothing; NaN stays NaN
            return np.nanmean(np.heaviside(ours - theirs, ours > 0), axis=0)

        value = share(lambda score: score.kappa.mean())
        return float(value), share(lambda score: score.samples)

    return statistic


def system_ahead(name: str, other: str) -> Statistic:
    """Kappa of one of a document's systems minus that of another, on the study types of both."""

    def statistic(scores: Scores) -> tuple[float, np.ndarray] | None:
        rows = {system: rows for (system, _), rows in scores.items()}
        shared = sorted((rows.get(name, {}).keys() & rows.get(other, {}).keys()) - {OVERALL})
        if not shared:
            return None
        one, two = (pooled([rows[system][each] for each in shared]) for system in (name, other))
        return float(one.kappa.mean() - two.kappa.mean()), one.samples - two.samples

    return statistic


def order_by_top1(scores: Scores) -> tuple[float, np.ndarray] | None:
    """Kendall's tau of ImageNet top-1 accuracy and overall kappa: 1 same order, -1 reversed."""
    found = [
        (top1, rows[OVERALL])
        for (backbone, stage), rows in scores.items()
        if stage == "type" and OVERALL in rows and (top1 := BACKBONES[backbone].top1)
    ]
    if len(found) < 3:
        return None

    def tau(kappas: list[np.ndarray]) -> np.ndarray:
        pairs = combinations(range(len(found)), 2)
        signs = [
            np.sign(found[i][0] - found[j][0]) * np.sign(kappas[i] - kappas[j]) for i, j in pairs
        ]
        return np.mean(signs, axis=0)

    value = tau([score.kappa.mean() for _, score in found])
    return float(value), tau([score.samples for _, score in found])


def _stages(
    scores: Scores, stage: str, other: str
) -> list[tuple[dict[str, RepeatedScore], dict[str, RepeatedScore]]]:
    """The scores of two stages, of each backbone that has both."""
    return [
        (rows, scores[backbone, other])
        for (backbone, found), rows in scores.items()
        if found == stage and (backbone, other) in scores
    ]
