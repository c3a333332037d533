"""Scores over classes -> figures, HTML and Markdown for a report, beside document 003's values."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mura_tf.data.tasks import class_of
from mura_tf.evaluation.classes import AVERAGES, MACRO, MEASURES, MICRO, ClassScores
from mura_tf.published import published_table
from mura_tf.reports.class_plots import plot_confusion, plot_roc
from mura_tf.reports.curve_plots import plot_learning_rates
from mura_tf.reports.markdown import markdown_table
from mura_tf.reports.numbers import interval_text, number_text
from mura_tf.reports.page import captioned, escaped, inline_png, text_table
from mura_tf.reports.radiograph_plots import Picture, plot_radiographs
from mura_tf.reports.style import colour_of

SAMPLES = 6
"""Views of each kind."""
SAMPLES_CAPTION = (
    "The surest right predictions, then the surest wrong ones, each of another class: the class, "
    "what the view is taken for, and that class's probability"
)
NO_VIEWS = " †"
"""Marks a class without views in the split."""
_SOURCES = ("003, Fig. 30", "003, Section V, after Fig. 31")
_HEADERS = {"precision": "Precision", "recall": "Recall", "f1": "F1", "auroc": "AUROC"}


def class_figures(
    scores: ClassScores, histories: list[pd.DataFrame], prefix: str
) -> dict[str, tuple[Figure, str]]:
    """File name -> figure, caption; no learning rate where it never changes.

    Args:
        scores: of `score_classes`.
        histories: the `history.csv` of each of the system's runs.
        prefix: what the names begin with, so that the systems of a page have different ones.
    """
    figures = {
        f"{prefix}-confusion": (
            plot_confusion(scores.confusion),
            "Confusion matrix: views by class and decision, with the share of the class",
        ),
        f"{prefix}-roc": (
            plot_roc(scores),
            "One-against-rest ROC curves with their areas; in grey, the macro average",
        ),
    }
    if any(np.ptp(history.learning_rate) > 0 for history in histories):
        figures[f"{prefix}-learning-rate"] = (
            plot_learning_rates(histories),
            "Learning rate in each epoch, a line per run",
        )
    return figures


def plot_samples(decided: pd.DataFrame) -> Figure | None:
    """Views with their class and what they are taken for: right ones, then wrong ones.

    Args:
        decided: of `decided_views`, of one system; the surest of each kind are shown, each of
            another class.

    Returns:
        A figure; None where no file of them can be read.
    """
    surest = decided.sort_values("share", ascending=False, kind="stable")
    right = surest.decided == surest.true_class
    pictures = []
    for kind, mark, colour in (
        (right, "\N{CHECK MARK}", "green"),
        (~right, "\N{BALLOT X}", "orange"),
    ):
        for view in surest[kind].drop_duplicates("true_class").head(SAMPLES).itertuples():
            caption = f"{view.true_class}\n{mark} {view.decided}, {view.share:.2f}"
            pictures.append(Picture(view.path, caption, colour))
    figure = plot_radiographs(pictures, columns=SAMPLES)
    if figure:
        notice = "Not a medical device: research software."
        figure.supxlabel(notice, x=0, ha="left", fontsize=7, color=colour_of("muted"))
    return figure


def class_section(
    title: str,
    scores: ClassScores,
    drawings: dict[str, tuple[str, str]],
    samples: bytes | None,
) -> str:
    """HTML: the summary, the report table and the figures of one system.

    Args:
        title: of the section.
        scores: of `score_classes`.
        drawings: `class_figures`, drawn: file name -> `page.svg`, caption.
        samples: `plot_samples` as PNG, or None.
    """
    published = published_report(scores.classes)
    listed = text_table(*_report(scores, published))
    shown = "".join(captioned(drawing, stem, text) for stem, (drawing, text) in drawings.items())
    notes = "".join(f"<p class='note'>{escaped(text)}</p>" for text in _notes(scores, published))
    wall = inline_png(samples, SAMPLES_CAPTION) if samples else ""
    return (
        f"<section><h2>{escaped(title)}</h2><p>{escaped(class_summary(scores))}</p>"
        f"<div class='stack'><div>{listed}{notes}</div>{shown}{wall}</div></section>"
    )


def class_lines(
    title: str,
    scores: ClassScores,
    drawings: dict[str, tuple[str, str]],
    samples: str | None,
) -> list[str]:
    """Markdown: what `class_section` has, with the figures as files beside it.

    Args:
        title, scores, drawings: see `class_section`.
        samples: the name of the PNG file, or None.
    """
    published = published_report(scores.classes)
    lines = [f"## {title}", "", class_summary(scores), ""]
    lines += [*markdown_table(*_report(scores, published)), ""]
    for sentence in _notes(scores, published):
        lines += [sentence, ""]
    for stem, (_, caption) in drawings.items():
        lines += [f"![{caption}]({stem}.svg)", ""]
    if samples:
        lines += [f"![{SAMPLES_CAPTION}]({samples})", ""]
    return lines


def class_summary(scores: ClassScores) -> str:
    """Accuracy, kappa with its interval, micro and macro AUROC, in a sentence."""
    count = scores.members
    models = "one model" if count == 1 else f"the mean of {count} models"
    interval = interval_text(scores.kappa_low, scores.kappa_high)
    return (
        f"{scores.table.support[MICRO]:,} views of the {scores.split} split, {models}, image "
        f"level: accuracy {scores.accuracy:.3f}, kappa of the {len(scores.classes)} classes "
        f"{number_text(scores.kappa)} (95 % {interval}), AUROC "
        f"{number_text(scores.table.auroc[MICRO])} micro, "
        f"{number_text(scores.table.auroc[MACRO])} macro."
    )


def published_report(classes: list[str]) -> pd.DataFrame | None:
    """Document 003's report and AUROCs, where the classes are its fourteen; None elsewhere.

    Returns:
        str, a row per class, then the `AVERAGES`; columns `MEASURES` and `support`; "" where it
        prints nothing.

    Source: Fig. 30, and the text below Fig. 31, which gives some AUROCs as a range.
    """
    rows = published_table("fourteen_classes").query("system == 'exp_6' and split == 'test'")
    rows = rows[rows.source.isin(_SOURCES)]
    of_class = rows[rows.label.notna()]
    cells = of_class.assign(row=class_of(of_class.astype({"label": int}), "type_and_abnormality"))
    if set(cells.row) != set(classes):
        return None
    overall = rows[rows.label.isna()]
    word, measure = overall.metric.str.split("_", n=1, expand=True).to_numpy().T
    overall = overall.assign(row=word + " average", metric=measure)
    cells = pd.concat([cells, overall]).dropna(subset="metric")
    cells = cells.pivot(index="row", columns="metric", values="value")  # noqa: PD010
    texts = cells.map(lambda value: "" if np.isnan(value) else f"{value:.2f}")
    texts["support"] = cells.support.map(lambda value: "" if np.isnan(value) else f"{value:.0f}")
    ranges = texts.auroc_at_least + " to " + texts.auroc_at_most
    texts["auroc"] = texts.auroc.where(texts.auroc_at_least == "", ranges)
    return texts.loc[[*classes, *AVERAGES], [*MEASURES, "support"]]


def _report(
    scores: ClassScores, published: pd.DataFrame | None
) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the report table, as text."""
    headers = ["Class", "Views"]
    for name in MEASURES:
        headers += [_HEADERS[name], "003"] if published is not None else [_HEADERS[name]]
    rows = []
    for name, ours in scores.table.iterrows():
        cells = [name if ours.support else name + NO_VIEWS, f"{ours.support:,.0f}"]
        for measure in MEASURES:
            cells.append(number_text(ours[measure]))
            if published is not None:
                cells.append(published[measure][name])
        rows.append(cells)
    return headers, rows


def _notes(scores: ClassScores, published: pd.DataFrame | None) -> list[str]:
    support = scores.table.support
    sentences = []
    if (support == 0).any():
        sentences.append(
            "† No view of this class is in the split: nothing can be said of it, and the averages "
            "are those of the other classes."
        )
    if published is not None:
        same = (published.support[scores.classes] == support[scores.classes].map(str)).all()
        views = "these views" if same else "MURA's validation set, and these are other views"
        sentences.append(
            f"Columns 003: the document's experiment 6 (Fig. 30, text below Fig. 31); its test set "
            f"is {views}. It prints an accuracy of 0.79. Its kappa of 0.612 (Fig. 36) is not the "
            "one of fourteen classes, which by Fig. 30 is about 0.77."
        )
    return sentences
