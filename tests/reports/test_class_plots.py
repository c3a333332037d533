"""Confusions and ROC curves as they are drawn, read back from the figures."""

import pandas as pd
import pytest
from class_predictions import predictions_of
from figures import texts_of

from mura_tf.evaluation.classes import MACRO, MICRO, score_classes
from mura_tf.reports.class_plots import plot_confusion, plot_roc
from mura_tf.reports.style import LABEL_COLOURS, colour_of


def test_a_cell_of_the_confusion_matrix_says_and_shows_its_share():
    names = ["normal elbow", "abnormal elbow", "normal $x_1$"]
    counts = [[1350, 0, 150], [5, 5, 0], [0, 0, 0]]
    figure = plot_confusion(pd.DataFrame(counts, names, names))
    (axes,) = figure.axes
    assert texts_of(axes) == ["1,350", "90%", "150", "10%", "5", "50%", "5", "50%"]
    corners = [patch.get_xy() for patch in axes.patches]
    assert corners == [(-0.5, -0.5), (1.5, -0.5), (-0.5, 0.5), (0.5, 0.5)]
    assert [patch.get_alpha() for patch in axes.patches] == pytest.approx([0.9, 0.1, 0.5, 0.5])
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    colours = [text.get_color() for text in axes.texts[::2]]
    assert colours == [colour_of(name) for name in ("paper", "ink", "ink", "ink")]


def test_every_class_has_its_roc_curve_in_its_types_panel():
    scores = score_classes(predictions_of(), "type_and_abnormality")
    figure = plot_roc(scores)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["elbow", "hand", "wrist", "averages"]
    expected = [(f"normal {name}", f"abnormal {name}") for name in titles[:3]] + [(MICRO, MACRO)]
    for axes, names in zip(figure.axes, expected, strict=True):
        macro, *lines = axes.lines
        assert (macro.get_xydata() == scores.curves[MACRO]).all()
        for line, name in zip(reversed(lines), names, strict=True):
            assert (line.get_xydata() == scores.curves[name]).all()
    normal, abnormal = (scores.table.auroc[f"{word} hand"] for word in ("normal", "abnormal"))
    assert texts_of(figure.axes[1]) == [f"abnormal {abnormal:.3f}", f"normal {normal:.3f}"]
    assert [line.get_color() for line in figure.axes[1].lines[1:]] == [
        colour_of(LABEL_COLOURS[label]) for label in (1, 0)
    ]


@pytest.mark.filterwarnings("error")
def test_a_class_without_a_curve_has_a_dash():
    predictions = predictions_of(types=("elbow", "hand"))
    rows = predictions[(predictions.study_type != "hand") | (predictions.label == 0)]
    figure = plot_roc(score_classes(rows, "type_and_abnormality"))
    figure.draw_without_rendering()
    assert texts_of(figure.axes[1])[0] == "abnormal \N{EN DASH}"


def test_study_types_as_classes_have_a_panel_each():
    scores = score_classes(predictions_of(task="study_type"), "study_type")
    figure = plot_roc(scores)
    assert texts_of(figure.axes[0]) == [f"{scores.table.auroc['elbow']:.3f}"]
