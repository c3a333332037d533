"""Views whose label is unknown: predicted, averaged, shown, written and read; never scored."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from networks import of_one_convolution

from mura_tf.data.check import check_views
from mura_tf.data.counts import summarize
from mura_tf.data.pipeline import make_dataset
from mura_tf.data.study import study_data
from mura_tf.data.table import as_labels
from mura_tf.data.views import load_mura, load_views, read_views
from mura_tf.evaluation.classes import score_classes
from mura_tf.evaluation.comparison import repeated_scores
from mura_tf.evaluation.predictions import predict_views, read_predictions, write_predictions
from mura_tf.evaluation.scores import score, score_systems, study_probabilities, view_probabilities
from mura_tf.explain.ensemble import Ensemble
from mura_tf.reports.decision_section import decisions_of
from mura_tf.reports.experiment_page import write_scored
from mura_tf.reports.score_plots import plot_reliability
from mura_tf.reports.study_page import explain_studies, plot_study
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import finished_runs, load_predictions
from mura_tf.training.systems import systems_of
from mura_tf.training.train import train

STUDY = ["split", "study_type", "patient", "study"]


@pytest.fixture(scope="module")
def model():
    return of_one_convolution()


@pytest.fixture(scope="module")
def views(lesions):
    return load_mura(lesions)


@pytest.fixture
def predictions(model, views):
    """Of the valid split, whose first study's label is unknown and whose last one's is 2."""
    valid = views[views.split == "valid"].reset_index(drop=True)
    table = predict_views(model, valid)
    return table.assign(label=as_labels(labels_of(valid)))


def labels_of(valid):
    labels = valid.label.astype(float)
    labels[(valid[STUDY] == valid.iloc[0][STUDY]).all(axis=1)] = np.nan
    labels[(valid[STUDY] == valid.iloc[-1][STUDY]).all(axis=1)] = 2
    return labels


# Labels


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pd.Series([0, 1, 2]), [0, 1, 2]),
        (pd.Series([0.0, 1.0]), [0, 1]),
        (pd.Series(["1", "0"]), [1, 0]),
        (pd.Series([1.0, np.nan, 0.0]), [1, pd.NA, 0]),
        (pd.Series(["1", "", None]), [1, pd.NA, pd.NA]),
        (pd.Series([1, pd.NA], dtype="Int64"), [1, pd.NA]),
        (pd.Series([np.nan, np.nan]), [pd.NA, pd.NA]),
        (pd.Series([], dtype=object), []),
    ],
)
def test_labels_are_whole_numbers_or_unknown(given, expected):
    labels = as_labels(given)
    assert labels.tolist() == expected
    assert labels.dtype == ("Int64" if any(map(pd.isna, expected)) else int)
    assert as_labels(labels).equals(labels)


@pytest.mark.parametrize("label", ["fractured", 0.5, "0.5"])
def test_a_label_that_is_no_number(label):
    with pytest.raises(ValueError, match=rf"nothing where it is unknown\. Received: .*{label}"):
        as_labels(pd.Series([1, label, None]))


# Predicting


def test_a_prediction_does_not_hang_on_the_label(model, views):
    valid = views[views.split == "valid"]
    expected = predict_views(model, valid)
    assert expected.label.dtype == int
    others = {
        "with unknown ones": valid.assign(label=labels_of(valid.reset_index(drop=True)).array),
        "all unknown": valid.assign(label=np.nan),
        "of another kind": valid.assign(label=7),
        "without the column": valid.drop(columns="label"),
    }
    for name, table in others.items():
        found = predict_views(model, table)
        assert np.allclose(found.probability, expected.probability, atol=1e-6), name
        assert found.label.dtype == (int if name == "of another kind" else "Int64"), name
    assert predict_views(model, others["all unknown"]).label.isna().all()
    assert predict_views(model, others["without the column"]).label.isna().all()


def test_what_is_trained_on_needs_labels(views):
    for label, count in ((np.nan, len(views)), (2, len(views))):
        with pytest.raises(ValueError, match=rf"Received: {count} of {count} views .*predict_view"):
            make_dataset(views.assign(label=label), image_size=32)


# Studies and views


def test_means_keep_labels_as_they_are(predictions):
    studies = study_probabilities(predictions)
    by_study = predictions.groupby(STUDY, sort=False)
    assert studies.probability.tolist() == pytest.approx(by_study.probability.mean().tolist())
    assert studies.label.isna().tolist() == by_study.label.first().isna().tolist()
    assert studies.label.isna().sum() == 1 and (studies.label == 2).sum() == 1
    of_views = view_probabilities(predictions)
    assert len(of_views) == len(predictions)
    assert of_views.label.isna().sum() == predictions.label.isna().sum()
    assert set(of_views.label.dropna()) == {0, 1, 2}


def test_a_study_of_known_and_unknown_labels_has_two(predictions):
    study = predictions.groupby(STUDY, sort=False).filter(lambda rows: len(rows) == 2).head(2)
    study = study.assign(label=as_labels(pd.Series([np.nan, 1.0], study.index)))
    with pytest.raises(ValueError, match=r"a study has one label\. 1 studies have two, the first"):
        study_probabilities(study)


# Scores


def test_scoring_them_is_a_sentence(predictions):
    studies = study_probabilities(predictions)
    first = "/".join(studies.iloc[0][STUDY])
    sentence = rf"labels of 0 and 1\. Received: 2 of {len(studies)} rows .*{first}, whose label is"
    for scored in (
        lambda: score(studies),
        lambda: score_systems(predictions),
        lambda: repeated_scores(studies, ["elbow", "wrist"]),
        lambda: plot_reliability(studies),
    ):
        with pytest.raises(ValueError, match=f"{sentence} unknown"):
            scored()
    known = studies[studies.label.isin([0, 1])]
    assert score(known).n.iloc[-1] == len(studies) - 2
    with pytest.raises(ValueError, match=r"Received: 1 of .* whose label is 2\. Label them"):
        score(studies[studies.label.notna()])


def test_classes_of_study_types_alone_need_no_labels(predictions):
    types = {"p:elbow": 0.6, "p:wrist": 0.4}
    assert score_classes(predictions.assign(**types), "study_type").confusion.to_numpy().sum() > 0
    classes = {f"p:{word} {name}": 0.25 for name in ("elbow", "wrist") for word in ("normal", "ab")}
    with pytest.raises(ValueError, match=r"Received: .* whose label is unknown"):
        score_classes(predictions.assign(**classes), "type_and_abnormality")


# Files


def test_a_predictions_table_comes_back(predictions, tmp_path):
    for name, table in {
        "some": predictions,
        "all known": predictions[predictions.label.isin([0, 1])].astype({"label": int}),
        "none": predictions.assign(label=as_labels(predictions.label * pd.NA)),
        "no probability": predictions.assign(probability=np.nan),
    }.items():
        table = table.reset_index(drop=True)
        path = tmp_path / name / "predictions.csv"
        write_predictions(table, path)
        again = read_predictions(path)
        pd.testing.assert_frame_equal(again, table, check_dtype=False)
        assert again.label.dtype == table.label.dtype, name
        pd.testing.assert_frame_equal(load_predictions([path.parent]), again)
        write_predictions(again, tmp_path / "again.csv")
        assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()
    header, first, *_, last = (tmp_path / "some" / "predictions.csv").read_text().splitlines()
    place = header.split(",").index("label")
    assert (first.split(",")[place], last.split(",")[place]) == ("", "2")
    predictions.to_csv(tmp_path / "own.csv", index=False)  # as a notebook would
    assert read_predictions(tmp_path / "own.csv").label.tolist() == predictions.label.tolist()


def test_a_views_table_may_lack_labels_where_nothing_is_trained_on(views, tmp_path):
    labels = views.label.astype(str).where(views.split == "train", "")
    views.assign(label=labels).to_csv(tmp_path / "views.csv", index=False)
    table = read_views(tmp_path / "views.csv")
    assert table.label.isna().equals(table.split != "train")
    assert table[table.split == "train"].label.tolist() == (
        views[views.split == "train"].label.tolist()
    )
    counts = summarize(table)
    assert counts.loc[("All types", "Normal"), ("valid", "Images")] == 0
    assert counts.loc[("Total", ""), ("valid", "Images")] == (views.split == "valid").sum()
    for label, split in (("", "train"), ("2", "valid"), ("x", "valid")):
        first = views.index[views.split == split][0]
        views.assign(label=views.label.astype(str).where(views.index != first, label)).to_csv(
            tmp_path / "bad.csv", index=False
        )
        wrong = "no label in the split train" if not label else f"label '{label}'"
        with pytest.raises(ValueError, match=rf"or none outside train\. Received: .*{wrong}"):
            read_views(tmp_path / "bad.csv")


def test_the_checks_take_unknown_labels_for_no_contradiction(views, tmp_path):
    """The files lie in study1_negative and study1_positive; of two equal ones one has no label."""
    labels = views.label.astype(float)
    labels[views.split == "valid"] = np.nan
    table = views.assign(label=as_labels(labels))
    assert check_views(table).empty
    copy = table.iloc[[0]].assign(split="valid", patient="other", label=pd.NA)
    shutil.copy(copy.path.iloc[0], tmp_path / "image1.png")
    copy = copy.assign(path=str(tmp_path / "image1.png"))
    found = check_views(pd.concat([table, copy], ignore_index=True))
    assert found.problem.tolist() == ["leak"]
    assert "label unknown" in found.reason[0]


def test_a_study_of_which_some_views_have_a_label_is_told_before_training(views, tmp_path):
    study = views[views.split == "valid"].groupby(STUDY, sort=False).filter(lambda of: len(of) > 1)
    first = study.iloc[0]
    views = views.assign(split=views.split.where(views.patient != first.patient, "test"))
    labels = views.label.astype(float).where(views.index != first.name)
    views = views.assign(label=as_labels(labels))
    views.to_csv(tmp_path / "views.csv", index=False)
    for told in (
        lambda: load_views(tmp_path / "views.csv"),
        lambda: train(Recipe(backbone="small_cnn", weights=None), views, tmp_path / "run"),
    ):
        with pytest.raises(ValueError, match=r"has label unknown here and label [01] in"):
            told()
    assert "two labels" in set(check_views(views).problem)


def test_the_data_study_leaves_them_out(views, tmp_path):
    labels = views.label.astype(float)
    labels[views.split == "valid"] = np.nan
    found = study_data(
        views.assign(label=as_labels(labels)), image_size=8, per_class=[2], cache_dir=tmp_path
    )
    unlabelled = (views.split == "valid").sum()
    assert found.remarks[0] == f"{unlabelled} views without a label are left out."
    assert list(found.counts) == ["train"]


# Training


def test_a_run_predicts_them_and_never_trains_on_them(views, tmp_path, eagerly):
    recipe = Recipe(backbone="small_cnn", weights=None, image_size=32, max_epochs=1)
    valid = views[views.split == "valid"]
    copies = [shutil.copy(path, tmp_path / f"{row}.png") for row, path in enumerate(valid.path)]
    more = valid.assign(split="test", patient="new" + valid.patient, label=np.nan)
    more["path"] = [str(one) for one in copies]
    table = pd.concat([views, more], ignore_index=True)
    table["label"] = as_labels(table.label)
    run = train(recipe, table, tmp_path / "run", verbose=0)
    known = train(recipe, views, tmp_path / "known", verbose=0)
    assert (run.path / "history.csv").read_bytes() == (known.path / "history.csv").read_bytes()
    found = run.predictions
    assert found.label.isna().equals(found.split == "test")
    assert set(score_systems(found).split) == {"valid"}  # the last that has labels
    for split in ("train", "valid"):
        wrong = views.assign(label=as_labels(views.label.where(views.split != split)))
        with pytest.raises(ValueError, match=rf"needs a label, 0 or 1\. .* without, in {split},"):
            train(recipe, wrong, tmp_path / "wrong", verbose=0)


# Figures and pages


def test_figures_say_nothing_of_what_is_not_known(predictions):
    for label, ending in ((np.nan, None), (2, None), (1, "labelled abnormal")):
        study = predictions.iloc[:1].assign(label=as_labels(pd.Series([label])).array)
        title = plot_study(study, np.zeros((1, 32, 32))).get_suptitle()
        assert title.endswith(ending) if ending else "labelled" not in title


def test_pages_show_them(members, lesions, tmp_path, eagerly):
    runs = finished_runs(sorted(members.iterdir()))
    for run in runs:
        table = run.predictions
        unknown = table.patient == table.patient[0]
        labels = table.label.astype("Int64").mask(unknown)
        folder = tmp_path / run.path.name
        folder.mkdir()
        for name in ("recipe.json", "run.json", "history.csv", "best.keras"):
            (folder / name).write_bytes((run.path / name).read_bytes())
        write_predictions(table.assign(label=labels), folder / "predictions.csv")
    folders = [tmp_path / run.path.name for run in runs]
    ensemble = Ensemble(folders, lesions)
    known = ensemble.reported.label.notna()
    assert 0 < (~known).sum() < len(known)
    studies = ensemble.top("confident", 100)
    assert len(studies) == len(ensemble.reported.drop_duplicates(STUDY))
    for study in ensemble.top("wrong", 100):
        assert study.label.notna().all()
    *_, page = explain_studies(ensemble, studies, lesions, tmp_path / "out", order="confident")
    text = page.read_text()
    assert text.count("; labelled ") == sum(one.label.notna().all() for one in studies)
    predictions = load_predictions(folders)
    with pytest.raises(ValueError, match="whose label is unknown"):
        score_systems(predictions)
    (system,) = systems_of(folders)
    rows = system.predictions
    known = replace(system, predictions=rows[rows.label.notna()])
    scores = score_systems(known.predictions)
    write_scored([system], scores, decisions_of([known]), tmp_path / "report.html")
    assert "labelled" in (tmp_path / "report.html").read_text()


def test_labels_stay_with_their_rows_where_an_index_names_several():
    """As that of two tables laid one below the other."""
    known, unknown = pd.Series([1, 0]), pd.Series([None, None])
    found = as_labels(pd.concat([known, unknown]))
    assert found.isna().tolist() == [False, False, True, True]
    assert found.index.tolist() == [0, 1, 0, 1] and found.tolist()[:2] == [1, 0]
