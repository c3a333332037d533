"""Scores over repeats and paired intervals, beside scikit-learn and a bootstrap in plain loops."""

from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score

from mura_tf.data.tasks import abnormality_of, class_of
from mura_tf.evaluation.comparison import MEASURES, decided_views, difference, repeated_scores
from mura_tf.evaluation.metrics import bootstrap_weights
from mura_tf.evaluation.scores import score, study_probabilities

TYPES = ["elbow", "wrist"]
NAMES = ["split", "study_type", "patient", "study"]


def studies_of(counts=(30, 45), backbone="xception", stage="type", repeats=3, skill=0.35, seed=0):
    """Studies of one system; patient k has one or two of them in each type."""
    rng = np.random.default_rng([seed, *backbone.encode(), *stage.encode()])
    rows = []
    for study_type, count in zip(TYPES, counts, strict=True):
        for number in range(count):
            label = int(number % 3 == 1)
            for repeat in range(repeats):
                rows.append(
                    {
                        "split": "valid",
                        "study_type": study_type,
                        "patient": f"patient{(3 * number) // 4:03}",
                        "study": f"study{number}",
                        "label": label,
                        "backbone": backbone,
                        "stage": stage,
                        "repeat": repeat,
                        "members": 5,
                        "views": 2,
                        "probability": np.clip(rng.normal(0.32 + skill * label, 0.25), 0, 1),
                    }
                )
    return pd.DataFrame(rows).sample(frac=1, random_state=seed).reset_index(drop=True)


def two_systems():
    return pd.concat([studies_of(), studies_of(backbone="densenet169", skill=0.2)])


@pytest.mark.parametrize("name", [*TYPES, "overall"])
def test_scores_are_scikit_learns_of_each_repeat(name):
    studies = two_systems()
    scores = repeated_scores(studies, TYPES, replicates=10)
    assert list(scores) == list(dict.fromkeys(zip(studies.backbone, studies.stage, strict=True)))
    for (backbone, stage), rows in scores.items():
        assert set(rows) == {*TYPES, "overall"}
        mine = studies[(studies.backbone == backbone) & (studies.stage == stage)]
        mine = mine if name == "overall" else mine[mine.study_type == name]
        assert len(rows[name].studies) == len(mine) / 3 == rows[name].studies.index.nunique()
        assert rows[name].members == 5
        for repeat, group in mine.groupby("repeat"):
            decided = group.probability > 0.5
            expected = cohen_kappa_score(group.label, decided)
            assert rows[name].values("kappa")[repeat] == pytest.approx(expected)
            expected = accuracy_score(group.label, decided)
            assert rows[name].values("accuracy")[repeat] == pytest.approx(expected)


def test_ensembles_are_the_means_over_members_and_views():
    rng = np.random.default_rng(0)
    keys = [(study, member, view) for study in range(40) for member in range(5) for view in "ab"]
    table = pd.DataFrame(keys, columns=["study", "member", "view"])
    table["label"] = table.study % 2
    table["probability"] = np.clip(rng.normal(0.4 + 0.2 * table.label, 0.3), 0, 1)
    facts = {"split": "valid", "study_type": "elbow", "backbone": "xception", "stage": "type"}
    table = table.assign(patient=table.study.astype(str), study="study1", repeat=0, **facts)
    scored = repeated_scores(study_probabilities(table), ["elbow"], replicates=5)
    ensemble = table.groupby("patient")[["label", "probability"]].mean()
    expected = cohen_kappa_score(ensemble.label, ensemble.probability > 0.5)
    assert scored["xception", "type"]["elbow"].values("kappa") == pytest.approx([expected])


def test_the_overall_interval_is_that_of_score():
    """One repeat, the same patients, the same seed: two ways to one interval."""
    studies = studies_of(repeats=1)
    overall = score(studies, replicates=500, seed=3).iloc[-1]
    scored = repeated_scores(studies, TYPES, replicates=500, seed=3)["xception", "type"]["overall"]
    assert scored.interval("kappa") == pytest.approx((overall.kappa_low, overall.kappa_high))


# ------------------------------------------------------------------------------------------------
# The bootstrap, beside plain loops


def naive_bootstrap(studies, name, replicates, seed):
    """Mean kappa over the repeats of each system in samples of patients; system -> list."""
    rng = np.random.default_rng(seed)
    by_patient = defaultdict(list)
    for row in studies.to_dict("records"):
        by_patient[row["patient"]].append(row)
    patients = sorted(by_patient)
    samples = defaultdict(list)
    for _ in range(replicates):
        drawn = defaultdict(list)
        for patient in rng.choice(patients, len(patients)):
            for row in by_patient[patient]:
                if name in ("overall", row["study_type"]):
                    drawn[row["backbone"], row["repeat"]].append(
                        (row["label"], row["probability"] > 0.5)
                    )
        kappas = defaultdict(list)
        for (backbone, _), pairs in drawn.items():
            kappas[backbone].append(plain_kappa(pairs))
        for backbone, of_repeats in kappas.items():
            samples[backbone].append(np.mean(of_repeats))
    return samples


def plain_kappa(pairs):
    agree = sum(label == decided for label, decided in pairs) / len(pairs)
    abnormal = [sum(pair[rater] for pair in pairs) / len(pairs) for rater in (0, 1)]
    chance = abnormal[0] * abnormal[1] + (1 - abnormal[0]) * (1 - abnormal[1])
    return (agree - chance) / (1 - chance)


@pytest.mark.parametrize("name", ["wrist", "overall"])
def test_intervals_are_those_of_a_naive_patient_bootstrap(name):
    studies = two_systems()
    naive = naive_bootstrap(studies, name, replicates=600, seed=1)
    scores = repeated_scores(studies, TYPES, replicates=4000)
    one, other = scores["xception", "type"][name], scores["densenet169", "type"][name]
    for mine, theirs in ((one, naive["xception"]), (other, naive["densenet169"])):
        assert mine.interval("kappa") == pytest.approx(np.percentile(theirs, [2.5, 97.5]), abs=0.03)
        assert mine.samples("kappa").std() == pytest.approx(np.std(theirs), rel=0.1)
    pairs = np.subtract(naive["xception"], naive["densenet169"])
    value, low, high = difference(one, other)
    assert value == pytest.approx(one.values("kappa").mean() - other.values("kappa").mean())
    assert (low, high) == pytest.approx(np.percentile(pairs, [2.5, 97.5]), abs=0.03)


def test_the_paired_interval_covers_the_true_difference():
    """Two systems that err together: the pairing makes the interval narrow and keeps it right."""
    rng = np.random.default_rng(7)
    covered, widths, unpaired = 0, [], []
    for trial in range(100):
        studies = correlated_systems(rng, patients=150)
        scores = repeated_scores(studies, ["elbow"], replicates=200, seed=trial)
        one, other = scores["one", "type"]["elbow"], scores["other", "type"]["elbow"]
        _, low, high = difference(one, other)
        covered += low <= TRUE_DIFFERENCE <= high
        widths.append(high - low)
        unpaired.append(np.hypot(*(np.diff(each.interval("kappa"))[0] for each in (one, other))))
    assert 0.88 <= covered / 100 <= 0.99
    assert np.mean(widths) < 0.8 * np.mean(unpaired)


def correlated_systems(rng, patients):
    """Half of the labels are abnormal; "one" is right in 90 % of the studies, "other" in 80 %."""
    label = rng.permutation(np.arange(patients) % 2)
    luck = rng.random(patients)
    tables = []
    for backbone, accuracy in (("one", 0.9), ("other", 0.8)):
        right = luck < accuracy
        table = pd.DataFrame({"patient": np.arange(patients).astype(str), "label": label})
        facts = {"split": "valid", "study_type": "elbow", "study": "study1", "stage": "type"}
        probability = np.where(right == (label == 1), 0.9, 0.1)
        table = table.assign(**facts, backbone=backbone, repeat=0, members=1, views=1)
        tables.append(table.assign(probability=probability))
    return pd.concat(tables)


TRUE_DIFFERENCE = 2 * 0.9 - 2 * 0.8
"""Kappa is 2 p - 1 where both labels are equally frequent and equally often right."""


def test_the_bootstrap_depends_on_the_seed_alone():
    studies = two_systems()
    first, again, other = (
        repeated_scores(rows, TYPES, replicates=50, seed=seed)
        for rows, seed in ((studies, 0), (studies.iloc[::-1], 0), (studies, 1))
    )
    for system in first:
        ours, same = (each[system]["overall"].samples("kappa") for each in (first, again))
        np.testing.assert_allclose(ours, same)
    assert not np.allclose(
        first["xception", "type"]["wrist"].samples("kappa"),
        other["xception", "type"]["wrist"].samples("kappa"),
    )


def test_a_patient_of_two_study_types_is_drawn_in_both():
    elbows = studies_of(counts=(30, 0))
    studies = pd.concat([elbows, elbows.assign(study_type="wrist")])
    rows = repeated_scores(studies, TYPES, replicates=100)["xception", "type"]
    np.testing.assert_allclose(rows["elbow"].samples("kappa"), rows["wrist"].samples("kappa"))
    np.testing.assert_allclose(rows["elbow"].samples("kappa"), rows["overall"].samples("kappa"))


# ------------------------------------------------------------------------------------------------
# What is lacking


def test_overall_needs_every_study_type():
    studies = two_systems()
    lacking = (studies.backbone == "densenet169") & (studies.study_type == "elbow")
    scores = repeated_scores(studies[~lacking], TYPES, replicates=10)
    assert set(scores["xception", "type"]) == {"elbow", "wrist", "overall"}
    assert set(scores["densenet169", "type"]) == {"wrist"}
    assert set(repeated_scores(studies, [*TYPES, "hand"], replicates=10)["xception", "type"]) == {
        *TYPES
    }


def test_a_repeat_counts_for_overall_where_it_has_all_types():
    studies = studies_of()
    unfinished = (studies.study_type == "elbow") & (studies["repeat"] == 1)
    unfinished |= (studies.study_type == "wrist") & (studies["repeat"] == 0)
    rows = repeated_scores(studies[~unfinished], TYPES, replicates=10)["xception", "type"]
    assert [len(rows[name].values("kappa")) for name in ("elbow", "wrist", "overall")] == [2, 2, 1]
    last = studies[studies["repeat"] == 2]
    expected = cohen_kappa_score(last.label, last.probability > 0.5)
    assert rows["overall"].values("kappa") == pytest.approx([expected])


def test_repeats_without_a_common_type_have_no_overall():
    studies = studies_of(repeats=2)
    crossed = (studies.study_type == "elbow") == (studies["repeat"] == 0)
    rows = repeated_scores(studies[crossed], TYPES, replicates=10)["xception", "type"]
    assert set(rows) == set(TYPES)


def test_a_system_that_saw_other_studies_is_named():
    studies = two_systems()
    lost = (studies.backbone == "densenet169") & (studies.study == "study7")
    lost &= (studies.study_type == "wrist") & (studies["repeat"] == 1)
    sentence = (
        r"densenet169, stage type, repeat 1 lacks 1 of 45, the first: "
        r"valid/wrist/patient005/study7 with the label 1\. The data set changed"
    )
    with pytest.raises(ValueError, match=sentence):
        repeated_scores(studies[~lost], TYPES, replicates=10)
    relabelled = studies.assign(label=studies.label.where(~lost, 0))
    with pytest.raises(ValueError, match="the same studies with the same labels"):
        repeated_scores(relabelled, TYPES, replicates=10)


def test_different_studies_are_not_compared():
    one = repeated_scores(studies_of(), TYPES, replicates=10)["xception", "type"]
    with pytest.raises(ValueError, match="Received: 30 and 45, 0 of them shared"):
        difference(one["elbow"], one["wrist"])


def test_a_sample_without_a_study_of_the_type_is_undefined_and_left_out():
    studies = studies_of(counts=(3, 60), repeats=1)  # of two patients, and of one class
    studies.loc[studies.study_type == "elbow", "label"] = 0
    studies = pd.concat([studies, studies.assign(backbone="densenet169")])
    rows = repeated_scores(studies, TYPES, replicates=400)["xception", "type"]
    undrawn = np.isnan(rows["elbow"].samples("kappa"))
    assert 0.05 < undrawn.mean() < 0.25  # (1 - 2/45)^45 is 0.13
    assert rows["elbow"].interval("kappa") == (0, 0)  # one class: 0 by definition
    assert not np.isnan(rows["overall"].samples("kappa")).any()
    value, low, high = difference(rows["elbow"], rows["elbow"])
    assert (value, low, high) == (0, 0, 0)


def test_one_class_has_kappa_0_and_an_accuracy():
    studies = studies_of(repeats=2).assign(label=0)
    rows = repeated_scores(studies, TYPES, replicates=20)["xception", "type"]["overall"]
    assert rows.values("kappa") == pytest.approx([0, 0])
    assert rows.interval("kappa") == pytest.approx((0, 0))
    assert 0 < rows.values("accuracy").min() < 1


def test_the_fewest_members_are_told():
    studies = studies_of()
    studies["members"] = np.where(studies.study_type == "elbow", 3, 5)
    rows = repeated_scores(studies, TYPES, replicates=10)["xception", "type"]
    assert [rows[name].members for name in ("elbow", "wrist", "overall")] == [3, 5, 3]


# ------------------------------------------------------------------------------------------------
# Measures of views, and the AUROC, beside scikit-learn and a bootstrap in plain loops


def predictions_of(system, skill, *, classes=(), members=2, seed=0):
    """A predictions table of one system: 60 patients, one or two studies of one to three views."""
    views = pd.DataFrame(
        [
            ("valid", TYPES[study % 2], f"p{patient}", f"s{study}", f"{view}.png")
            for patient in range(60)
            for study in range(1 + patient % 2)
            for view in range(1 + patient % 3)
        ],
        columns=[*NAMES, "view"],
    )
    rng = np.random.default_rng([seed, *system.encode()])
    patients = views.patient.str[1:].astype(int)
    views = views.assign(label=(patients % 4 == 0).astype(int), path="nowhere.png")
    tables = []
    for member in range(members):
        table = views.assign(backbone=system, stage="", repeat=0, member=member)
        if classes:
            truth = class_of(views, "type_and_abnormality")
            logits = rng.normal(0, 1, (len(views), len(classes)))
            logits += skill * (truth.to_numpy()[:, None] == np.array(classes))
            shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            table["probability"] = abnormality_of(shares, classes)
            table[[f"p:{name}" for name in classes]] = shares
        else:
            table["probability"] = np.clip(
                rng.normal(0.4 + skill * views.label, 0.2, len(views)), 0, 1
            )
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


CLASSES = tuple(f"{word}{name}" for name in TYPES for word in ("normal ", "abnormal "))
OF_VIEWS = ("view_accuracy", "class_accuracy")


def both(classes=(), **settings):
    """Predictions of two systems, and their scores on all studies."""
    tables = [
        predictions_of(name, skill, classes=classes) for name, skill in (("one", 0.3), ("two", 0.1))
    ]
    studies = study_probabilities(pd.concat(tables))
    decided = pd.concat(map(decided_views, tables), ignore_index=True)
    scores = repeated_scores(studies, TYPES, decided, **settings)
    return tables, [scores[name, ""]["overall"] for name in ("one", "two")]


def plain_views(table):
    """A row per view: patient, whether its label is told right, and whether its class is."""
    found = []
    for (*_, patient, _, _), rows in table.groupby([*NAMES, "view"]):
        label, study_type = rows.label.iloc[0], rows.study_type.iloc[0]
        right = (rows.probability.mean() > 0.5) == label
        of_class = right
        if columns := [name for name in rows if name.startswith("p:")]:
            shares = {name[2:]: rows[name].mean() for name in columns}
            word = "abnormal" if label else "normal"
            of_class = max(shares, key=shares.get) == f"{word} {study_type}"
        found.append((patient, right, of_class))
    return pd.DataFrame(found, columns=["patient", *OF_VIEWS])


@pytest.mark.parametrize("classes", [(), CLASSES], ids=["two labels", "classes"])
def test_accuracies_of_views_are_counted_and_paired_as_a_naive_bootstrap_has_them(classes):
    tables, scores = both(classes, replicates=4000)
    plain = [plain_views(table) for table in tables]
    rng = np.random.default_rng(1)
    patients = plain[0].patient.unique()
    rows_of = [dict(list(one.groupby("patient"))) for one in plain]
    drawn = [rng.choice(patients, len(patients)) for _ in range(800)]
    for measure in OF_VIEWS:
        naive = []
        for ours, one, rows in zip(scores, plain, rows_of, strict=True):
            assert ours.values(measure) == pytest.approx([one[measure].mean()])
            naive.append([pd.concat([rows[p][measure] for p in draw]).mean() for draw in drawn])
        value, low, high = difference(*scores, measure)
        assert value == pytest.approx(plain[0][measure].mean() - plain[1][measure].mean())
        expected = np.percentile(np.subtract(*naive), [2.5, 97.5])
        assert (low, high) == pytest.approx(expected, abs=0.02)
    told = np.array_equal(plain[0].view_accuracy, plain[0].class_accuracy)
    assert told == (not classes)


def test_the_auroc_is_scikit_learns_under_each_draw():
    tables, (one, _) = both(replicates=30)
    studies = study_probabilities(tables[0])
    assert one.values("auroc") == pytest.approx([roc_auc_score(studies.label, studies.probability)])
    weights = bootstrap_weights(one.bootstrap.patients, 30, 0)
    places = one.bootstrap.patients.get_indexer(studies.patient)
    for sample, weight in zip(one.samples("auroc"), weights, strict=True):
        expected = roc_auc_score(studies.label, studies.probability, sample_weight=weight[places])
        assert sample == pytest.approx(expected)


def test_what_decides_the_same_for_everything_is_told():
    table = predictions_of("one", 0.3)

    def constants(probability):
        changed = table.assign(probability=probability)
        studies, decided = study_probabilities(changed), decided_views(changed)
        score = repeated_scores(studies, TYPES, decided, replicates=2)["one", ""]["overall"]
        return [score.constant(measure) for measure in MEASURES]

    ranked = 0.5 * table.probability  # none above 0.5, and still in order
    at = "constant at 0.5"
    assert constants(ranked) == ["", at, at, at, ""]  # two classes, normal of each type
    by_type = np.where(table.study_type == "elbow", ranked, 1 - ranked)
    assert constants(by_type) == ["", *[f"{at} in each study type"] * 3, ""]
    assert constants(table.probability) == [""] * 5


def test_a_class_for_every_view_is_constant():
    table = predictions_of("one", 0.3, classes=CLASSES)
    table[[f"p:{name}" for name in CLASSES]] = [0.4, 0.3, 0.2, 0.1]
    table["probability"] = 0.4
    scores = repeated_scores(study_probabilities(table), TYPES, decided_views(table), replicates=2)
    score = scores["one", ""]["overall"]
    assert score.constant("class_accuracy") == "constant"
    assert score.constant("kappa") == "constant at 0.5"


def test_a_measure_of_views_needs_views():
    score = repeated_scores(studies_of(), TYPES, replicates=2)["xception", "type"]["overall"]
    with pytest.raises(ValueError, match=r"a measure of views needs views\. Received: studies"):
        score.values("view_accuracy")


def test_a_study_type_of_one_patient_has_no_interval():
    studies = studies_of()
    wrist = studies.study_type == "wrist"
    studies.loc[wrist, "study"] += studies.patient[wrist]
    studies.loc[wrist, "patient"] = studies.patient.iloc[0]
    (by_type,) = repeated_scores(studies, TYPES).values()
    assert np.isnan(by_type["wrist"].interval("kappa")).all()
    assert not np.isnan(by_type["wrist"].values("kappa")).any()
    assert not np.isnan(by_type["elbow"].interval("kappa")).any()
