"""A document's claims as checks: yes, no, or too few studies to say."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mura_tf.evaluation.comparison import MEASURES, RepeatedScore, System, pooled
from mura_tf.evaluation.metrics import THRESHOLD, interval
from mura_tf.models.backbones import BACKBONES
from mura_tf.published import OVERALL
from mura_tf.reports.numbers import number_text

WIDE = "interval too wide"
LACKING = "systems lacking"
CANNOT_TELL = "cannot tell: "
"""What an answer begins with where a system decides the same for everything."""
Scores = dict[System, dict[str, RepeatedScore]]


class Found(NamedTuple):
    """What a statistic found.

    Attributes:
        value: of the statistic.
        samples: float (replicates,), the same under the bootstrap samples.
        compared: system -> its scores on what was compared.
        study_types: those that were compared.
    """

    value: float
    samples: np.ndarray
    compared: dict[System, RepeatedScore]
    study_types: tuple[str, ...]


Statistic = Callable[[Scores, str], Found | None]
"""(scores, measure) -> what it found, or None where a system it speaks of is lacking."""


@dataclass(frozen=True)
class Claim:
    """A sentence of a document that a statistic decides.

    Attributes:
        text: the sentence.
        source: where it stands.
        statistic: what decides it.
        above: the sentence holds where the statistic is above this.
        what: what the statistic is; "{measure}" in it becomes the measure's words, "{types}" the
            study types compared and "{count}" their number.
        measure: the document's own, of `MEASURES`; study kappa is answered beside it.
    """

    text: str
    source: str
    statistic: Statistic
    above: float = 0.0
    what: str = "difference in {measure}, {types}"
    measure: str = "kappa"


def answer_claims(
    claims: tuple[Claim, ...], scores: Scores, titles: Mapping[System, str]
) -> pd.DataFrame:
    """A row per claim and measure: the document's own first, then kappa of studies, if another.

    Where a system compared decides the same for every study, or every view where these are counted,
    neither "yes" nor "no" would be one to its question; the AUROC of studies has a third row then.

    Args:
        claims: of a document.
        scores: of `repeated_scores`, with views where a claim's measure is of views.
        titles: what the systems are called.

    Returns:
        `claim, answer, measure, what, value, low, high, above, source, why`. The answer is "yes" or
        "no" where the whole 95 % interval says so, `WIDE` where it does not, `LACKING` where the
        claim speaks of what was not trained, and begins with `CANNOT_TELL` where systems are
        constant. `why`, of a claim's first row, tells why two measures disagree, if they do.
    """
    rows = []
    for claim in claims:
        answered = [_answered(claim, scores, claim.measure, titles)]
        if claim.measure != "kappa" and answered[0]["answer"] != LACKING:
            answered.append(_answered(claim, scores, "kappa", titles))
        if any(row["answer"].startswith(CANNOT_TELL) for row in answered):
            answered.append(_answered(claim, scores, "auroc", titles))
        answered[0]["why"] = _why_they_disagree(claim, scores, titles)
        rows += answered
    columns = ["claim", "answer", "measure", "what", "value", "low", "high", "above", "source"]
    return pd.DataFrame(rows, columns=[*columns, "why"]).fillna({"why": ""})


def _answered(
    claim: Claim, scores: Scores, measure: str, titles: Mapping[System, str]
) -> dict[str, Any]:
    """A row of `answer_claims`."""
    found = claim.statistic(scores, measure)
    if found is None:
        answer, value, low, high = LACKING, np.nan, np.nan, np.nan
        types: tuple[str, ...] = ()
    else:
        value, (low, high), types = found.value, interval(found.samples), found.study_types
        answer = "yes" if low > claim.above else "no" if high <= claim.above else WIDE
        answer = _constants(found.compared, measure, titles) or answer
    what = claim.what.format(
        measure=MEASURES[measure], types=_types_text(types), count=len(types)
    ).removesuffix(", ")
    return {
        "claim": claim.text,
        "answer": answer,
        "measure": measure,
        "what": what,
        "value": value,
        "low": low,
        "high": high,
        "above": claim.above,
        "source": claim.source,
    }


def _types_text(types: tuple[str, ...]) -> str:
    if len(types) > 3:
        return f"{len(types)} study types"
    return " and ".join(types)


def _constants(
    compared: dict[System, RepeatedScore], measure: str, titles: Mapping[System, str]
) -> str:
    """The answer where systems decide the same for everything; "" where none does."""
    by_how: dict[str, list[System]] = {}
    for system, score in compared.items():
        if how := score.constant(measure):
            by_how.setdefault(how, []).append(system)
    if not by_how:
        return ""
    parts = []
    for how, systems in by_how.items():
        if len(systems) == len(compared) > 1:
            names = "both" if len(systems) == 2 else "all"
        else:
            names = " and ".join(titles[system] for system in systems)
        parts.append(f"{names} {'is' if len(systems) == 1 else 'are'} {how}")
    return CANNOT_TELL + "; ".join(parts)


def _why_they_disagree(claim: Claim, scores: Scores, titles: Mapping[System, str]) -> str:
    """Why kappa lies on the other side of `above` than the claim's measure; "" where it does not.

    Between the two stand other measures; each differs from the one before in one thing, and the
    first that changes sides tells which.
    """
    if claim.measure == "kappa":
        return ""
    steps = list(MEASURES)
    steps = steps[steps.index(claim.measure) : steps.index("kappa") + 1]
    asked = [claim.statistic(scores, measure) for measure in steps]
    found = [one for one in asked if one is not None]
    if not found or len(found[0].compared) != 2:
        return ""
    holds = [one.value > claim.above for one in found]
    if holds[0] == holds[-1]:
        return ""
    (first, step), value = next(
        (pair, one.value)
        for pair, one, before, now in zip(pairwise(steps), found[1:], holds, holds[1:], strict=True)
        if before != now
    )
    sentence = (
        f"{claim.text}: {number_text(found[0].value, '+.3f')} in {MEASURES[steps[0]]} and "
        f"{number_text(found[-1].value, '+.3f')} in kappa of studies. "
    )
    if first == "class_accuracy":
        return sentence + (
            "Over classes a view must also get its study type right; told normal or abnormal "
            f"alone, the difference in accuracy is {number_text(value, '+.3f')}."
        )
    if step == "accuracy":
        return sentence + (
            "A study's probability is the mean of its views'; in accuracy of studies the "
            f"difference is {number_text(value, '+.3f')}."
        )
    return sentence + _prevalence(found[-1].compared, titles)


def _prevalence(compared: dict[System, RepeatedScore], titles: Mapping[System, str]) -> str:
    """What tells accuracy from kappa: how many are abnormal, and are called so."""
    labels = next(iter(compared.values())).studies.index.get_level_values("label")
    abnormal = np.mean(labels.to_numpy())
    word, share = ("abnormal", abnormal) if abnormal > THRESHOLD else ("normal", 1 - abnormal)
    called = " and ".join(
        f"{titles[system]} {(score.studies.to_numpy() > THRESHOLD).mean():.0%}"
        for system, score in compared.items()
    )
    return (
        f"Prevalence: {share:.0%} of the {len(labels):,} studies are {word}, so accuracy rewards "
        "calling most of them that, whatever they are, and kappa takes off what such calls get "
        f"right by chance. Called abnormal: by {called}; {abnormal:.0%} are."
    )


# ------------------------------------------------------------------------------------------------
# Statistics


def types_ahead(stage: str, other: str) -> Statistic:
    """Share of study types in which one stage is ahead of another, with the same backbones.

    Of backbones that have all study types in both stages.
    """

    def statistic(scores: Scores, measure: str) -> Found | None:
        with_all = _stages(scores, stage, other)
        pairs = [
            (one[name], two[name])
            for one, two in (with_all[backbone] for backbone in with_all)
            for name in one
            if name in two and name != OVERALL
        ]
        if not pairs:
            return None
        ours, theirs = (
            [score.values(measure).mean() for score in side] for side in zip(*pairs, strict=True)
        )
        ahead = [
            np.heaviside(one.samples(measure) - two.samples(measure), 0) for one, two in pairs
        ]  # NaN stays NaN
        value = float(np.mean(np.greater(ours, theirs)))
        compared = _overall(scores, with_all, stage, other)
        return _found(value, np.nanmean(ahead, axis=0), compared, scores)

    return statistic


def stage_ahead(stage: str, other: str) -> Statistic:
    """Overall score of one stage minus that of another, the mean over backbones that have both."""

    def statistic(scores: Scores, measure: str) -> Found | None:
        with_all = _stages(scores, stage, other)
        if not with_all:
            return None
        pairs = [(one[OVERALL], two[OVERALL]) for one, two in with_all.values()]
        value = np.mean(
            [one.values(measure).mean() - two.values(measure).mean() for one, two in pairs]
        )
        samples = np.mean([one.samples(measure) - two.samples(measure) for one, two in pairs], 0)
        return _found(value, samples, _overall(scores, with_all, stage, other), scores)

    return statistic


def backbones_ahead(group: tuple[str, ...], other: str) -> Statistic:
    """The least overall score of a group's ensembles minus that of another backbone's."""

    def statistic(scores: Scores, measure: str) -> Found | None:
        systems = [(name, "type") for name in (*group, other)]
        if not all(OVERALL in scores.get(system, {}) for system in systems):
            return None
        compared = {system: scores[system][OVERALL] for system in systems}
        *ours, theirs = compared.values()
        value = min(one.values(measure).mean() for one in ours) - theirs.values(measure).mean()
        least = np.min([one.samples(measure) for one in ours], axis=0)
        return _found(value, least - theirs.samples(measure), compared, scores)

    return statistic


def highest_in_types(*group: str) -> Statistic:
    """Share of study types whose highest score, of all two-stage backbones, one of a group has.

    Only where all of them have all study types.
    """

    def statistic(scores: Scores, measure: str) -> Found | None:
        rows = {backbone: rows for (backbone, stage), rows in scores.items() if stage == "type"}
        others = set(rows) - set(group)
        if not rows.keys() >= set(group) or not others:
            return None
        if not all(OVERALL in of_system for of_system in rows.values()):
            return None
        types = set.intersection(*map(set, rows.values())) - {OVERALL}

        def share(scores_of: Callable[[RepeatedScore], np.ndarray]) -> np.ndarray:
            def best(systems: Iterable[str]) -> np.ndarray:
                of_types = [[scores_of(rows[one][name]) for one in systems] for name in types]
                return np.max(of_types, axis=1)

            ours, theirs = best(group), best(others)
            # an equal best is the group's, too, but not of those that learnt nothing; NaN stays NaN
            return np.nanmean(np.heaviside(ours - theirs, ours > 0), axis=0)

        value = share(lambda score: score.values(measure).mean())
        samples = share(lambda score: score.samples(measure))
        compared = {(name, "type"): of_system[OVERALL] for name, of_system in rows.items()}
        return _found(value, samples, compared, scores)

    return statistic


def system_ahead(name: str, other: str, only: str | None = None) -> Statistic:
    """Score of one of a document's systems minus that of another, on the study types of both.

    Args:
        name, other: of the systems.
        only: a study type that is compared alone where both have it.
    """

    def statistic(scores: Scores, measure: str) -> Found | None:
        rows = {system[0]: (system, rows) for system, rows in scores.items()}
        if name not in rows or other not in rows:
            return None
        shared = sorted((rows[name][1].keys() & rows[other][1].keys()) - {OVERALL})
        if only in shared:
            shared = [only]
        if not shared:
            return None
        compared = {
            system: pooled([of_system[each] for each in shared])
            for system, of_system in (rows[name], rows[other])
        }
        one, two = compared.values()
        value = one.values(measure).mean() - two.values(measure).mean()
        samples = one.samples(measure) - two.samples(measure)
        return Found(float(value), samples, compared, tuple(shared))

    return statistic


def order_by_top1(scores: Scores, measure: str) -> Found | None:
    """Kendall's tau of ImageNet top-1 accuracy and overall score: 1 same order, -1 reversed."""
    ranked = [
        (system, accuracy)
        for system, rows in scores.items()
        if system[1] == "type" and OVERALL in rows and (accuracy := BACKBONES[system[0]].top1)
    ]
    if len(ranked) < 3:
        return None
    compared = {system: scores[system][OVERALL] for system, _ in ranked}
    top1 = [accuracy for _, accuracy in ranked]

    def tau(values: list[np.ndarray]) -> np.ndarray:
        pairs = combinations(range(len(top1)), 2)
        signs = [np.sign(top1[i] - top1[j]) * np.sign(values[i] - values[j]) for i, j in pairs]
        return np.mean(signs, axis=0)

    value = tau([score.values(measure).mean() for score in compared.values()])
    samples = tau([score.samples(measure) for score in compared.values()])
    return _found(value, samples, compared, scores)


def _found(
    value: float | np.ndarray,
    samples: np.ndarray,
    compared: dict[System, RepeatedScore],
    scores: Scores,
) -> Found:
    """Of a statistic over all study types."""
    types = {name for rows in scores.values() for name in rows} - {OVERALL}
    return Found(float(value), samples, compared, tuple(sorted(types)))


def _stages(
    scores: Scores, stage: str, other: str
) -> dict[str, tuple[dict[str, RepeatedScore], dict[str, RepeatedScore]]]:
    """Backbone -> the scores of two stages, where both have all study types."""
    return {
        backbone: (rows, scores[backbone, other])
        for (backbone, found), rows in scores.items()
        if found == stage and OVERALL in rows and OVERALL in scores.get((backbone, other), {})
    }


def _overall(scores: Scores, backbones: Iterable[str], *stages: str) -> dict[System, RepeatedScore]:
    systems = [(backbone, stage) for backbone in backbones for stage in stages]
    return {system: scores[system][OVERALL] for system in systems}
