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

from mura_tf.data.table import STUDY_KEY, VIEW_KEY
from mura_tf.data.tasks import class_of
from mura_tf.evaluation.metrics import (
    THRESHOLD,
    accuracy_of_confusion,
    bootstrap_weights,
    interval,
    kappa_of_confusion,
    weighted_auroc,
    weighted_confusion,
)
from mura_tf.evaluation.predictions import CLASS_PREFIX
from mura_tf.evaluation.scores import SYSTEM_KEY, require_labels, view_probabilities
from mura_tf.published import OVERALL

System = tuple[str, str]
"""(backbone, stage)"""
MEASURES = {
    "class_accuracy": "accuracy of views over their classes",
    "view_accuracy": "accuracy of views",
    "accuracy": "accuracy of studies",
    "kappa": "kappa of studies",
    "auroc": "AUROC of studies",
}
"""What `RepeatedScore` can tell, in words. All but the AUROC are of decisions: abnormal above 0.5,
or the most probable class."""


@dataclass(frozen=True)
class Bootstrap:
    """Samples of patients, which all systems share.

    Attributes:
        patients: (p,), of all study types.
        draws: float (1 + replicates, p), how often each counts: once, then as often as drawn.
    """

    patients: pd.Index
    draws: np.ndarray

    def weights(self, rows: pd.MultiIndex) -> np.ndarray:
        """float (1 + replicates, n), how often each row counts that names its patient; of rows of
        one patient, NaN in the samples."""
        places = self.patients.get_indexer(rows.get_level_values("patient"))
        weights = self.draws[:, places]
        if len(np.unique(places)) == 1:
            weights[1:] = np.nan
        return weights


@dataclass(frozen=True)
class RepeatedScore:
    """One system on the studies of one study type, or of several together.

    Attributes:
        studies: float (n, repeats), the probability of each study; the index names it and its
            `label`.
        views: float (m, repeats), the probability of each view; the index names it, its `label` and
            its `true_class`, a study type and label. None where none were given.
        decided: text (m, repeats), the class that each view is decided for; None without views.
        members: models per ensemble, the least where ensembles differ.
        bootstrap: of all systems.
    """

    studies: pd.DataFrame
    views: pd.DataFrame | None
    decided: pd.DataFrame | None
    members: int
    bootstrap: Bootstrap

    @property
    def view_count(self) -> int:
        """How many views there are; 0 where none were given."""
        return 0 if self.views is None else len(self.views)

    def values(self, measure: str) -> np.ndarray:
        """float (repeats,), of `MEASURES`."""
        return self._scores(measure)[:, 0]

    def samples(self, measure: str) -> np.ndarray:
        """float (replicates,), the mean over the repeats in each bootstrap sample; NaN where no row
        was drawn."""
        return self._scores(measure)[:, 1:].mean(axis=0)

    def interval(self, measure: str) -> tuple[float, float]:
        """95 % bootstrap interval of the mean over the repeats."""
        return interval(self.samples(measure))

    def constant(self, measure: str) -> str:
        """How the decisions behind a measure are all the same, in words; "" where they are not."""
        if measure == "auroc":
            return ""
        if measure == "class_accuracy":
            return "constant" if _alike(self._of_views[1]) else ""
        abnormal = (self._of_views[0] if measure == "view_accuracy" else self.studies) > THRESHOLD
        if _alike(abnormal):
            return f"constant at {THRESHOLD}"
        if all(_alike(rows) for _, rows in abnormal.groupby(level="study_type")):
            return f"constant at {THRESHOLD} in each study type"
        return ""

    def _scores(self, measure: str) -> np.ndarray:
        """float (repeats, 1 + replicates): of the rows, then of the bootstrap samples."""
        if measure == "kappa":
            kappas = kappa_of_confusion(self._confusion)
            kappas[self._confusion.sum(axis=(-2, -1)) == 0] = np.nan
            return kappas
        if measure == "accuracy":
            return accuracy_of_confusion(self._confusion)
        if measure == "auroc":
            weights = self.bootstrap.weights(self.studies.index)
            labels = self.studies.index.get_level_values("label")
            repeats = self.studies.to_numpy().T
            return np.array([weighted_auroc(labels, one, weights) for one in repeats])
        views, decided = self._of_views
        index = views.index
        if measure == "view_accuracy":
            labels = index.get_level_values("label").to_numpy(bool)[:, None]
            right = (views.to_numpy() > THRESHOLD) == labels
        else:
            classes = index.get_level_values("true_class").to_numpy()[:, None]
            right = decided.to_numpy() == classes
        weights = self.bootstrap.weights(index)
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
            return right.T.astype(float) @ weights.T / weights.sum(axis=1)

    @property
    def _of_views(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """`views` and `decided`, or a ValueError where none were given."""
        if self.views is None or self.decided is None:
            raise ValueError("a measure of views needs views. Received: studies alone.")
        return self.views, self.decided

    @cached_property
    def _confusion(self) -> np.ndarray:
        """float (repeats, 1 + replicates, 2, 2), of the studies."""
        labels = self.studies.index.get_level_values("label")
        weights = self.bootstrap.weights(self.studies.index)
        return weighted_confusion(labels, self.studies.to_numpy().T, weights)


def decided_views(predictions: pd.DataFrame) -> pd.DataFrame:
    """What the members of a system together decide for each view.

    Args:
        predictions: predictions table of one system (backbone, stage, repeat).

    Returns:
        A row per view: its key, `label`, `path`, the `SYSTEM_KEY`, `probability`, `true_class` (a
        study type and label), `decided`, the most probable class, or without classes abnormal above
        0.5, and `share`, the probability of what is decided.
    """
    views = view_probabilities(predictions)
    views = views.assign(**predictions.iloc[0][SYSTEM_KEY])
    views["true_class"] = class_of(views, "type_and_abnormality")
    columns = [name for name in predictions if name.startswith(CLASS_PREFIX)]
    if columns:
        means = predictions.groupby(VIEW_KEY, sort=False)[columns].mean()
        views["decided"] = means.idxmax(axis=1).str.removeprefix(CLASS_PREFIX).to_numpy()
        views["share"] = means.max(axis=1).to_numpy()
    else:
        called = views.assign(label=(views.probability > THRESHOLD).astype(int))
        views["decided"] = class_of(called, "type_and_abnormality")
        views["share"] = views.probability.where(called.label == 1, 1 - views.probability)
    columns = [*VIEW_KEY, "label", "path", *SYSTEM_KEY, "probability"]
    return views[[*columns, "true_class", "decided", "share"]]


def repeated_scores(
    studies: pd.DataFrame,
    study_types: list[str],
    views: pd.DataFrame | None = None,
    *,
    replicates: int = 2000,
    seed: int = 0,
) -> dict[System, dict[str, RepeatedScore]]:
    """Scores every system on each study type and, where it has all of them, "overall".

    Args:
        studies: table of `study_probabilities`: systems with any number of repeats, on one split.
        study_types: what "overall" consists of.
        views: tables of `decided_views` of the same systems, one below the other, for the measures
            that are of views.
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
    drawn = bootstrap_weights(patients, replicates, seed)
    bootstrap = Bootstrap(patients, np.vstack([np.ones(len(patients)), drawn]))
    systems = studies[["backbone", "stage"]].drop_duplicates().itertuples(index=False, name=None)
    scores: dict[System, dict[str, RepeatedScore]] = {system: {} for system in systems}
    for study_type, rows in studies.groupby("study_type"):
        of_views = None if views is None else views[views.study_type == study_type]
        for system, score in _scores(rows, of_views, bootstrap).items():
            scores[system][study_type] = score
    for by_type in scores.values():
        if set(by_type) >= set(study_types):
            overall = pooled([by_type[name] for name in study_types])
            if len(overall.studies.columns):
                by_type[OVERALL] = overall
    return scores


def pooled(scores: list[RepeatedScore]) -> RepeatedScore:
    """One system on several study types together, in the repeats that have all of them."""

    def together(name: str) -> pd.DataFrame | None:
        tables = [getattr(score, name) for score in scores]
        return None if tables[0] is None else pd.concat(tables, join="inner")

    return RepeatedScore(
        studies=together("studies"),
        views=together("views"),
        decided=together("decided"),
        members=min(score.members for score in scores),
        bootstrap=scores[0].bootstrap,
    )


def difference(
    one: RepeatedScore, other: RepeatedScore, measure: str = "kappa"
) -> tuple[float, float, float]:
    """The mean of `one` minus that of `other`, with a paired 95 % bootstrap interval.

    Args:
        one, other: of one `repeated_scores`, so that their samples are in pairs.
        measure: of `MEASURES`.

    Returns:
        (difference, low, high); positive where `one` is better.

    Raises:
        ValueError: they were not scored on the same studies.
    """
    index, others = one.studies.index, other.studies.index
    if not index.equals(others):
        raise ValueError(
            f"a paired comparison needs the same studies. Received: {len(index)} and "
            f"{len(others)}, {len(index.intersection(others))} of them shared."
        )
    low, high = interval(one.samples(measure) - other.samples(measure))
    return float(one.values(measure).mean() - other.values(measure).mean()), low, high


def _scores(
    studies: pd.DataFrame, views: pd.DataFrame | None, bootstrap: Bootstrap
) -> dict[System, RepeatedScore]:
    """Every system on one study type; see `repeated_scores`."""
    by_study = _by_system(studies, "probability", [*STUDY_KEY, "label"])
    by_view, decided = None, None
    if views is not None:
        key = [*VIEW_KEY, "label", "true_class"]
        by_view = _by_system(views, "probability", key)
        decided = _by_system(views, "decided", key)
    members = studies.groupby(["backbone", "stage"]).members.min()
    return {
        system: RepeatedScore(
            by_study[system],
            None if by_view is None else by_view[system],
            None if decided is None else decided[system],
            int(count),
            bootstrap,
        )
        for system, count in members.items()
    }


def _alike(decisions: pd.DataFrame) -> bool:
    """Whether each repeat decides the same for all rows."""
    return bool((decisions == decisions.iloc[0]).all(axis=None))


def _by_system(rows: pd.DataFrame, column: str, key: list[str]) -> pd.DataFrame:
    """A row per study or view, a column per system and repeat; all saw the same."""
    table = rows.set_index([*key, *SYSTEM_KEY])[column].unstack(SYSTEM_KEY)  # noqa: PD010
    table = table.sort_index(axis=1)
    lacking = table.isna().sum()
    if lacking.any():
        backbone, stage, repeat = lacking.idxmax()
        label = table.index.names.index("label")
        *study, last = table.index[table[lacking.idxmax()].isna()][0][: label + 1]
        raise ValueError(
            f"systems are compared on the same studies with the same labels. {backbone}, stage "
            f"{stage}, repeat {repeat} lacks {lacking.max()} of {len(table)}, the first: "
            f"{'/'.join(study)} with the label {last}. The data set changed between the "
            "runs: train them again in another folder."
        )
    return table
