import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    recall_score,
    roc_auc_score,
)

from mura_tf.evaluation.metrics import (
    THRESHOLD,
    accuracy_of_confusion,
    bootstrap_blocks,
    bootstrap_weights,
    cohen_kappa,
    interval,
    kappa_of_confusion,
    weighted_confusion,
    weighted_scores,
)

# Cohen's kappa


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_cohen_kappa_is_scikit_learns_on_random_input(num_classes):
    rng = np.random.default_rng(num_classes)
    for _ in range(50):
        size = int(rng.integers(2, 200))
        labels = rng.integers(0, num_classes, size)
        agree = rng.random(size) < rng.random()
        predictions = np.where(agree, labels, rng.integers(0, num_classes, size))
        labels[0], predictions[0] = 0, 1  # so that it is defined
        expected = cohen_kappa_score(labels, predictions)
        assert cohen_kappa(labels, predictions, num_classes) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "predictions", "sentence"),
    [
        ([0, 1, 1, 0], [0.2, 0.9, 0.8, 0.1], r"predictions must be whole .*Received: \[0.2\]"),
        ([0, 1, -1, 0], [0, 1, 1, 0], r"labels must be whole numbers from 0 to 1.*\[-1\]"),
        ([0, 1, 2, 0], [0, 1, 1, 0], r"labels must be .*\[2\]"),
        ([0, 1, np.nan, 0], [0, 1, 1, 0], r"labels must be .*\[nan\]"),
        ([0, 1, 1, 0], [1], "the same n studies.* 4 and 1"),
        ([[0, 1], [1, 0]], [0, 1], r"labels must be .*shape \(2, 2\)"),
    ],
)
def test_what_no_two_raters_say(labels, predictions, sentence):
    with pytest.raises(ValueError, match=sentence):
        cohen_kappa(labels, predictions)


@pytest.mark.parametrize(
    ("confusion", "kappa"),
    [
        # Cohen, 1960, the worked example: p_o = 0.70, p_e = 0.41
        ([[88, 14, 18], [10, 40, 10], [2, 6, 12]], 0.492),
        # Artstein and Poesio, "Inter-coder agreement for computational linguistics", 2008,
        # Tables 1 and 4; scikit-learn's own tests have them too
        ([[20, 20], [10, 50]], 0.348),
        ([[46, 0, 0], [6, 32, 6], [0, 0, 10]], 0.8013),
        ([[25, 0, 0], [0, 25, 0], [0, 0, 50]], 1.0),
        ([[0, 50], [50, 0]], -1.0),
        ([[25, 25], [25, 25]], 0.0),
    ],
)
def test_published_tables_and_the_ends_of_the_range(confusion, kappa):
    assert kappa_of_confusion(np.array(confusion)) == pytest.approx(kappa, abs=5e-4)
    labels, predictions = np.indices(np.shape(confusion)).reshape(2, -1)
    times = np.ravel(confusion)
    raters = np.repeat(labels, times), np.repeat(predictions, times)
    assert cohen_kappa(*raters, num_classes=3) == pytest.approx(kappa, abs=5e-4)


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [([0, 0, 0], [0, 0, 0]), ([1, 1], [1, 1]), ([], []), ([1], [1])],
)
def test_kappa_where_it_is_0_over_0_is_0(labels, predictions):
    assert cohen_kappa(labels, predictions) == 0


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [([0, 0, 0], [1, 1, 1]), ([0, 1, 1], [1, 1, 1]), ([0, 0, 1], [0, 0, 0]), ([0], [1])],
)
def test_kappa_of_one_constant_rater_is_0_as_in_scikit_learn(labels, predictions):
    assert cohen_kappa(labels, predictions) == pytest.approx(
        cohen_kappa_score(labels, predictions), abs=1e-12
    )
    assert cohen_kappa(labels, predictions) == pytest.approx(0, abs=1e-12)


def test_kappa_is_symmetric_and_does_not_depend_on_the_names_of_classes():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 3, (2, 100))
    kappa = cohen_kappa(labels, predictions, 3)
    assert cohen_kappa(predictions, labels, 3) == pytest.approx(kappa, abs=1e-12)
    renamed = np.array([2, 0, 1])
    assert cohen_kappa(renamed[labels], renamed[predictions], 3) == pytest.approx(kappa, abs=1e-12)


def test_kappa_of_many_confusions_at_once():
    confusions = np.random.default_rng(1).integers(0, 9, (4, 5, 3, 3))
    kappas = kappa_of_confusion(confusions)
    assert kappas.shape == (4, 5)
    assert kappas[2, 3] == pytest.approx(kappa_of_confusion(confusions[2, 3]), abs=1e-12)


# Confusion matrices


def test_weighted_confusions_are_scikit_learns_for_one_system_and_for_many():
    rng = np.random.default_rng(6)
    labels, probabilities = rng.integers(0, 2, 40), rng.random((2, 3, 40)).round(1)
    weights = np.concatenate([np.ones((1, 40)), rng.integers(0, 4, (4, 40)), rng.random((4, 40))])
    confusions = weighted_confusion(labels, probabilities, weights)
    assert confusions.shape == (2, 3, 9, 2, 2)
    for system in np.ndindex(2, 3):
        one = weighted_confusion(labels, probabilities[system], weights)
        np.testing.assert_allclose(one, confusions[system])
        for found, weighting in zip(one, weights, strict=True):
            decided = probabilities[system] > 0.5
            expected = confusion_matrix(labels, decided, labels=[0, 1], sample_weight=weighting)
            np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_accuracy_of_many_confusions_is_scikit_learns(num_classes):
    rng = np.random.default_rng(num_classes)
    labels, predictions = rng.integers(0, num_classes, (2, 6, 30))
    pairs = list(zip(labels, predictions, strict=True))
    confusions = [confusion_matrix(*pair, labels=range(num_classes)) for pair in pairs]
    expected = [accuracy_score(*pair) for pair in pairs]
    assert accuracy_of_confusion(np.array(confusions)) == pytest.approx(expected)


def test_accuracy_of_an_empty_confusion_is_undefined_alone():
    accuracies = accuracy_of_confusion(np.array([[[0, 0], [0, 0]], [[3, 1], [0, 0]]]))
    assert np.isnan(accuracies[0]) and accuracies[1] == 0.75


# Scores


def scikit_learns(labels, probabilities, weights):
    predictions = np.asarray(probabilities) > 0.5
    return {
        "accuracy": accuracy_score(labels, predictions, sample_weight=weights),
        "kappa": cohen_kappa_score(labels, predictions, sample_weight=weights),
        "auroc": roc_auc_score(labels, probabilities, sample_weight=weights),
        "sensitivity": recall_score(labels, predictions, sample_weight=weights),
        "specificity": recall_score(labels, predictions, pos_label=0, sample_weight=weights),
    }


@pytest.mark.parametrize("decimals", [16, 1], ids=["distinct", "ties"])
def test_weighted_scores_are_scikit_learns(decimals):
    rng = np.random.default_rng(decimals)
    labels = rng.integers(0, 2, 60)
    probabilities = np.round(np.clip(rng.normal(0.35 + 0.3 * labels, 0.25), 0, 1), decimals)
    weights = np.concatenate([np.ones((1, 60)), rng.integers(0, 4, (20, 60)), rng.random((20, 60))])
    scores = weighted_scores(labels, probabilities, weights)
    for row, weighting in enumerate(weights):
        expected = scikit_learns(labels, probabilities, weighting)
        assert {name: values[row] for name, values in scores.items()} == pytest.approx(expected)


def test_a_weight_is_a_number_of_copies():
    rng = np.random.default_rng(3)
    labels, probabilities = rng.integers(0, 2, 30), rng.random(30).round(1)
    copies = rng.integers(0, 4, 30)
    weighted = weighted_scores(labels, probabilities, copies[None].astype(float))
    copied = weighted_scores(
        np.repeat(labels, copies), np.repeat(probabilities, copies), np.ones((1, copies.sum()))
    )
    for name in weighted:
        assert weighted[name] == pytest.approx(copied[name])


def test_the_threshold_itself_is_normal():
    scores = weighted_scores([0, 1], [THRESHOLD, np.nextafter(THRESHOLD, 1)], np.ones((1, 2)))
    assert scores["accuracy"] == scores["kappa"] == scores["sensitivity"] == 1


def test_auroc_of_equal_probabilities_is_a_half():
    assert weighted_scores([0, 1, 1], [0.3] * 3, np.ones((1, 3)))["auroc"] == 0.5


@pytest.mark.parametrize(
    ("labels", "undefined", "defined"),
    [([0, 0, 0], "sensitivity", "specificity"), ([1, 1, 1], "specificity", "sensitivity")],
)
def test_one_class_leaves_undefined_what_is_undefined(labels, undefined, defined):
    with np.errstate(all="raise"):
        scores = weighted_scores(labels, [0.2, 0.4, 0.9], np.ones((1, 3)))
    assert np.isnan(scores[undefined]) and np.isnan(scores["auroc"])
    assert scores[defined] == pytest.approx([2 / 3 if labels[0] == 0 else 1 / 3])
    assert scores["kappa"] == 0
    assert scores["accuracy"] == pytest.approx(scores[defined])


def test_a_weighting_without_a_class_is_undefined_alone():
    weights = np.array([[1.0, 1, 1], [1, 1, 0], [0, 0, 0]])
    scores = weighted_scores([0, 0, 1], [0.1, 0.6, 0.7], weights)
    assert np.isnan(scores["auroc"]).tolist() == [False, True, True]
    assert np.isnan(scores["accuracy"]).tolist() == [False, False, True]
    assert not np.isnan(scores["kappa"]).any()


# Bootstrap


def test_bootstrap_resamples_whole_patients():
    patients = np.array(["p3", "p1", "p1", "p2", "p3", "p3", "p4"])
    weights = bootstrap_weights(patients, 500, seed=0)
    assert weights.shape == (500, 7) and weights.dtype == float
    for patient in set(patients):
        mine = weights[:, patients == patient]
        assert (mine == mine[:, :1]).all()  # all studies of a patient or none
    firsts = weights[:, [0, 1, 3, 6]]  # one study of each patient
    assert (firsts.sum(axis=1) == 4).all()  # as many patients as there are
    assert len(np.unique(firsts, axis=0)) > 20
    assert weights.sum(axis=1).min() < 7 < weights.sum(axis=1).max()


def test_bootstrap_draws_each_patient_equally_often():
    weights = bootstrap_weights(np.arange(50), 4000, seed=1)
    assert weights.mean() == pytest.approx(1)
    assert np.abs(weights.mean(axis=0) - 1).max() < 5 / 4000**0.5
    expected = stats.binom(50, 1 / 50).pmf(np.arange(4))
    shares = [(weights == count).mean() for count in range(4)]
    assert shares == pytest.approx(expected, abs=0.01)


def test_bootstrap_depends_on_the_seed_alone():
    patients = ["a", "b", "b", "c"]
    first = bootstrap_weights(patients, 20, seed=0)
    assert np.array_equal(first, bootstrap_weights(patients, 20, seed=0))
    assert not np.array_equal(first, bootstrap_weights(patients, 20, seed=1))


def test_bootstrap_in_blocks_draws_what_it_draws_at_once(monkeypatch):
    patients = np.arange(30) // 2
    at_once = bootstrap_weights(patients, 100, seed=3)
    monkeypatch.setattr("mura_tf.evaluation.metrics.BLOCK", 210)
    blocks = [*bootstrap_blocks(patients, 100, seed=3)]
    assert [len(block) for block in blocks] == [7] * 14 + [2]
    assert np.array_equal(np.concatenate(blocks), at_once)


def test_a_bootstrap_of_no_sample_has_no_interval():
    assert bootstrap_weights(["a", "b", "b"], 0, seed=0).shape == (0, 3)


def test_one_patient_tells_nothing_of_others():
    """Drawn again and again, an interval of them would have no width."""
    weights = bootstrap_weights(["a", "a"], 10, seed=0)
    assert weights.shape == (10, 2) and np.isnan(weights).all()
    scores = weighted_scores([0, 1], [0.2, 0.8], weights)
    assert all(np.isnan(interval(values)).all() for values in scores.values())


# Intervals


def test_interval_is_the_percentiles():
    values = np.random.default_rng(0).normal(size=1001)
    assert interval(values) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def test_interval_leaves_undefined_replicates_out():
    values = np.array([np.nan, 1.0, np.nan, 3.0, 2.0])
    assert interval(values) == pytest.approx(tuple(np.percentile([1, 2, 3], [2.5, 97.5])))


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_interval_of_nothing_is_undefined(values):
    assert np.isnan(interval(np.array(values, float))).all()


def test_the_interval_of_an_accuracy_is_scipys_bootstrap():
    rng = np.random.default_rng(2)
    labels, probabilities = rng.integers(0, 2, 120), rng.random(120)
    weights = bootstrap_weights(np.arange(120), 4000, seed=0)
    ours = interval(weighted_scores(labels, probabilities, weights)["accuracy"])
    correct = (labels == (probabilities > 0.5)).astype(float)
    theirs = stats.bootstrap(
        (correct,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_the_interval_of_kappa_is_scipys_bootstrap():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 150)
    probabilities = np.clip(0.3 + 0.4 * labels + rng.normal(0, 0.3, 150), 0, 1)
    weights = bootstrap_weights(np.arange(150), 2000, seed=0)
    ours = interval(weighted_scores(labels, probabilities, weights)["kappa"])
    theirs = stats.bootstrap(
        (labels, probabilities > 0.5),
        lambda label, abnormal: cohen_kappa(label, abnormal),
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_the_95_percent_interval_covers_about_95_percent():
    """Patients have 1 to 3 equal studies; to resample studies would cover too rarely."""
    rng = np.random.default_rng(5)
    truth, trials, covered, naive = 0.8, 200, 0, 0
    for trial in range(trials):
        counts = rng.integers(1, 4, 60)
        patients = np.repeat(np.arange(60), counts)
        correct = np.repeat(rng.random(60) < truth, counts)
        labels = rng.integers(0, 2, len(patients))
        probabilities = np.where(correct == (labels == 1), 0.9, 0.1)
        for clusters, by_patient in ((patients, True), (np.arange(len(patients)), False)):
            weights = bootstrap_weights(clusters, 300, seed=trial)
            low, high = interval(weighted_scores(labels, probabilities, weights)["accuracy"])
            covered += by_patient and low <= truth <= high
            naive += (not by_patient) and low <= truth <= high
    assert 0.88 <= covered / trials <= 0.99
    assert naive < covered
