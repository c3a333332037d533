"""The scores over classes as a page shows them, read back; runs were never trained."""

import base64

import cv2
import numpy as np
import pandas as pd
import pytest
from class_predictions import TASK, predictions_of
from document_runs import done
from pages import Page
from run_folders import TYPES
from sklearn.metrics import accuracy_score, cohen_kappa_score

from mura_tf.data.tasks import class_of
from mura_tf.evaluation.classes import MACRO, MEASURES, MICRO, WEIGHTED, score_classes
from mura_tf.papers.class_pages import (
    class_figures,
    class_lines,
    class_section,
    plot_samples,
    published_report,
)
from mura_tf.papers.document_reports import report_comparison
from mura_tf.papers.reproduce import find_experiment
from mura_tf.reports.page import svg, write_page


def pages_of(scores, tmp_path, title="Exp 6"):
    """The HTML page, the Markdown and the names of the figures."""
    histories = [pd.DataFrame({"epoch": [1, 2, 3], "learning_rate": [1e-3, 1e-3, 2e-4]})]
    figures = class_figures(scores, histories, "exp_6")
    drawings = {stem: (svg(figure, stem), text) for stem, (figure, text) in figures.items()}
    page = write_page(tmp_path / "page.html", title, [class_section(title, scores, drawings, None)])
    return Page(page), "\n".join(class_lines(title, scores, drawings, None)), list(figures)


def test_a_learning_rate_that_never_changes_is_not_drawn():
    scores = score_classes(predictions_of(types=TYPES), TASK)
    history = pd.DataFrame({"epoch": [1, 2], "learning_rate": [1e-3, 1e-3]})
    changing = history.assign(learning_rate=[1e-3, 1e-4])
    assert list(class_figures(scores, [history], "exp_1")) == ["exp_1-confusion", "exp_1-roc"]
    assert "exp_1-learning-rate" in class_figures(scores, [history, changing], "exp_1")


def test_fig_30_stands_beside_ours_where_the_classes_are_its_fourteen(tmp_path):
    scores = score_classes(predictions_of(types=TYPES), TASK)
    page, text, stems = pages_of(scores, tmp_path)
    (rows,) = page.tables
    assert rows[0] == ["Class", "Views", *("Precision", "003", "Recall", "003"), "F1", "003",
                       "AUROC", "003"]  # fmt: skip
    assert [row[0] for row in rows[1:]] == list(scores.table.index)
    named = {row[0]: row[1:] for row in rows[1:]}
    assert named["abnormal elbow"][2::2] == ["0.88", "0.74", "0.80", "0.99"]
    assert named["abnormal hand"][2::2] == ["0.86", "0.42", "0.56", "0.97 to 0.98"]
    assert named["normal hand"][2::2] == ["0.70", "0.96", "0.81", ""]
    assert named[MACRO][2::2] == ["0.80", "0.77", "0.78", "0.99"]
    assert named[WEIGHTED][2::2] == ["0.80", "0.79", "0.78", ""]
    assert named[MICRO][2::2] == ["", "", "", "0.99"]
    ours = scores.table.loc["abnormal hand"]
    assert named["abnormal hand"][0] == str(int(ours.support))
    assert named["abnormal hand"][1::2] == [f"{ours[name]:.3f}" for name in MEASURES]
    assert "these are other views" in page.text
    assert [name for name, _ in page.tags].count("svg") == 3
    markdown = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in markdown]
    assert [cells[0], *cells[2:]] == rows
    for stem in stems:
        assert f"]({stem}.svg)" in text


def test_other_classes_have_no_published_columns(tmp_path):
    assert published_report(TYPES) is None
    scores = score_classes(predictions_of(), TASK)
    page, text, _ = pages_of(scores, tmp_path)
    assert page.tables[0][0] == ["Class", "Views", "Precision", "Recall", "F1", "AUROC"]
    assert "003" not in page.text + text and "†" not in page.text
    summary = f"kappa of the 6 classes {scores.kappa:.3f}"
    assert summary in page.text and summary in text


def test_a_class_without_views_is_marked(tmp_path):
    predictions = predictions_of()
    gone = class_of(predictions, TASK) == "abnormal hand"
    page, text, _ = pages_of(score_classes(predictions[~gone], TASK), tmp_path)
    row = ["abnormal hand †", "0", *["\N{EN DASH}"] * 4]
    assert row in page.tables[0] and f"| {' | '.join(row)} |" in text
    assert "† No view of this class" in page.text and "† No view of this class" in text


def test_text_from_outside_is_text(tmp_path):
    nasty = '<b>|"$x$'
    page, text, _ = pages_of(score_classes(predictions_of(types=(nasty, "hand")), TASK), tmp_path)
    assert f"normal {nasty}" in [row[0] for row in page.tables[0]]
    assert '| normal <b>\\|"$x$ |' in text


def test_classes_are_counted_as_classes(tmp_path):
    """Accuracy is over the classes, kappa over abnormal and normal."""
    experiment = find_experiment("fourteen_classes")
    plan = done(experiment, tmp_path, systems=["exp_6"], members=2)
    report = report_comparison(experiment, plan, tmp_path)
    views = pd.concat([pd.read_csv(run.folder / "predictions.csv") for run in plan])
    classes = [name for name in views if name.startswith("p:")]
    assert len(classes) == 4
    key = ["study_type", "patient", "study", "view", "label"]
    means = views.groupby(key)[[*classes, "probability"]].mean().reset_index()
    decided = means[classes].idxmax(axis=1).str[2:]
    truth = means.label.map({0: "normal ", 1: "abnormal "}) + means.study_type
    (overall,) = report.scores.query("study_type == 'overall'").itertuples()
    assert overall.accuracy == pytest.approx(accuracy_score(truth, decided))
    assert overall.published_accuracy == 0.79
    kappa = cohen_kappa_score(means.label, means.probability > 0.5)
    assert overall.kappa == pytest.approx(kappa)
    (row,) = report.epochs.itertuples()
    assert (row.published_loss, row.published_val_accuracy) == (0.37, 0.81)


def test_samples_show_the_class_and_what_a_view_is_taken_for(tmp_path):
    """The surest right one and the surest wrong one of each class, of images that are there."""
    experiment = find_experiment("fourteen_classes")
    plan = done(experiment, tmp_path, systems=["exp_1"])
    folder = experiment.folder(tmp_path)
    report = report_comparison(experiment, plan, tmp_path)
    assert not (folder / "exp_1-samples.png").exists()  # nowhere.png
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.arange(200, dtype=np.uint8).reshape(20, 10))
    path = plan[0].folder / "predictions.csv"
    table = pd.read_csv(path, dtype={"patient": str})
    table.assign(path=str(image)).to_csv(path, index=False, na_rep="nan")
    report = report_comparison(experiment, plan, tmp_path)
    assert "](exp_1-samples.png)" in (folder / "table.md").read_text(encoding="utf-8")
    png = base64.b64encode((folder / "exp_1-samples.png").read_bytes()).decode()
    assert png in (folder / "report.html").read_text(encoding="utf-8")
    classes = [name for name in table if name.startswith("p:")]
    decided = table[classes].idxmax(axis=1).str[2:]
    share = table[classes].max(axis=1)
    truth = table.label.map({0: "normal ", 1: "abnormal "}) + table.study_type
    expected = []
    for right, mark in ((decided == truth, "\N{CHECK MARK}"), (decided != truth, "\N{BALLOT X}")):
        best = share[right].groupby(truth[right]).idxmax()
        rows = sorted(best, key=lambda row: -share[row])
        expected += [f"{truth[row]}\n{mark} {decided[row]}, {share[row]:.2f}" for row in rows]
    figure = plot_samples(report.decided)
    shown = [caption.get_text() for axes in figure.axes for caption in axes.texts]
    assert shown == expected and len(shown) == 8
    assert "Not a medical device" in figure.get_supxlabel()
