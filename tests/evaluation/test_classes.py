"""Scores over classes against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from class_predictions import TASK, predictions_of
from sklearn.metrics import (
    auc,
    classification_report,
    cohen_kappa_score,
    confusion_matrix,
    roc_auc_score,
    roc_curve,
)

from mura_tf.data.tasks import class_names, class_of
from mura_tf.data.views import load_mura
from mura_tf.evaluation.classes import AVERAGES, MACRO, MEASURES, MICRO, WEIGHTED, score_classes
from mura_tf.evaluation.metrics import bootstrap_weights
from mura_tf.evaluation.predictions import predict_views
from mura_tf.evaluation.scores import score, study_probabilities


def oracle(predictions, task=TASK):
    """Number of each view's class, probabilities (n, K), patients, without pandas' groups."""
    columns = [name for name in predictions if name.startswith("p:")]
    names = [name[2:] for name in columns]
    found = {}
    for row, name in zip(predictions.to_dict("records"), class_of(predictions, task), strict=True):
        key = tuple(row[part] for part in ("study_type", "patient", "study", "view"))
        found.setdefault(key, []).append((name, row["patient"], [row[one] for one in columns]))
    truth = np.array([names.index(rows[0][0]) for rows in found.values()])
    probabilities = np.array([np.mean([row[2] for row in rows], axis=0) for rows in found.values()])
    return truth, probabilities, [rows[0][1] for rows in found.values()]


# ------------------------------------------------------------------------------------------------
# Scores


@pytest.mark.parametrize(
    ("task", "members"), [(TASK, 1), (TASK, 3), ("study_type", 2)], ids=["one", "three", "types"]
)
def test_scores_are_scikit_learns(task, members):
    predictions = predictions_of(members=members, task=task)
    scores = score_classes(predictions, task)
    truth, probabilities, _ = oracle(predictions, task)
    decisions = probabilities.argmax(axis=1)
    assert scores.classes == list(class_names(predictions, task))
    assert (scores.split, scores.members) == ("test", members)
    assert scores.confusion.to_numpy().tolist() == confusion_matrix(truth, decisions).tolist()
    assert list(scores.confusion.index) == list(scores.confusion.columns)
    assert list(scores.table) == [*MEASURES, "support"]
    assert list(scores.table.index) == [*scores.classes, *AVERAGES]

    report = classification_report(
        truth, decisions, target_names=scores.classes, output_dict=True, zero_division=0
    )
    report[MACRO], report[WEIGHTED] = report["macro avg"], report["weighted avg"]
    for name in (*scores.classes, MACRO, WEIGHTED):
        expected = [report[name][key] for key in ("precision", "recall", "f1-score", "support")]
        columns = ["precision", "recall", "f1", "support"]
        assert scores.table.loc[name, columns].tolist() == pytest.approx(expected)
    assert scores.accuracy == pytest.approx(report["accuracy"])
    micro = scores.table.loc[MICRO, ["precision", "recall", "f1"]]
    assert micro.tolist() == pytest.approx(3 * [scores.accuracy])
    assert scores.kappa == pytest.approx(cohen_kappa_score(truth, decisions))

    is_class = np.eye(len(scores.classes))[truth]
    areas = roc_auc_score(is_class, probabilities, average=None)
    assert scores.table.auroc[scores.classes].tolist() == pytest.approx(areas)
    for name in ("micro", "macro", "weighted"):
        expected = roc_auc_score(is_class, probabilities, average=name)
        assert scores.table.auroc[f"{name} average"] == pytest.approx(expected)


def test_curves_are_scikit_learns_and_the_macro_one_is_their_mean():
    predictions = predictions_of()
    scores = score_classes(predictions, TASK)
    truth, probabilities, _ = oracle(predictions)
    assert set(scores.curves) == {*scores.classes, MICRO, MACRO}
    for number, name in enumerate(scores.classes):
        expected = roc_curve(truth == number, probabilities[:, number])[:2]
        np.testing.assert_allclose(scores.curves[name].T, expected)
    macro = scores.curves[MACRO]
    assert macro[0].tolist() == [0, 0] and macro[-1].tolist() == [1, 1]
    heights = [np.interp(0.25, *scores.curves[name].T) for name in scores.classes]
    assert macro[np.isclose(macro[:, 0], 0.25), 1] == pytest.approx(np.mean(heights))
    assert auc(*macro.T) == pytest.approx(scores.table.auroc[MACRO], abs=0.01)


def test_kappas_interval_resamples_patients():
    predictions = predictions_of()
    scores = score_classes(predictions, TASK, replicates=50, seed=3)
    truth, probabilities, patients = oracle(predictions)
    decisions = probabilities.argmax(axis=1)
    kappas = [
        cohen_kappa_score(truth, decisions, sample_weight=weights)
        for weights in bootstrap_weights(patients, 50, seed=3)
    ]
    expected = np.quantile(kappas, [0.025, 0.975])
    assert (scores.kappa_low, scores.kappa_high) == pytest.approx(expected)
    assert scores.kappa_low < scores.kappa < scores.kappa_high
    again = score_classes(predictions, TASK, replicates=50, seed=3)
    assert (again.kappa_low, again.kappa_high) == pytest.approx(expected)


def test_members_are_averaged_before_the_decision():
    one = predictions_of(types=("elbow",), patients=1).assign(label=1)
    tables = [
        one.assign(member=member, **{"p:normal elbow": p, "p:abnormal elbow": 1 - p})
        for member, p in enumerate((0.6, 0.6, 0.1))
    ]
    scores = score_classes(pd.concat(tables), TASK)
    assert scores.accuracy == 1 and scores.members == 3


def test_only_the_reported_split_counts():
    test, valid = predictions_of(), predictions_of(split="valid", seed=1)
    both = score_classes(pd.concat([valid, test]), TASK)
    assert both.split == "test"
    assert both.confusion.equals(score_classes(test, TASK).confusion)
    assert score_classes(valid, TASK).split == "valid"


# ------------------------------------------------------------------------------------------------
# Degenerate cases


@pytest.mark.filterwarnings("error")
def test_a_class_without_views_has_nothing_and_spoils_nothing():
    predictions = predictions_of()
    gone = "abnormal hand"
    rest = predictions[class_of(predictions, TASK) != gone]
    scores = score_classes(rest, TASK)
    assert scores.table.loc[gone, MEASURES].isna().all() and scores.table.support[gone] == 0
    assert len(scores.curves[gone]) == 0
    assert scores.confusion[gone].sum() > 0  # it is decided for, all the same
    others = scores.table.loc[[name for name in scores.classes if name != gone]]
    assert others.notna().all(axis=None)
    means = others[MEASURES].mean()
    assert scores.table.loc[MACRO, MEASURES].tolist() == pytest.approx(means.tolist())
    truth, probabilities, _ = oracle(rest)
    assert scores.accuracy == pytest.approx((probabilities.argmax(axis=1) == truth).mean())
    assert scores.kappa == pytest.approx(cohen_kappa_score(truth, probabilities.argmax(axis=1)))


@pytest.mark.filterwarnings("error")
def test_a_class_never_decided_for_has_precision_0():
    predictions = predictions_of()
    predictions["p:normal hand"] = 0.0
    row = score_classes(predictions, TASK).table.loc["normal hand"]
    assert row[["precision", "recall", "f1"]].tolist() == [0, 0, 0] and row.support > 0
    assert row.auroc == pytest.approx(0.5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("types", [("elbow",), ("elbow", "hand")], ids=["alone", "beside another"])
def test_views_of_one_class(types):
    predictions = predictions_of(types=types)
    rows = predictions[class_of(predictions, TASK) == "normal elbow"]
    scores = score_classes(rows, TASK)
    assert scores.table.auroc[[*scores.classes, MACRO, WEIGHTED]].isna().all()
    assert scores.table.recall[MACRO] == pytest.approx(scores.accuracy)
    assert (scores.kappa, scores.kappa_low, scores.kappa_high) == (0, 0, 0)
    assert not len(scores.curves[MACRO]) and len(scores.curves[MICRO])


@pytest.mark.filterwarnings("error")
def test_one_class_at_all():
    scores = score_classes(predictions_of(types=("elbow",), task="study_type"), "study_type")
    assert (scores.accuracy, scores.kappa) == (1, 0)
    assert scores.table.auroc.isna().all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table.filter(regex="^(?!p:)"), "Received: none, so the task is abnormality"),
        (lambda table: pd.concat([table, table.assign(repeat=1)]), "takes one system"),
        (
            lambda table: pd.concat([table.assign(system=name) for name in ("a", "b")]),
            "takes one system",
        ),
        (lambda table: table.assign(split="train"), "none. Its splits are train."),
        (lambda table: table.assign(**{"p:normal hand": np.nan}), "a probability for every class"),
        (
            lambda table: table.assign(study_type=table.study_type.str.replace("hand", "knee")),
            r"Received: '(ab)?normal knee'",
        ),
        (
            lambda table: pd.concat([table, table.drop(index=3).assign(member=1)]),
            "every member must predict every view of a study once",
        ),
        (
            lambda table: pd.concat(
                [table, table[table.patient != table.patient[0]].assign(member=1)]
            ),
            "every member must have seen every study. Received: studies of 1 and 2 members",
        ),
    ],
    ids=[
        *("no classes", "two systems", "two names", "no view", "missing", "foreign", "members"),
        "studies",
    ],
)
def test_bad_input_gets_a_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        score_classes(change(predictions_of()), TASK)


# ------------------------------------------------------------------------------------------------
# Collapsed to abnormality


def test_from_a_model_with_classes_to_scores_per_study(mura, eagerly):
    from mura_tf.models.build import build_model

    views = load_mura(mura)
    classes = class_names(views, TASK)
    model = build_model("small_cnn", weights=None, image_size=32, classes=len(classes))
    predictions = predict_views(model, views[views.split == "valid"], classes=classes)
    shares = predictions[[f"p:{name}" for name in classes]]
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    abnormal = predictions["p:abnormal elbow"] + predictions["p:abnormal wrist"]
    studies = study_probabilities(predictions)
    np.testing.assert_allclose(studies.probability, abnormal.clip(0, 1))  # one view a study
    found = score(studies, intervals=False).set_index("study_type")
    decided = (abnormal > 0.5).astype(int)
    assert found.accuracy["overall"] == pytest.approx((decided == predictions.label).mean())
    assert found.kappa["overall"] == pytest.approx(
        cohen_kappa_score(predictions.label, decided), nan_ok=True
    )
    assert score_classes(predictions, TASK).table.support[MICRO] == len(predictions)
