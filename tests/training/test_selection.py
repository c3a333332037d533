"""Which views a recipe trains on, selects on and predicts."""

import pandas as pd
import pytest
from run_folders import views_of

from mura_tf.data.table import views_mark
from mura_tf.training.recipe import Recipe
from mura_tf.training.selection import selected_views, split_views

COUNTS = {"elbow": (40, 30), "wrist": (50, 40)}


@pytest.fixture
def views():
    """A train and a valid split of views with paths of their own."""
    train = views_of(COUNTS).assign(split="train")
    valid = views_of(COUNTS).assign(patient=lambda rows: "v" + rows.patient)
    views = pd.concat([train, valid], ignore_index=True)
    return views.assign(path=[f"{number}.png" for number in range(len(views))])


@pytest.mark.parametrize("by", ["patient", "image"])
def test_a_holdout_is_a_fraction_of_each_type_and_label(views, by):
    recipe = Recipe(select_on="holdout", holdout=0.25, holdout_by=by)
    chosen = selected_views(views, recipe)
    training = chosen[chosen.split != "valid"]
    shares = (training.split == "holdout").groupby([training.study_type, training.label]).mean()
    assert shares.to_list() == pytest.approx([0.25] * 4, abs=0.06)
    assert chosen[chosen.split == "valid"].path.tolist() == views.path[160:].tolist()
    both = training.groupby("patient").split.nunique().max() > 1
    assert both == (by == "image")
    parts = split_views(chosen, recipe)
    assert set(parts["select"].split) == {"holdout"}
    assert set(parts["predict"].split) == {"holdout", "valid"}


def test_the_index_of_a_table_does_not_matter(views):
    recipe = Recipe(select_on="holdout", holdout=0.25)
    repeated = views.set_axis([*range(100), *range(len(views) - 100)])
    assert selected_views(repeated, recipe).equals(selected_views(views, recipe))


def test_a_holdout_is_the_same_for_one_type_and_for_all(views):
    recipe = Recipe(select_on="holdout", holdout=0.25)
    every = selected_views(views, recipe).query("study_type == 'wrist' and split == 'holdout'")
    wrist = selected_views(views, Recipe(**recipe.to_dict() | {"study_types": ("wrist",)}))
    assert wrist[wrist.split == "holdout"].path.tolist() == every.path.tolist()


@pytest.mark.parametrize("by", ["patient", "image"])
def test_a_holdout_needs_two_of_each_class(views, by):
    rare = (views.split == "train") & (views.study_type == "wrist") & (views.label == 1)
    views = views.drop(views.index[rare][1:])
    recipe = Recipe(select_on="holdout", holdout_by=by)
    with pytest.raises(ValueError, match=rf"2 {by}s of each class. Rec.*: abnormal wrist with 1\."):
        selected_views(views, recipe)


def test_only_abnormality_needs_both_labels(views):
    views = views[(views.study_type == "elbow") | (views.label == 0)]
    recipe = Recipe(task="study_type", balance="none", monitor="val_f1")
    assert len(selected_views(views, recipe)) == len(views)
    with pytest.raises(ValueError, match="'wrist' with label 0 only"):
        selected_views(views, Recipe())


@pytest.mark.parametrize("task", ["abnormality", "study_type", "type_and_abnormality"])
def test_a_study_type_without_training_views_is_named(views, task):
    views = views[(views.study_type == "elbow") | (views.split == "valid")]
    recipe = Recipe(task=task, balance="none", monitor="val_loss")
    sentence = r"every study type needs training views.* none of wrist, in valid alone\."
    with pytest.raises(ValueError, match=sentence):
        selected_views(views, recipe)


def test_one_study_type_cannot_be_told_apart(views):
    recipe = Recipe(task="study_type", balance="none", monitor="val_f1", study_types=("wrist",))
    with pytest.raises(ValueError, match=r"two study types or more\. Received: wrist alone"):
        selected_views(views, recipe)


def test_labels_are_needed_of_the_recipes_own_study_types(views):
    views = views.assign(label=views.label.astype("Int64").mask(views.study_type == "elbow"))
    wrist = Recipe(study_types=("wrist",))
    assert set(selected_views(views, wrist).study_type) == {"wrist"}
    for recipe, splits in (
        (Recipe(), "train and valid"),
        (wrist.changed({"select_on": "holdout"}), "train"),  # which is drawn from all
    ):
        with pytest.raises(ValueError, match=rf"needs a label, .* views without, in {splits}, the"):
            selected_views(views, recipe)


@pytest.mark.parametrize("name", ["val", "Valid", "holdout"])
def test_a_split_of_another_name_is_refused(views, name):
    views = views.assign(split=views.split.replace("valid", name))
    with pytest.raises(ValueError, match=rf"split must be one of train, .* Received: {name}\."):
        selected_views(views, Recipe(select_on="holdout"))


def test_the_order_of_a_table_does_not_matter(views):
    """What a batch holds goes by the order, so a run would go on with others."""
    recipe = Recipe(select_on="holdout", holdout=0.25)
    shuffled = views.sample(frac=1, random_state=1)
    assert selected_views(shuffled, recipe).equals(selected_views(views, recipe))
    assert views_mark(shuffled) == views_mark(views)


@pytest.mark.parametrize(
    "given",
    [
        lambda views: views.assign(label=views.label.astype(float)),
        lambda views: views.assign(label=views.label.astype(bool)),
        lambda views: views[views.columns[::-1]],
        lambda views: views.assign(remark="of the user's own"),
    ],
)
def test_a_views_table_is_the_same_however_it_is_typed(views, given):
    pd.testing.assert_frame_equal(
        selected_views(given(views), Recipe()), selected_views(views, Recipe())
    )
    numbers = views.assign(patient=pd.factorize(views.patient)[0])
    assert selected_views(numbers, Recipe()).patient.map(type).eq(str).all()
