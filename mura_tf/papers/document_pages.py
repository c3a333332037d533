"""A document report -> Markdown, CSV and HTML, and its plots."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mura_tf.evaluation.classes import ClassScores
from mura_tf.files import write_texts, written_whole
from mura_tf.papers.claim_pages import claim_section
from mura_tf.papers.class_pages import class_figures, class_lines, class_section, plot_samples
from mura_tf.papers.document_tables import CHOSEN
from mura_tf.published import OVERALL
from mura_tf.reports.constant import CONSTANT
from mura_tf.reports.curve_plots import plot_system_curves
from mura_tf.reports.experiment_page import protocol
from mura_tf.reports.kappas import kappa_section
from mura_tf.reports.markdown import ending, listed_lines
from mura_tf.reports.numbers import number_text, with_interval
from mura_tf.reports.page import (
    WARNING,
    drawn,
    escaped,
    list_section,
    plots_section,
    png,
    write_page,
)
from mura_tf.reports.score_plots import plot_kappa
from mura_tf.reports.section import Section
from mura_tf.reports.style import SYSTEM_COLOURS
from mura_tf.training.run import Run

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
            `system, title, backbone, study_type, pooled` (whether the row is of several types),
            `views, studies, accuracy` (of the views, or of their classes) with its interval,
            `published_accuracy`, at study level `kappa, auroc` with their intervals, and
            `called_abnormal`, how many studies.
        epochs: a row per system: `system, title, models, epochs, chosen`, the means over its runs
            of `CHOSEN` at the chosen epoch, and the published values where the document has them.
        classes: name of a system with classes -> how well it tells them apart.
        decided: of `decided_views`, with the systems' names as backbones.
        claims: of `answer_claims`.
        constants: sentences on systems and runs that decide the same for everything.
        deviations: sentences.
        remarks: sentences on what the scores are of.
        missing: sentences about runs that are planned and not finished.
        split: the reported one.
        references: of `mura_kappas`, or no rows of it: what stands beside our kappas.
        quoted: `title, study_type, accuracy` of published systems that are none of ours.
        counts: `title, study_type, count` of the data, ours and published.
        split_counts: of `split_counts`.
        chosen_epochs: of `chosen_epochs`.
        leaderboard: of `leaderboard`.
    """

    scores: pd.DataFrame
    epochs: pd.DataFrame
    classes: dict[str, ClassScores]
    decided: pd.DataFrame
    claims: pd.DataFrame
    constants: list[str]
    deviations: list[str]
    remarks: list[str]
    missing: list[str]
    split: str
    references: pd.DataFrame
    quoted: pd.DataFrame
    counts: pd.DataFrame
    split_counts: pd.DataFrame
    chosen_epochs: pd.DataFrame
    leaderboard: pd.DataFrame


ClassPart = tuple[str, ClassScores, dict[str, tuple[str, str]], tuple[str, bytes] | None]
"""Title, scores, drawings, and the samples' file name and PNG, of a system with classes."""


class _Page(NamedTuple):
    """What the Markdown and the HTML are made of."""

    title: str
    told: str
    missing: list[str]
    constants: list[str]
    sections: list[Section]
    classes: list[ClassPart]
    figures: dict[str, tuple[str, str]]
    deviations: list[str]


def write_pages(
    report: DocumentReport, title: str, runs: dict[str, list[Run]], folder: Path
) -> None:
    """Writes `table.md`, `scores.csv`, `claims.csv`, `epochs.csv`, `report.html` and the plots.

    Args:
        report: what they say.
        title: what they are called.
        runs: those of each system, by its title.
        folder: where they go.
    """
    every = [run for found in runs.values() for run in found]
    figures = drawn(_figures(report, runs))
    titles = dict(zip(report.epochs.system, report.epochs.title, strict=True))
    classes: list[ClassPart] = []
    for name, scores in report.classes.items():
        histories = [run.history for run in runs[titles[name]]]
        drawings = drawn(class_figures(scores, histories, prefix=name))
        figure = plot_samples(report.decided[report.decided.backbone == name])
        samples = (f"{name}-samples.png", png(figure)) if figure else None
        classes.append((titles[name], scores, drawings, samples))
    every_drawing = [figures, *(drawings for _, _, drawings, _ in classes)]
    texts = {f"{stem}.svg": text for one in every_drawing for stem, (text, _) in one.items()}
    texts["scores.csv"] = report.scores.to_csv(index=False)
    texts["claims.csv"] = report.claims.to_csv(index=False)
    texts["epochs.csv"] = report.epochs.to_csv(index=False)
    page = _Page(
        title,
        protocol(report.split, every),
        report.missing,
        report.constants,
        _sections(report),
        classes,
        figures,
        report.deviations,
    )
    texts["table.md"] = _markdown(page)
    write_texts(folder, texts)
    for file, drawing in (samples for *_, samples in classes if samples):
        with written_whole(folder / file) as part:
            part.write_bytes(drawing)
    write_page(folder / "report.html", title, _html(page))


# ------------------------------------------------------------------------------------------------
# Tables


def _sections(report: DocumentReport) -> list[Section]:
    sections = [
        _result_section(report),
        _accuracy_section(report),
        Section(*kappa_section(report.scores, report.references)),
        _epoch_section(report),
    ]
    if len(report.chosen_epochs):
        sections.append(_chosen_section(report))
    if len(report.leaderboard):
        sections.append(_leaderboard_section(report))
    if len(report.split_counts):
        sections.append(_split_section(report))
    if len(report.claims):
        sections.insert(1, claim_section(report.claims))
    return sections


def _result_section(report: DocumentReport) -> Section:
    headers = ["System", "Backbone", "Study types", "Views", "Accuracy [95 %]", "Published"]
    headers += ["Studies", "Kappa [95 %]", "AUROC [95 %]"]
    rows = []
    for _, group in report.scores.groupby("system", sort=False):
        types = list(group.study_type[~group.pooled])
        pooled = group.pooled.any() and len(types) > 1
        for row in group[group.pooled if pooled else ~group.pooled].itertuples():
            named = types if pooled else [row.study_type]
            rows.append(
                [
                    row.title,
                    row.backbone,
                    ", ".join(named) if len(named) <= 3 else str(len(named)),
                    f"{row.views:,}",
                    with_interval(row.accuracy, row.accuracy_low, row.accuracy_high),
                    number_text(row.published_accuracy),
                    f"{row.studies:,}",
                    with_interval(row.kappa, row.kappa_low, row.kappa_high),
                    with_interval(row.auroc, row.auroc_low, row.auroc_high),
                ]
            )
    of_views = report.claims.measure.isin(["view_accuracy", "class_accuracy"]).any()
    whose = (", as in the document; kappa" if of_views else "; kappa, as in the document,") + " "
    note = (
        f"Accuracy is of single views{whose}and AUROC are of studies, and of abnormal against "
        "normal for every system. The intervals are of a bootstrap that resamples patients."
    )
    return Section("Result", note, headers, rows, words=(0, 1, 2), below=report.remarks)


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


def _chosen_section(report: DocumentReport) -> Section:
    chosen = report.chosen_epochs
    types = _columns(chosen)
    rows = []
    for title, group in chosen.groupby("title", sort=False):
        by_type = group.set_index("study_type").reindex(types)
        rows.append([title, *(number_text(epoch, ".4g") for epoch in by_type.epoch)])
        rows.append(["published", *(number_text(epoch, ".4g") for epoch in by_type.published)])
    note = "Means over a system's members; overall is of one model on all study types."
    return Section("Chosen epochs, by study type", note, ["System", *types], rows)


def _leaderboard_section(report: DocumentReport) -> Section:
    rows = [
        [
            row.title,
            number_text(row.rank, ".0f", nothing=""),
            with_interval(row.kappa, row.kappa_low, row.kappa_high),
        ]
        for row in report.leaderboard.itertuples()
    ]
    note = (
        "The document's list is of MURA's test set, which is not public, and of abnormal against "
        "normal; ours are of the reported split."
    )
    headers = ["Model", "Rank", "Kappa of studies [95 %]"]
    return Section("The leaderboard that the document shows, with ours", note, headers, rows)


def _split_section(report: DocumentReport) -> Section:
    headers, rows = ["Study type", "Label"], []
    splits = {"train": "Trained on", "valid": "Selected on", "test": "Reported"}
    for text in splits.values():
        headers += [text, "Published"]
    counts = report.split_counts.set_index(["study_type", "label", "split"])
    for study_type, label in counts.index.droplevel("split").unique():
        cells = counts.loc[study_type, label].reindex(list(splits))
        texts = (number_text(value, ",.0f") for value in cells.to_numpy().ravel())
        rows.append([study_type, "abnormal" if label else "normal", *texts])
    return Section("Images by split and label", "", headers, rows, words=(0, 1))


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
        if not curves:
            continue
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
    lines = [f"# {page.title}", "", page.told, *listed_lines("Missing", page.missing)]
    lines += [*listed_lines(CONSTANT, page.constants), ""]
    for section in page.sections:
        lines += section.markdown
    for title, scores, drawings, samples in page.classes:
        lines += class_lines(title, scores, drawings, samples and samples[0])
    return "\n".join(lines + ending(page.figures, page.deviations))


def _html(page: _Page) -> list[str]:
    parts = [
        f"""<header><p class="kind">mura_tf comparison</p><h1>{escaped(page.title)}</h1>
<p>{escaped(page.told)}</p>
{WARNING}</header>""",
        list_section("Missing", page.missing),
        list_section(CONSTANT, page.constants),
        *(section.html for section in page.sections),
    ]
    parts += [
        class_section(title, scores, drawings, samples and samples[1])
        for title, scores, drawings, samples in page.classes
    ]
    parts.append(plots_section(page.figures))
    parts.append(list_section("Deviations from the document", page.deviations, numbered=True))
    return parts
