"""A document's claims as checks: yes, no, or too few studies to say."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from mura_tf.backbones import BACKBONES
from mura_tf.comparison import RepeatedScore, System
from mura_tf.metrics import interval

WIDE = "interval too wide"
Scores = dict[System, dict[str, RepeatedScore]]


@dataclass(frozen=True)
class Claim:
    """A sentence of a document that a statistic decides.

    Attributes:
        text: the sentence.
        source: where it stands.
        statistic: scores -> (value, float (replicates,) under the bootstrap samples), or None
            where a system it speaks of is lacking.
        above: the sentence holds where the statistic is above this.
        measure: what the statistic is.
    """

    text: str
    source: str
    statistic: Callable[[Scores], tuple[float, np.ndarray] | None]
    above: float
    measure: str


def answer_claims(claims: tuple[Claim, ...], scores: Scores) -> pd.DataFrame:
    """`claim, answer, measure, value, low, high, above, source`, a row per claim.

    The answer is "yes" or "no" where the whole 95 % interval says so, "interval too wide" where it
    does not, and "systems lacking" where the claim speaks of what was not trained.
    """
    rows = []
    for claim in claims:
        found = claim.statistic(scores)
        if found is None:
            answer, value, low, high = "systems lacking", np.nan, np.nan, np.nan
        else:
            value, samples = found
            low, high = interval(samples)
            answer = "yes" if low > claim.above else "no" if high <= claim.above else WIDE
        facts = (claim.text, answer, claim.measure, value, low, high, claim.above, claim.source)
        rows.append(facts)
    columns = ["claim", "answer", "measure", "value", "low", "high", "above", "source"]
    return pd.DataFrame(rows, columns=columns)


def types_ahead(stage: str, other: str):
    """Share of study types in which one stage is ahead of another, with the same backbone."""

    def statistic(scores: Scores):
        backbones = [name for name, found in scores if found == stage and (name, other) in scores]
        if not backbones:
            return None
        pairs = _common(scores[backbones[0], stage], scores[backbones[0], other])
        value = np.mean([one.kappa.mean() > two.kappa.mean() for one, two in pairs])
        return value, np.mean([one.samples > two.samples for one, two in pairs], axis=0)

    return statistic


def stage_ahead(stage: str, other: str):
    """Overall kappa of one stage minus that of another, with the same backbone."""

    def statistic(scores: Scores):
        for backbone, found in scores:
            if found == stage and (backbone, other) in scores:
                return _overall_difference(scores, (backbone, stage), (backbone, other))
        return None

    return statistic


def backbone_ahead(backbone: str, other: str):
    """Overall kappa of one backbone's ensembles minus that of another's."""

    def statistic(scores: Scores):
        return _overall_difference(scores, (backbone, "type"), (other, "type"))

    return statistic


def order_by_top1(scores: Scores):
    """Kendall's tau of ImageNet top-1 accuracy and overall kappa: 1 same order, -1 reversed."""
    found = [
        (BACKBONES[backbone].top1, rows["overall"])
        for (backbone, stage), rows in scores.items()
        if stage == "type" and "overall" in rows and BACKBONES[backbone].top1
    ]
    if len(found) < 3:
        return None

    def tau(kappas):
        pairs = combinations(range(len(found)), 2)
        signs = [
            np.sign(found[i][0] - found[j][0]) * np.sign(kappas[i] - kappas[j]) for i, j in pairs
        ]
        return np.mean(signs, axis=0)

    value = tau([score.kappa.mean() for _, score in found])
    return float(value), tau([score.samples for _, score in found])


def best_in(backbones: tuple[str, ...]):
    """Share of study types whose best kappa is one of these backbones'."""

    def statistic(scores: Scores):
        systems = [system for system in scores if system[1] == "type"]
        inside = np.array([backbone in backbones for backbone, _ in systems])
        if not inside.any() or inside.all():
            return None
        types = set.intersection(*(set(scores[system]) for system in systems)) - {"overall"}
        values, samples = [], []
        for study_type in sorted(types):
            rows = [scores[system][study_type] for system in systems]
            values.append(inside[np.argmax([row.kappa.mean() for row in rows])])
            samples.append(inside[np.argmax([row.samples for row in rows], axis=0)])
        return float(np.mean(values)), np.mean(samples, axis=0)

    return statistic


def _common(one: dict, other: dict) -> list[tuple[RepeatedScore, RepeatedScore]]:
    return [(one[name], other[name]) for name in one if name in other and name != "overall"]


def _overall_difference(scores: Scores, one: System, other: System):
    if not all("overall" in scores.get(system, {}) for system in (one, other)):
        return None
    ours, theirs = scores[one]["overall"], scores[other]["overall"]
    return float(ours.kappa.mean() - theirs.kappa.mean()), ours.samples - theirs.samples
