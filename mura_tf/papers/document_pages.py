"""A document report -> Markdown, CSV and HTML, and its plots."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mura_tf.evaluation.classes import ClassScores
from mura_tf.files import write_texts
from mura_tf.papers.class_pages import class_figures, class_lines, class_section
from mura_tf.papers.table_pages import CLAIM_HEADERS, CLAIM_WORDS, claim_rows
from mura_tf.published import OVERALL, published_table
from mura_tf.reports.curve_plots import plot_system_curves
from mura_tf.reports.experiment_page import protocol
from mura_tf.reports.markdown import ending, markdown_table, missing_lines
from mura_tf.reports.numbers import interval_text, number_text, with_interval
from mura_tf.reports.page import (
    WARNING,
    drawn,
    escaped,
    list_section,
    plots_section,
    text_table,
    write_page,
)
from mura_tf.reports.score_plots import plot_kappa
from mura_tf.reports.style import SYSTEM_COLOURS
from mura_tf.training.run import Run

CHOSEN = ("loss", "accuracy", "val_loss", "val_accuracy", "val_f1", "data_loss", "val_data_loss")
"""What is told of a run's chosen epoch, of the columns of its history."""
_DATA_TERMS = {
    "data_loss": "Training loss, data alone",
    "val_data_loss": "Validation loss, data alone",
}
"""The columns of `CHOSEN` that only runs with a penalty have."""


@dataclass(frozen=True)
class DocumentReport:
    """What a comparison says, before it is laid out.

    Attributes:
        scores: a row per system and study type, "overall" for the systems that have all of them:
            `system, title, backbone, study_type, views, studies, accuracy` (of the views),
            `published_accuracy`, and at study level `kappa, auroc` with their intervals.
        epochs: a row per system: `system, title, models, epochs, chosen`, the means over its runs
            of `CHOSEN` at the chosen epoch, and the published values where the document has them.
        classes: name of a system with classes -> how well it tells them apart.
        claims: of `answer_claims`.
        deviations: sentences.
        missing: sentences about runs that are planned and not finished.
        split: the reported one.
        readers: whether the radiologists' kappas stand beside ours.
        quoted: `title, study_type, accuracy` of published systems that are none of ours.
        counts: `title, study_type, count` of the data, ours and published.
    """

    scores: pd.DataFrame
    epochs: pd.DataFrame
    classes: dict[str, ClassScores]
    claims: pd.DataFrame
    deviations: list[str]
    missing: list[str]
    split: str
    readers: bool
    quoted: pd.DataFrame
    counts: pd.DataFrame


class Section(NamedTuple):
    """A table of the report, for Markdown and HTML alike; cells are text."""

    heading: str
    note: str
    headers: list[str]
    rows: list[list[str]]
    words: tuple[int, ...] = (0,)


class _Page(NamedTuple):
    """What the Markdown and the HTML are made of."""

    title: str
    told: str
    missing: list[str]
    sections: list[Section]
    classes: list[tuple[str, ClassScores, dict[str, tuple[str, str]]]]  # title, scores, drawings
    figures: dict[str, tuple[str, str]]
    deviations: list[str]


def write_pages(
    report: DocumentReport, title: str, runs: dict[str, list[Run]], folder: Path
) -> None:
    """Writes `table.md`, `scores.csv`, `epochs.csv`, `report.html` and the plots.

    Args:
        report: what they say.
        title: what they are called.
        runs: those of each system, by its title.
        folder: where they go.
    """
    every = [run for found in runs.values() for run in found]
    figures = drawn(_figures(report, runs))
    titles = dict(zip(report.epochs.system, report.epochs.title, strict=True))
    classes = []
    for name, scores in report.classes.items():
        histories = [run.history for run in runs[titles[name]]]
        drawings = drawn(class_figures(scores, histories, prefix=name))
        classes.append((titles[name], scores, drawings))
    every_drawing = [figures, *(drawings for _, _, drawings in classes)]
    texts = {f"{stem}.svg": text for one in every_drawing for stem, (text, _) in one.items()}
    texts["scores.csv"] = report.scores.to_csv(index=False)
    texts["epochs.csv"] = report.epochs.to_csv(index=False)
    told, sections = protocol(report.split, every), _sections(report)
    page = _Page(title, told, report.missing, sections, classes, figures, report.deviations)
    texts["table.md"] = _markdown(page)
    write_texts(folder, texts)
    write_page(folder / "report.html", title, _html(page))


# ------------------------------------------------------------------------------------------------
# Tables


def _sections(report: DocumentReport) -> list[Section]:
    sections = [
        _result_section(report),
        _accuracy_section(report),
        _kappa_section(report),
        _epoch_section(report),
    ]
    if len(report.claims):
        rows = claim_rows(report.claims)
        sections.insert(1, Section("The document's claims", "", CLAIM_HEADERS, rows, CLAIM_WORDS))
    return sections


def _result_section(report: DocumentReport) -> Section:
    headers = ["System", "Backbone", "Study types", "Views", "Accuracy", "Published", "Studies"]
    headers += ["Kappa [95 %]", "AUROC [95 %]"]
    rows = []
    for _, group in report.scores.groupby("system", sort=False):
        overall = group.study_type == OVERALL
        types = list(group.study_type[~overall])
        pooled = overall.any() and len(types) > 1
        for row in group[overall if pooled else ~overall].itertuples():
            named = types if pooled else [row.study_type]
            rows.append(
                [
                    row.title,
                    row.backbone,
                    ", ".join(named) if len(named) <= 3 else str(len(named)),
                    f"{row.views:,}",
                    number_text(row.accuracy),
                    number_text(row.published_accuracy),
                    f"{row.studies:,}",
                    with_interval(row.kappa, row.kappa_low, row.kappa_high),
                    with_interval(row.auroc, row.auroc_low, row.auroc_high),
                ]
            )
    note = (
        "Accuracy is of single views, as in the document; kappa and AUROC are of studies, and of "
        "abnormal against normal for every system. The intervals are of a bootstrap that "
        "resamples patients."
    )
    return Section("Result", note, headers, rows, words=(0, 1, 2))


def _accuracy_section(report: DocumentReport) -> Section:
    """A row per system, a column per study type; the published values below ours."""
    types = _columns(report.scores)
    rows = []
    for title, group in report.counts.groupby("title", sort=False):
        counts = group.set_index("study_type")["count"].reindex(types)
        rows.append([title, *("" if np.isnan(count) else f"{count:,.0f}" for count in counts)])
    for title, group in report.scores.groupby("title", sort=False):
        by_type = group.set_index("study_type").reindex(types)
        rows.append([title, *map(number_text, by_type.accuracy)])
        if by_type.published_accuracy.notna().any():
            rows.append(["published", *map(number_text, by_type.published_accuracy)])
    for title, group in report.quoted.groupby("title"):
        accuracies = group.set_index("study_type").accuracy.reindex(types)
        rows.append([f"published: {title}", *map(number_text, accuracies)])
    return Section("Accuracy of views, by study type", "", ["System", *types], rows)


def _kappa_section(report: DocumentReport) -> Section:
    heading, note = "Kappa of studies with its 95 % interval, by study type", ""
    scores = report.scores
    if report.readers:
        heading += ", beside three radiologists"
        note = "The radiologists read studies of MURA's test set, which is not public."
        readers = published_table("radiologists").rename(columns={"reader": "title"})
        scores = pd.concat([scores, readers])
    types = _columns(scores)
    rows = []
    for title, group in scores.groupby("title", sort=False):
        by_type = group.set_index("study_type").reindex(types)
        rows.append([title, *map(number_text, by_type.kappa)])
        rows.append(["95 %", *map(interval_text, by_type.kappa_low, by_type.kappa_high)])
    return Section(heading, note, ["System", *types], rows)


def _columns(scores: pd.DataFrame) -> list[str]:
    return [*sorted(set(scores.study_type) - {OVERALL}), OVERALL]


def _epoch_section(report: DocumentReport) -> Section:
    headers = ["System", "Models", "Epochs", "Chosen", "Training loss", "Accuracy"]
    headers += ["Validation loss", "Accuracy", "Macro F1"]
    terms = [name for name in _DATA_TERMS if report.epochs[name].notna().any()]
    headers += [_DATA_TERMS[name] for name in terms]
    rows = []
    for row in report.epochs.itertuples():
        ours = [number_text(getattr(row, name)) for name in (*CHOSEN[:5], *terms)]
        rows.append([row.title, str(row.models), f"{row.epochs:.1f}", f"{row.chosen:.1f}", *ours])
        theirs = [getattr(row, f"published_{name}") for name in CHOSEN[:4]]
        if not np.isnan(theirs).all():
            theirs = [*map(number_text, theirs), "", *("" for _ in terms)]
            rows.append(["published", "", "", "", *theirs])
    note = "Means over a system's models. The loss is weighted where the recipe balances labels."
    if terms:
        note += " It contains the L1 and L2 of the head, which the data alone do not."
    return Section("At the chosen epoch", note, headers, rows)


# ------------------------------------------------------------------------------------------------
# Plots


def _figures(report: DocumentReport, runs: dict[str, list[Run]]) -> dict[str, tuple[Figure, str]]:
    """File name -> figure, caption; as many systems in a figure as colours tell apart."""
    figures = {}
    for number, titles in enumerate(_chunks(runs), start=1):
        rows = report.scores[report.scores.title.isin(titles)]
        scored = list(rows.title.unique())
        if scored:
            rows = rows.assign(stage="", repeat=0, backbone=rows.system, system=rows.title)
            caption = "Study-level kappa with 95 % intervals"
            figures[f"kappa{number}"] = plot_kappa(rows), caption
        curves: dict[str, dict[str, list[tuple[pd.DataFrame, int]]]] = {}
        for title in titles:
            for run in runs[title]:
                histories = curves.setdefault(run.trained_on, {}).setdefault(title, [])
                histories.append((run.history, run.info["best_epoch"]))
        others = [title for title in titles if title not in scored]
        caption = "Loss and accuracy over the epochs; a dot marks the epoch that was chosen"
        figures[f"curves{number}"] = plot_system_curves(curves, scored + others), caption
    return figures


def _chunks(titles: Iterable[str]) -> list[list[str]]:
    """As few parts as colours allow, of even size: pairs of systems stay together.

    >>> [len(part) for part in _chunks("abcdefghij")]
    [6, 4]
    """
    items = list(titles)
    parts = -(-len(items) // (len(SYSTEM_COLOURS) // 2 * 2))
    size = -(-len(items) // parts // 2) * 2
    return [items[start : start + size] for start in range(0, len(items), size)]


# ------------------------------------------------------------------------------------------------
# Pages


def _markdown(page: _Page) -> str:
    lines = [f"# {page.title}", "", page.told, *missing_lines(page.missing), ""]
    for section in page.sections:
        lines += [f"## {section.heading}", ""]
        lines += [section.note, ""] if section.note else []
        lines += [*markdown_table(section.headers, section.rows, section.words), ""]
    for of_system in page.classes:
        lines += class_lines(*of_system)
    return "\n".join(lines + ending(page.figures, page.deviations))


def _html(page: _Page) -> list[str]:
    parts = [
        f"""<header><p class="kind">mura_tf comparison</p><h1>{escaped(page.title)}</h1>
<p>{escaped(page.told)}</p>
{WARNING}</header>""",
        list_section("Missing", page.missing),
    ]
    for section in page.sections:
        listed = text_table(section.headers, section.rows, section.words)
        note = f"<p class='note'>{escaped(section.note)}</p>" if section.note else ""
        parts.append(f"<section><h2>{escaped(section.heading)}</h2>{note}{listed}</section>")
    parts += [class_section(*of_system) for of_system in page.classes]
    parts.append(plots_section(page.figures))
    parts.append(list_section("Deviations from the document", page.deviations, numbered=True))
    return parts
