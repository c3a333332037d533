"""What scoring requires is required before anything is trained."""

import pandas as pd
import pytest

from mura_tf.data.check import check_views
from mura_tf.data.views import load_mura
from mura_tf.grid.plan import plan_runs, run_plan
from mura_tf.training.recipe import Recipe
from mura_tf.training.selection import selected_views
from mura_tf.training.train import train

RECIPE = Recipe(backbone="small_cnn", weights=None, image_size=32, preprocessing="native")


def _a_view_twice(views):
    return pd.concat([views, views[:1]])


def _two_views_of_one_name(views):
    return views.assign(
        view=["image1.png" if name == "image2.png" else name for name in views["view"]]
    )


def _a_study_in_two_labels(views):
    return views.assign(label=[0, *views.label[1:]])


def _two_spellings(views):
    return views.assign(study_type=["Elbow", *views.study_type[1:]])


def _a_type_named_overall(views):
    return views.assign(study_type=views.study_type.replace("wrist", "overall"))


UNSCORABLE = [
    (_a_view_twice, "listed twice", "patient00001/study1/image1.png: these views are on more than"),
    (_two_views_of_one_name, "listed twice", "study1/image1.png: these views are on more than one"),
    (_a_study_in_two_labels, "two labels", "study1 of patient00001 has label 0 here and label 1"),
    (_two_spellings, "two spellings", "a study type is spelled 'Elbow' and 'elbow'"),
    (_a_type_named_overall, "reserved name", "a study type is named 'overall'"),
]


@pytest.mark.parametrize(("spoil", "problem", "sentence"), UNSCORABLE)
def test_views_that_could_not_be_scored(mura, tmp_path, spoil, problem, sentence):
    views = spoil(load_mura(mura))
    with pytest.raises(ValueError, match=f"the views cannot be scored: .*{sentence}"):
        selected_views(views, RECIPE)
    with pytest.raises(ValueError, match=sentence):
        train(RECIPE, views, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run" / "run.json").exists()
    found = check_views(views)
    assert found[found.problem == problem].reason.str.contains(sentence).any()


class NoEngine:
    """An engine on which nothing may be begun."""

    def submit(self, order):
        raise AssertionError(order)

    def close(self):
        pass


@pytest.mark.parametrize("scheme", ["two-stage", "direct", "whole"])
def test_a_type_that_only_valid_has_is_named_before_anything_is_trained(mura, tmp_path, scheme):
    views = load_mura(mura)
    views = views[(views.study_type != "wrist") | (views.split == "valid")]
    plan = plan_runs(RECIPE, tmp_path, ["elbow", "wrist"], scheme=scheme, members=1)
    with pytest.raises(ValueError, match=r"wrist"):
        run_plan(plan, views, tmp_path, engine=NoEngine(), verbose=False)


@pytest.mark.parametrize("scheme", ["two-stage", "direct"])
def test_a_type_that_only_train_has_is_named_before_anything_is_trained(mura, tmp_path, scheme):
    views = load_mura(mura)
    views = views[(views.study_type != "wrist") | (views.split == "train")]
    plan = plan_runs(RECIPE, tmp_path, ["elbow", "wrist"], scheme=scheme, members=1)
    with pytest.raises(
        ValueError, match=r"^study_types wrist: the data set needs a valid or a test"
    ):
        run_plan(plan, views, tmp_path, engine=NoEngine(), verbose=False)
    assert len(selected_views(views, RECIPE)) == len(views)  # one model of all types has use for it


def test_train_alone_is_offered_a_split(mura):
    views = load_mura(mura).query("split == 'train'")
    with pytest.raises(ValueError, match=r"Received: train only\. Hold out .*--split patient:0.15"):
        selected_views(views, RECIPE)
