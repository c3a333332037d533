"""The finished runs of one system as one: what they say of each view, and where they looked."""

import difflib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mura_tf.data.cache import prepare
from mura_tf.data.table import STUDY_KEY, VIEW_KEY, unsplit_key
from mura_tf.data.tasks import ABNORMAL
from mura_tf.data.views import load_views
from mura_tf.evaluation.comparison import decided_views
from mura_tf.evaluation.metrics import THRESHOLD
from mura_tf.evaluation.scores import view_probabilities
from mura_tf.models.backend import require_backend
from mura_tf.terminal import waiting
from mura_tf.training.run import Run, RunFolders
from mura_tf.training.systems import systems_of, the_first

ORDERS = {
    "wrong": "the wrong decisions, the worst first",
    "confident": "the surest first, right or wrong",
    "disagreement": "those the members disagree about most first",
    "pairs": "a right and a wrong decision in turn, the surest first",
}
OF = ("abnormal", "predicted")
"""What of a model with classes is explained: abnormality of the view's own study type, or the class
that the view is taken for."""


class Ensemble:
    """The members of one system, which may have models per study type.

    Args:
        run_dirs: folders of finished runs. Of several systems on `data` the one that a report opens
            with is taken: fine-tuned per study type, then the one with the most members; a warning
            names others that are as good.
        data: the data set of the runs, where it lies now, see `load_views`.
        cache_dir: see `prepare`.
        of: of models with classes, what is explained: "abnormal", the abnormal class of the view's
            study type; "predicted", the class that the view is taken for.
        progress: whether to show a progress bar.

    Attributes:
        runs: the members.
        name: of the system, for titles.
        data_views: all of the data set.
        views: `view_probabilities` of what they predicted, so of nothing they were trained on,
            with `path` as it is now; of members with classes also `true_class`, `decided` and
            `share`, see `decided_views`.
        split: the reported one.
        of: what is explained.

    Raises:
        ValueError: runs that are not finished or damaged, or that predict no abnormality; a data
            set that lacks their views; what `require_backend` refuses.
        FileNotFoundError: no data set, or a run without predictions.

    Examples:
        >>> folders = [path.parent for path in Path("demo/small_cnn").rglob("run.json")]
        >>> ensemble = mt.Ensemble(folders, "demo/MURA-v1.1")
        >>> ensemble.name, ensemble.split, len(ensemble.members("wrist"))
        ('small_cnn, fine-tuned per study type', 'valid', 2)
        >>> study = ensemble.top("confident", 1)[0]
        >>> len(ensemble.heatmaps(study)) == len(study)
        True
    """

    def __init__(
        self,
        run_dirs: RunFolders,
        data: str | os.PathLike[str],
        cache_dir: str | os.PathLike[str] | None = None,
        *,
        of: str = "abnormal",
        progress: bool = False,
    ):
        require_backend()
        if of not in OF:
            raise ValueError(f"of must be one of {', '.join(OF)}. Received: {of!r}.")
        systems = systems_of(run_dirs)
        self.data_views = load_views(data, progress=progress)
        of_data = [one for one in systems if not _lacking(self.data_views, one.predictions).any()]
        system = the_first(of_data or systems)
        chosen, self.runs, self.name = system.predictions, system.runs, system.name
        if chosen.probability.isna().any():
            raise ValueError(
                f"{self.name} says nothing about abnormality: its task is "
                f"{self.runs[0].recipe.task!r}. Expected runs with another task. One map of a "
                "class is mura_tf.cam(run, images, 'elbow')."
            )
        recipe = system.recipe
        self.side, self._resize = recipe.side, recipe.resize
        self.preprocessing = recipe.preprocessing_mode
        views = view_probabilities(chosen)
        if self.runs[0].info.get("classes"):
            told = decided_views(chosen)[[*VIEW_KEY, "true_class", "decided", "share"]]
            views = views.merge(told, on=VIEW_KEY)
        elif of == "predicted":
            raise ValueError(
                f"{self.name} has one output, abnormality, and no classes to explain the predicted "
                "one of. Leave it out."
            )
        self.views = _with_paths_of(self.data_views, views, data)
        self.of = of
        self.split = system.split
        self._cache_dir = cache_dir

    @cached_property
    def reported(self) -> pd.DataFrame:
        """The views of the reported split."""
        return self.views[self.views.split == self.split].reset_index(drop=True)

    def members(self, study_type: str) -> list[Run]:
        """The runs that were trained on a study type."""
        return [
            run
            for run in self.runs
            if run.recipe.study_types is None or study_type in run.recipe.study_types
        ]

    def inputs(self, views: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """What the members are given: images float32 (n, S, S, 3) and frames int (n, 4).

        A frame is where the radiograph lies in its square, see `padded_box`.

        Raises:
            ValueError: a file is not the one that the members predicted.
        """
        from mura_tf.data.pipeline import looked_up, preprocessing_table

        prepared = prepare(views, self.side, self._cache_dir, resize=self._resize)
        for study_type in views.study_type.unique():
            rows = (views.study_type == study_type).to_numpy()
            for run in self.members(study_type):
                run.require_pictures(views[rows], prepared.digests[rows])
        images = looked_up(prepared.images[prepared.rows], preprocessing_table(self.preprocessing))
        return images, prepared.frames

    def groups(self, views: pd.DataFrame) -> Iterator[tuple[np.ndarray, list[Run], int | None]]:
        """The views by what is explained: their rows, the members for them, and the class.

        The class is the number of the one that means an abnormal view of that type, or of the one
        decided for; None for members without classes.
        """
        views = views.reset_index(drop=True)
        explained = ABNORMAL + views.study_type if self.of == "abnormal" else views.decided
        for (study_type, name), rows in views.groupby(["study_type", explained.rename("")]):
            members = self.members(study_type)
            classes = members[0].info.get("classes")
            yield rows.index.to_numpy(), members, classes.index(name) if classes else None

    def heatmaps(
        self,
        views: pd.DataFrame,
        method: str = "cam",
        layer: str | None = None,
        *,
        progress: bool = False,
    ) -> np.ndarray:
        """Where the members looked for what is explained: float32 (n, S, S), in [0, 1].

        Args:
            views: rows of `views`.
            method, layer: see `explain.heatmaps`.
            progress: whether to show a progress bar.
        """
        from mura_tf.explain.heatmaps import heatmaps, model_of

        images, frames = self.inputs(views)
        heat = np.zeros(images.shape[:3], np.float32)
        groups = list(self.groups(views))
        models = sum(len(members) for _, members, _ in groups)
        with waiting("Explaining", models, shown=progress) as step:
            for rows, members, of_class in groups:
                maps = []
                for member in members:
                    maps.append(
                        heatmaps(
                            model_of(member),
                            images[rows],
                            method,
                            of_class,
                            layer=layer,
                            frames=frames[rows],
                        )
                    )
                    step()
                heat[rows] = np.mean(maps, axis=0)
        return heat

    def study(self, key: str) -> pd.DataFrame:
        """The views of one study.

        Args:
            key: "split/study_type/patient/study", or the end of it as far as only one study has it;
                the study's folder will do as well.

        Raises:
            ValueError: no such study, or several.
        """
        keys = self.views[STUDY_KEY].agg("/".join, axis=1)
        folders = self.views.path.map(lambda path: os.path.dirname(os.path.abspath(path)))
        folder = os.sep + os.path.normpath(key).strip(os.sep)
        asked = "/" + key.strip("/")
        found = keys[("/" + keys).str.endswith(asked) | folders.str.endswith(folder)]
        named = list(dict.fromkeys(found))
        if len(named) != 1:
            near = named[:3] or difflib.get_close_matches(key, set(keys), n=3, cutoff=0)
            raise ValueError(
                "a study is named split/study_type/patient/study, and must be one the runs "
                f"predicted, not trained on. Received: {key!r}, which names {len(named)}. Such as: "
                f"{', '.join(near)}."
            )
        return self.views[keys == named[0]].reset_index(drop=True)

    def top(self, order: str, count: int) -> list[pd.DataFrame]:
        """The views of each of the first studies of the reported split.

        Args:
            order: a key of `ORDERS`.
            count: of studies, at most.

        Raises:
            ValueError: an unknown order, or disagreement of one member.
        """
        require_order(order)
        views = self.reported
        probability = views.probability_study
        if order == "wrong":  # which nothing is whose label is unknown
            views = views[views.label.isin([0, 1])]
            views = views[(views.probability_study > THRESHOLD) != views.label]
            rank = (probability - views.label).abs()
        elif order == "confident":
            rank = (probability - THRESHOLD).abs()
        elif order == "pairs":
            rank = -_turns(views)
        else:
            if len({run.recipe.member for run in self.runs}) < 2:
                raise ValueError(
                    "the order 'disagreement' needs two members or more. Received: one. Name more "
                    "run folders, or use another order."
                )
            rank = views.disagreement
        views = views.assign(rank=rank)
        ranked = views.sort_values("rank", ascending=False, kind="stable").drop(columns="rank")
        studies = [rows.reset_index(drop=True) for _, rows in ranked.groupby(STUDY_KEY, sort=False)]
        return studies[:count]


def require_order(order: str) -> None:
    """ValueError where `order` is no key of `ORDERS`."""
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}. Received: {order!r}.")


def _turns(views: pd.DataFrame) -> pd.Series:
    """Of each study's surest view: 1 of the surest right decision, 2 of the surest wrong one, ...

    NaN of a study's other views, and where nobody knows what is right.
    """
    if "decided" in views:
        right, sure = views.decided == views.true_class, views.share
        known = views.true_class.notna()
    else:
        right = (views.probability_study > THRESHOLD) == views.label
        sure = (views.probability_study - THRESHOLD).abs()
        known = views.label.isin([0, 1])
    surest = views[known].loc[sure[known].sort_values(ascending=False, kind="stable").index]
    first = surest.drop_duplicates(STUDY_KEY).index
    turn = sure[first].groupby(right[first]).rank(method="first", ascending=False)
    return (2 * turn - right[first]).reindex(views.index)


def _lacking(data: pd.DataFrame, views: pd.DataFrame) -> pd.Series:
    """bool, for each of `views` whether the data set has no such view."""
    key = unsplit_key(data)
    there = pd.MultiIndex.from_frame(data[key])
    return ~pd.Series(pd.MultiIndex.from_frame(_undealt(views)[key]).isin(there), views.index)


def _undealt(views: pd.DataFrame) -> pd.DataFrame:
    """Views under the split of their data set, which a run may have held some out of."""
    return views.assign(split=views.split.replace("holdout", "train"))


def _with_paths_of(
    data: pd.DataFrame, views: pd.DataFrame, where: str | os.PathLike[str]
) -> pd.DataFrame:
    """`views` with the paths of the data set as it lies now."""
    key = unsplit_key(data)
    found = _undealt(views).drop(columns="path").merge(data[[*key, "path"]], on=key, how="left")
    found["split"] = views.split.to_numpy()
    lacking = found.path.isna()
    if lacking.any():
        first = "/".join(found[lacking].iloc[0][VIEW_KEY])
        raise ValueError(
            f"the data set must be the one of the runs. Received: {Path(where)}, which lacks "
            f"{lacking.sum()} of the {len(found)} views they predicted, the first: {first}. Give "
            "the path of the data set they were trained on."
        )
    return found
