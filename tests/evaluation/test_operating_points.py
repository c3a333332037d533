"""Calibration and thresholds, against scikit-learn and by brute force."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import _SigmoidCalibration
from sklearn.metrics import cohen_kappa_score, recall_score

from mura_tf.evaluation.operating_points import (
    PAPER,
    Calibration,
    OperatingPoint,
    calibrate,
    expected_calibration_error,
    operating_points,
    score_points,
)


def studies_of(count=240, seed=0, shift=-1.0):
    """Studies of a system whose probabilities are too low, and overconfident."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.35).astype(int)
    logits = 1.7 * (2.2 * labels + shift + rng.normal(0, 1.2, count))
    patients = [f"p{number // 2}" for number in range(count)]
    return pd.DataFrame(
        {"patient": patients, "label": labels, "probability": 1 / (1 + np.exp(-logits))}
    )


def test_calibration_is_platts():
    studies = studies_of()
    fitted = calibrate(studies)
    logits = np.log(studies.probability / (1 - studies.probability))
    oracle = _SigmoidCalibration().fit(logits.to_numpy(), studies.label.to_numpy())
    assert (fitted.slope, fitted.intercept) == pytest.approx((-oracle.a_, -oracle.b_), rel=1e-4)
    assert fitted(studies.probability) == pytest.approx(oracle.predict(logits), abs=1e-4)


def test_separable_studies_keep_the_slope_finite():
    studies = pd.DataFrame({"label": [0, 0, 1, 1], "probability": [0.1, 0.2, 0.8, 0.9]})
    fitted = calibrate(studies)
    assert 0 < fitted.slope < 100
    assert 0 < fitted(0.0) < fitted(1.0) < 1


def test_calibration_lowers_the_expected_error_on_other_patients():
    fitted, other = calibrate(studies_of(600)), studies_of(600, seed=1)
    before = expected_calibration_error(other.label, other.probability)
    after = expected_calibration_error(other.label, fitted(other.probability))
    assert after < 0.8 * before


def test_expected_calibration_error_bin_by_bin():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 2, 500), rng.random(500)
    probabilities[:2] = 0, 1
    expected = 0
    for low in np.arange(10) / 10:
        inside = (probabilities >= low) & ((probabilities < low + 0.1) | (low > 0.85))
        gap = abs(labels[inside].mean() - probabilities[inside].mean())
        expected += inside.mean() * gap
    assert expected_calibration_error(labels, probabilities) == pytest.approx(expected)


def test_the_kappa_point_is_the_best_of_all_thresholds():
    studies = studies_of()
    point = operating_points(studies)[1]
    reached = cohen_kappa_score(studies.label, studies.probability > point.low)
    tried = [
        cohen_kappa_score(studies.label, studies.probability > threshold)
        for threshold in np.linspace(0, 1, 2001)
    ]
    assert reached >= max(tried) - 1e-9


def test_doubt_lies_between_sensitivity_and_specificity_of_95_percent():
    studies = studies_of()
    paper, _, doubt = operating_points(studies)
    assert paper == PAPER and doubt.low < doubt.high
    above_low, above_high = studies.probability > doubt.low, studies.probability > doubt.high
    assert recall_score(studies.label, above_low) >= 0.95
    assert recall_score(studies.label, above_high, pos_label=0) >= 0.95
    # the next threshold would not do
    higher = studies.probability[above_low].min()
    lower = studies.probability[~above_high].max()
    assert recall_score(studies.label, studies.probability > higher) < 0.95
    assert recall_score(studies.label, studies.probability >= lower, pos_label=0) < 0.95


def test_nothing_is_doubtful_where_one_threshold_does_both():
    studies = pd.DataFrame({"label": [0, 0, 1, 1], "probability": [0.1, 0.2, 0.8, 0.9]})
    doubt = operating_points(studies)[2]
    assert doubt.low == doubt.high
    assert [doubt.decide(value) for value in studies.probability] == [
        *2 * ["normal"],
        *2 * ["abnormal"],
    ]


@pytest.mark.parametrize("turned", [False, True])
def test_an_outlier_among_few_studies_leaves_both_decisions_possible(turned):
    normal, abnormal = [*np.linspace(0.1, 0.4, 14), 0.9], np.linspace(0.6, 0.89, 15)
    probability = np.concatenate([normal, abnormal])
    studies = pd.DataFrame({"label": [0] * 15 + [1] * 15, "probability": probability})
    if turned:
        studies = 1 - studies
    doubt = operating_points(studies)[2]
    assert 0 < doubt.low < doubt.high < 1
    assert (doubt.decide(0.99), doubt.decide(0.01)) == ("abnormal", "normal")


def test_a_model_worse_than_chance_keeps_the_papers_threshold():
    studies = pd.DataFrame({"label": [1, 1, 0, 0], "probability": [0.3, 0.4, 0.6, 0.7]})
    assert operating_points(studies)[1].low == PAPER.low


def test_a_steep_calibration_does_not_overflow(recwarn):
    assert Calibration(400, -200)(np.array([0.01, 0.99])) == pytest.approx([0, 1], abs=1e-9)
    assert not recwarn.list


def test_scores_of_points_are_scikit_learns():
    studies = studies_of()
    points = operating_points(studies)
    table = score_points(points, studies, replicates=200).set_index("point")
    for point in points[:2]:
        decided = studies.probability > point.low
        row = table.loc[point.name]
        assert row.sensitivity == pytest.approx(recall_score(studies.label, decided))
        assert row.specificity == pytest.approx(recall_score(studies.label, decided, pos_label=0))
        assert row.kappa == pytest.approx(cohen_kappa_score(studies.label, decided))
        assert row.doubtful == 0
        assert row.kappa_low < row.kappa < row.kappa_high
    doubt, row = points[2], table.loc["doubt"]
    decided = studies.probability.map(doubt.decide)
    assert row.doubtful == pytest.approx((decided == "doubtful").mean())
    sure = studies[decided != "doubtful"]
    said = sure.probability > doubt.high
    assert row.kappa == pytest.approx(cohen_kappa_score(sure.label, said))


def test_one_label_is_a_sentence_where_points_are_chosen_and_nan_where_scored():
    one = pd.DataFrame({"patient": ["a", "b"], "label": [0, 0], "probability": [0.2, 0.7]})
    for choose in (calibrate, operating_points):
        with pytest.raises(ValueError, match="need normal and abnormal studies"):
            choose(one)
    row = score_points([PAPER], one, replicates=10).iloc[0]
    assert np.isnan(row.sensitivity) and row.specificity == pytest.approx(0.5)


def test_a_calibration_takes_numbers_and_arrays():
    calibration = Calibration(slope=1.0, intercept=0.0)
    assert calibration(0.3) == pytest.approx(0.3)
    assert calibration(np.array([[0.3], [0.7]])) == pytest.approx(np.array([[0.3], [0.7]]))
    assert OperatingPoint("doubt", 0.2, 0.7).decide(0.2) == "normal"


def test_no_number_decides_nothing():
    with pytest.raises(ValueError, match="only a probability decides"):
        OperatingPoint("paper", 0.5, 0.5).decide(float("nan"))


def test_where_nothing_is_decided_kappa_is_not_defined():
    studies = studies_of(40).assign(probability=0.5)
    row = score_points([OperatingPoint("doubt", 0.0, 1.0)], studies).iloc[0]
    assert row.doubtful == 1
    assert np.isnan([row.kappa, row.kappa_low, row.kappa_high]).all()
