"""A predictions table -> study probabilities -> scores."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from prediction_tables import figure_1, predictions_of
from sklearn.metrics import accuracy_score, cohen_kappa_score, recall_score, roc_auc_score

from mura_tf.evaluation.scores import reported_split, score, score_systems, study_probabilities
from mura_tf.terminal import Notice

STUDY = ["split", "study_type", "patient", "study"]
SYSTEM = ["backbone", "stage", "repeat"]


def by_hand(predictions):
    """study and system -> probabilities of all its views and members, without pandas' groups."""
    found = {}
    for row in predictions.to_dict("records"):
        key = tuple(row[column] for column in STUDY + SYSTEM)
        found.setdefault(key, []).append(
            (row["label"], row["member"], row["view"], row["probability"])
        )
    return found


# Studies


@pytest.mark.parametrize("members", [1, 5])
def test_study_probabilities_are_means_over_views_and_members(members):
    predictions = predictions_of(members=members)
    expected = by_hand(predictions)
    studies = study_probabilities(predictions)
    assert list(studies) == [*STUDY, "label", *SYSTEM, "members", "views", "probability"]
    assert len(studies) == len(expected) == 80
    for row, (key, views) in zip(studies.to_dict("records"), expected.items(), strict=True):
        labels, of_members, names, probabilities = zip(*views, strict=True)
        assert tuple(row[column] for column in STUDY + SYSTEM) == key  # in order of appearance
        assert row["label"] == labels[0]
        assert row["members"] == len(set(of_members)) == members
        assert row["views"] == len(set(names))
        assert row["probability"] == pytest.approx(sum(probabilities) / len(probabilities))


def test_the_mean_of_members_means_is_the_mean_of_all():
    predictions = predictions_of(members=3)
    ensemble = study_probabilities(predictions).set_index(STUDY).probability
    single = [
        study_probabilities(predictions[predictions.member == member])
        .set_index(STUDY)
        .probability.reindex(ensemble.index)
        for member in range(3)
    ]
    np.testing.assert_allclose(ensemble, sum(single) / 3)


def test_the_papers_figure_1():
    study = study_probabilities(figure_1()).iloc[0]
    assert study.probability == pytest.approx(0.836, abs=1e-12)
    assert (study["views"], study["members"], study["label"]) == (2, 1, 1)


def test_systems_are_kept_apart():
    one, two = predictions_of(), predictions_of(stage="imagenet", seed=1)
    repeat = predictions_of(repeat=1, seed=2)
    together = study_probabilities(pd.concat([one, two, repeat], ignore_index=True))
    apart = [study_probabilities(table) for table in (one, two, repeat)]
    pd.testing.assert_frame_equal(together, pd.concat(apart, ignore_index=True))


def test_a_study_is_told_by_split_type_patient_and_name():
    views = [figure_1(**{column: "other"}) for column in STUDY]
    assert len(study_probabilities(pd.concat([figure_1(), *views]))) == 5


def test_a_study_with_two_labels_gets_a_sentence():
    with pytest.raises(ValueError) as caught:
        study_probabilities(figure_1(label=[0, 1]))
    assert str(caught.value) == (
        "a study has one label. 1 studies have two, the first: valid/finger/p1/study1. "
        "Mend the data set's labels; `mura-tf check` lists them."
    )


@pytest.mark.parametrize(
    "drop", [lambda table: table.index == 1, lambda table: table.view == "image1.png"]
)
def test_members_that_saw_different_views_get_a_sentence(drop):
    second = figure_1(member=1)
    second = second[~drop(second)] if drop(second).sum() == 1 else second
    with pytest.raises(ValueError) as caught:
        study_probabilities(pd.concat([figure_1(), second]))
    assert str(caught.value) == (
        "every member must predict every view of a study once. 1 studies do not fit, the first: "
        "valid/finger/p1/study1 has 3 predictions for 2 views and 2 members. "
        "Give each run once, and evaluate all members on the same views table."
    )


@pytest.mark.parametrize(
    "views",
    [
        [figure_1(), figure_1()],  # a run folder given twice
        [figure_1(), figure_1(member=1, view=["image1.png", "image3.png"])],
        [figure_1(view="image1.png"), figure_1(member=1, view="image2.png")],
    ],
    ids=["twice", "another view", "one view twice each"],
)
def test_views_that_are_not_predicted_once_by_each_member(views):
    with pytest.raises(ValueError, match=r"every member must predict every view of a study once"):
        study_probabilities(pd.concat(views))


# Scores


def test_scores_are_scikit_learns_per_type_and_overall():
    studies = study_probabilities(predictions_of(members=2))
    scores = score(studies)
    assert list(scores) == [
        *("study_type", "n", "accuracy", "kappa", "kappa_low", "kappa_high"),
        *("auroc", "auroc_low", "auroc_high", "sensitivity", "specificity"),
        *("called_abnormal", "one_class"),
    ]
    assert scores.study_type.tolist() == ["elbow", "wrist", "overall"]
    for row in scores.itertuples():
        mine = (
            studies
            if row.study_type == "overall"
            else studies[studies.study_type == row.study_type]
        )
        labels, predicted = mine.label, mine.probability > 0.5
        assert row.n == len(mine)
        assert row.accuracy == pytest.approx(accuracy_score(labels, predicted))
        assert row.kappa == pytest.approx(cohen_kappa_score(labels, predicted))
        assert row.auroc == pytest.approx(roc_auc_score(labels, mine.probability))
        assert row.sensitivity == pytest.approx(recall_score(labels, predicted))
        assert row.specificity == pytest.approx(recall_score(labels, predicted, pos_label=0))
        assert row.called_abnormal == predicted.sum()
        assert not row.one_class


def test_overall_pools_studies_and_is_no_mean_of_types():
    elbow = predictions_of(60, study_types=("elbow",))
    wrist = predictions_of(8, study_types=("wrist",), seed=1)
    predictions = pd.concat([elbow, wrist])
    scores = score(study_probabilities(predictions), intervals=False).set_index("study_type")
    assert scores.n["overall"] == scores.n["elbow"] + scores.n["wrist"]
    weighted = (scores.accuracy * scores.n)[["elbow", "wrist"]].sum() / scores.n["overall"]
    assert scores.accuracy["overall"] == pytest.approx(weighted)
    assert scores.kappa["overall"] != pytest.approx(scores.kappa[["elbow", "wrist"]].mean())


def test_exactly_a_half_is_normal():
    studies = study_probabilities(figure_1(probability=[0.25, 0.75]))
    assert score(studies, intervals=False).sensitivity.tolist() == [0, 0]


def test_a_one_class_type_is_defined_and_flagged():
    predictions = predictions_of()
    predictions.loc[predictions.study_type == "wrist", "label"] = 0
    scores = score(study_probabilities(predictions)).set_index("study_type")
    assert scores.one_class.to_dict() == {"elbow": False, "wrist": True, "overall": False}
    wrist = scores.loc["wrist"]
    assert wrist.kappa == wrist.kappa_low == wrist.kappa_high == 0
    assert wrist[["auroc", "auroc_low", "auroc_high", "sensitivity"]].isna().all()
    assert wrist.specificity == pytest.approx(wrist.accuracy) and 0 < wrist.accuracy < 1
    assert scores.drop(index="wrist").notna().all(axis=None)


def test_a_type_of_abnormal_studies_only():
    scores = score(study_probabilities(figure_1())).iloc[0]
    assert scores.one_class and scores.sensitivity == 1 and np.isnan(scores.specificity)


@pytest.mark.parametrize("seed", range(5))
def test_intervals_contain_the_point(seed):
    scores = score(study_probabilities(predictions_of(seed=seed)), replicates=500)
    for name in ("kappa", "auroc"):
        low, high = scores[f"{name}_low"], scores[f"{name}_high"]
        assert ((low < scores[name]) & (scores[name] < high)).all()
        assert low.ge(-1).all() and high.le(1).all()


def test_intervals_narrow_with_the_root_of_n():
    def width(studies):
        table = study_probabilities(predictions_of(studies, study_types=("elbow",)))
        last = score(table, replicates=1000).iloc[-1]
        return last.kappa_high - last.kappa_low

    widths = [width(studies) for studies in (50, 200, 800)]
    assert widths[0] > widths[1] > widths[2]
    assert widths[0] / widths[2] == pytest.approx(4, rel=0.35)


def test_intervals_resample_patients_not_studies():
    """Forty equal studies of each patient say no more than one."""
    studies = study_probabilities(predictions_of(30, study_types=("elbow",)))
    studies = studies.assign(patient=[f"p{number}" for number in range(len(studies))])
    copies = pd.concat([studies.assign(study=f"study{copy}") for copy in range(40)])
    once, often = score(studies).iloc[-1], score(copies).iloc[-1]
    assert often.kappa == pytest.approx(once.kappa)
    assert often.kappa_high - often.kappa_low == pytest.approx(once.kappa_high - once.kappa_low)


def test_a_perfect_system_has_a_closed_interval():
    studies = study_probabilities(predictions_of())
    perfect = score(studies.assign(probability=studies.label.astype(float)))
    ones = ["accuracy", "kappa", "kappa_low", "auroc", "auroc_low", "sensitivity", "specificity"]
    np.testing.assert_allclose(perfect[ones], 1)


def test_scores_without_intervals_and_their_seed():
    studies = study_probabilities(predictions_of())
    plain, with_intervals = score(studies, intervals=False), score(studies, replicates=200)
    assert not [column for column in plain if column.endswith(("_low", "_high"))]
    pd.testing.assert_frame_equal(with_intervals[list(plain)], plain)
    pd.testing.assert_frame_equal(score(studies, replicates=200), with_intervals)
    other = score(studies, replicates=200, seed=1)
    assert not np.array_equal(other.kappa_low, with_intervals.kappa_low)


@pytest.mark.parametrize("probability", [-0.01, 1.01, np.nan])
def test_a_probability_that_cannot_be(probability):
    studies = study_probabilities(figure_1()).assign(probability=probability)
    with pytest.raises(ValueError) as caught:
        score(studies)
    assert str(caught.value) == (
        f"probabilities must lie in [0, 1]. Received: {probability} for valid/finger/p1/study1."
    )


@pytest.mark.parametrize("weight", [{}, {"weight": 1.0}])
@pytest.mark.parametrize("wrong", [np.nan, 1.2, -0.1])
def test_one_prediction_that_cannot_be(wrong, weight):
    """Of the mean of a study nobody would notice."""
    views = predictions_of(members=2).assign(**weight)
    views.loc[0, "probability"] = wrong
    with pytest.raises(ValueError, match=rf"must lie in \[0, 1\]. Received: {wrong} for valid/"):
        study_probabilities(views)
    none = views.assign(probability=np.nan)  # as a model of study types has them
    assert study_probabilities(none).probability.isna().all()


@pytest.mark.parametrize("name", ["patient", "member", "view", "label", "probability", "backbone"])
def test_a_column_that_lacks(name):
    with pytest.raises(ValueError, match=f"expected a predictions table.* without {name}."):
        study_probabilities(predictions_of().drop(columns=name))
    with pytest.raises(ValueError, match=f"expected a predictions table.* without {name}."):
        score_systems(predictions_of().drop(columns=name))
    if name in (studies := study_probabilities(predictions_of())):
        with pytest.raises(ValueError, match=f"expected a table of studies.* without {name}."):
            score(studies.drop(columns=name))


def test_a_system_without_a_name_is_not_left_out():
    one = predictions_of()
    with pytest.raises(ValueError, match=f"Received: {len(one)} rows without system"):
        score_systems(pd.concat([one.assign(system="A"), one]))


def test_a_study_of_no_patient():
    predictions = predictions_of()
    predictions.loc[0, "patient"] = None
    with pytest.raises(ValueError, match="1 rows without patient"):
        study_probabilities(predictions)


def test_a_study_counts_once():
    studies = study_probabilities(predictions_of())
    with pytest.raises(ValueError, match=r"a study counts once. Received: valid/.* again"):
        score(pd.concat([studies, studies]))


def test_nothing_to_score():
    with pytest.raises(ValueError, match=r"studies holds no row, expected at least one study"):
        score(study_probabilities(figure_1())[:0])


def test_score_refuses_views_in_place_of_studies():
    with pytest.raises(ValueError, match=r"one row per study\. Received: a table with a column"):
        score(predictions_of())


@pytest.mark.parametrize("other", [{"repeat": 1}, {"stage": "mura"}, {"split": "test"}])
def test_several_systems_get_a_sentence(other):
    studies = study_probabilities(pd.concat([figure_1(), figure_1(**other)]))
    with pytest.raises(
        ValueError, match=r"score takes one system .* on one split\. Received: \[\{"
    ):
        score(studies)


# Systems


def test_score_systems_scores_each_as_alone_and_orders_them():
    single = predictions_of(stage="imagenet", seed=1)
    whole = predictions_of(stage="mura", members=3, seed=2)
    fine = predictions_of(stage="type", members=2, seed=3)
    table = score_systems(pd.concat([single, whole, fine], ignore_index=True))
    assert list(table)[:5] == ["backbone", "stage", "repeat", "members", "split"]
    stages = table.drop_duplicates("stage")
    assert stages.stage.tolist() == ["type", "mura", "imagenet"]
    assert stages["members"].tolist() == [2, 3, 1]
    for stage, predictions in (("type", fine), ("mura", whole), ("imagenet", single)):
        mine = table[table.stage == stage].reset_index(drop=True)
        expected = score(study_probabilities(predictions))
        pd.testing.assert_frame_equal(mine[list(expected)], expected)


def test_score_systems_reports_test_where_there_is_one():
    valid, test = predictions_of(), predictions_of(split="test", seed=1)
    assert reported_split(pd.concat([valid, test])) == "test"
    assert reported_split(valid) == "valid"
    table = score_systems(pd.concat([valid, test]), intervals=False)
    assert table.split.unique().tolist() == ["test"]
    expected = score(study_probabilities(test), intervals=False)
    pd.testing.assert_frame_equal(table[list(expected)], expected)


def test_score_systems_counts_the_least_members_of_a_row():
    elbow = predictions_of(members=3, study_types=("elbow",))
    wrist = predictions_of(members=2, study_types=("wrist",))
    table = score_systems(pd.concat([elbow, wrist]), intervals=False).set_index("study_type")
    assert table["members"].to_dict() == {"elbow": 3, "wrist": 2, "overall": 2}


# Files


def test_scoring_needs_no_tensorflow():
    """The module's imports are those of pandas and NumPy."""
    code = (
        "import sys, mura_tf.evaluation.predictions; "
        "print('keras' in sys.modules, 'tensorflow' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]


def test_a_study_type_without_the_reported_split_is_told():
    table = pd.concat(
        [
            predictions_of().assign(split="test"),
            predictions_of(study_types=["other"]),
        ]
    )
    with pytest.warns(Notice, match="other has no view in the split 'test'"):
        scores = score_systems(table, intervals=False)
    assert "other" not in set(scores.study_type)
