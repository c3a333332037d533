"""A table report -> Markdown, CSV and HTML in the document's own layout, and its plots."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mura_tf.comparison import System
from mura_tf.experiment import facts_of
from mura_tf.files import write_json, written_whole
from mura_tf.page import escaped, inline_svg, minus, svg, table, write_page
from mura_tf.parameters import markdown_table
from mura_tf.plots import plot_kappa, plot_parameters, plot_reliability, plot_run_curves
from mura_tf.report import protocol
from mura_tf.run import Run

OVERALL = "overall"
MEASURES = ("accuracy", "accuracy_std", "kappa", "kappa_std", "kappa_low", "kappa_high")
NOTHING = "\u2013"
STAGE_LABELS = {"imagenet": "ImageNet", "mura": "whole data", "type": "ImageNet + whole data"}


@dataclass(frozen=True)
class TableReport:
    """What a table says, before it is laid out.

    Attributes:
        cells: a row per system and study type: `backbone, stage, study_type, n, members, repeats`,
            the `MEASURES`, the published ones (`published_accuracy`, ...), `difference` (ours minus
            the published kappa) and `best` (of its study type).
        claims: of `answer_claims`.
        pairs: `one, other, difference, low, high` of overall kappa, a row per two systems.
        deviations: sentences.
        missing: sentences about runs that are planned and not finished.
        split: the reported one.
        same_data: whether these are the studies of the published table.
    """

    cells: pd.DataFrame
    claims: pd.DataFrame
    pairs: pd.DataFrame
    deviations: list[str]
    missing: list[str]
    split: str
    same_data: bool


def write_pages(
    report: TableReport,
    title: str,
    studies: pd.DataFrame,
    runs: list[Run],
    folder: Path,
) -> None:
    figures = {
        stem: (svg(figure, stem), caption)
        for stem, (figure, caption) in _figures(report, studies, runs).items()
    }
    for stem, (drawing, _) in figures.items():
        with written_whole(folder / f"{stem}.svg") as part:
            part.write_text(drawing, encoding="utf-8")
    with written_whole(folder / "table.csv") as part:
        _write_csv(report, part)
    text = _markdown(report, title, figures, protocol(report.split, runs))
    with written_whole(folder / "table.md") as part:
        part.write_text(text, encoding="utf-8")
    write_json(folder / "experiment.json", facts_of(runs))
    write_page(folder / "report.html", title, _sections(report, title, figures, runs))


def _figures(
    report: TableReport, studies: pd.DataFrame, runs: list[Run]
) -> dict[str, tuple[Figure, str]]:
    """File name -> figure, caption."""
    rows = report.cells.assign(repeat=0)
    figures = {
        "kappa": (plot_kappa(rows), "Study-level kappa with 95 % intervals"),
        "reliability": (
            plot_reliability(studies),
            "How often a study was abnormal, against the predicted probability",
        ),
        "curves": (
            plot_run_curves(runs),
            "Learning curves of all runs; a dot marks the chosen epoch",
        ),
    }
    overall = rows[(rows.study_type == OVERALL)]
    if len(overall):
        caption = "Overall kappa against the number of parameters; hollow is published"
        figures["parameters"] = (plot_parameters(overall), caption)
    return figures


def system_labels(systems: list[System]) -> dict[System, str]:
    """What tells the systems apart: the backbone, the stage or both."""
    backbones, stages = ({system[part] for system in systems} for part in (0, 1))
    if len(stages) == 1:
        return {system: system[0] for system in systems}
    if len(backbones) == 1:
        return {system: STAGE_LABELS[system[1]] for system in systems}
    return {system: f"{system[0]}, {STAGE_LABELS[system[1]]}" for system in systems}


def _systems(cells: pd.DataFrame) -> list[System]:
    return list(dict.fromkeys(zip(cells.backbone, cells.stage, strict=True)))


def _row_names(cells: pd.DataFrame) -> list[str]:
    types = sorted(set(cells.study_type) - {OVERALL})
    return [*types, OVERALL] if OVERALL in set(cells.study_type) else types


def _grid(report: TableReport, bold: str) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of text; `bold` is the format of a best kappa, such as "**{}**"."""
    cells = report.cells.set_index(["backbone", "stage", "study_type"])
    headers = ["Study type"]
    for label in system_labels(_systems(report.cells)).values():
        headers += [f"{label}: accuracy", "kappa", "95 %", "published kappa"]
        headers += ["difference"] if report.same_data else []
    rows = []
    for study_type in _row_names(report.cells):
        row = [study_type.capitalize()]
        for system in _systems(report.cells):
            if (*system, study_type) not in cells.index:
                row += [NOTHING] * (5 if report.same_data else 4)
                continue
            cell = cells.loc[(*system, study_type)]
            kappa = _with_deviation(cell.kappa, cell.kappa_std)
            row += [
                _with_deviation(cell.accuracy, cell.accuracy_std),
                bold.format(kappa) if cell.best else kappa,
                f"{cell.kappa_low:.3f} to {cell.kappa_high:.3f}",
                _with_deviation(cell.published_kappa, cell.published_kappa_std),
            ]
            if report.same_data:
                row.append(_signed(cell.difference))
        rows.append(row)
    return headers, rows


def _with_deviation(value: float, deviation: float) -> str:
    if np.isnan(value):
        return NOTHING
    return f"{value:.3f}" if np.isnan(deviation) else f"{value:.3f} ({deviation:.3f})"


def _signed(value: float) -> str:
    return NOTHING if np.isnan(value) else f"{value:+.3f}"


def _write_csv(report: TableReport, path: Path) -> None:
    """The document's layout with a number a cell: rows study types, columns system and measure."""
    cells = report.cells.set_index(["backbone", "stage", "study_type"])
    measures = ["n", "members", "repeats", *MEASURES]
    measures += [f"published_{measure}" for measure in MEASURES[:4]]
    systems = _systems(report.cells)
    names = [f"{'/'.join(system)} {measure}" for system in systems for measure in measures]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["study_type", *names])
        for study_type in _row_names(report.cells):
            row = []
            for system in systems:
                key = (*system, study_type)
                known = key in cells.index
                values = cells.loc[key, measures] if known else [None] * len(measures)
                row += ["" if pd.isna(value) else value for value in values]
            writer.writerow([study_type, *row])


def _claim_rows(report: TableReport) -> list[list[str]]:
    return [
        [
            row.claim,
            row.answer,
            row.measure,
            NOTHING if np.isnan(row.value) else f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]",
            f"{row.above:.3f}",
            row.source,
        ]
        for row in report.claims.itertuples()
    ]


CLAIM_HEADERS = ["Claim", "Holds here", "Measure", "Value", "Holds above", "Source"]
PAIR_HEADERS = ["System", "minus", "Difference in overall kappa", "95 %"]


def _pair_rows(report: TableReport) -> list[list[str]]:
    return [
        [row.one, row.other, _signed(row.difference), f"{row.low:+.3f} to {row.high:+.3f}"]
        for row in report.pairs.itertuples()
    ]


def _markdown(report: TableReport, title: str, figures: dict, protocol_text: str) -> str:
    lines = [f"# {title}", "", protocol_text, ""]
    lines += markdown_table(*_grid(report, "**{}**"))
    lines += ["", "Mean (deviation) over the repeats; the best kappa of each row is bold."]
    if report.missing:
        lines += ["", "## Missing", "", *(f"- {sentence}" for sentence in report.missing)]
    if len(report.claims):
        lines += ["", "## The document's claims", ""]
        lines += markdown_table(CLAIM_HEADERS, _claim_rows(report))
    if len(report.pairs):
        lines += ["", "## Systems in pairs", ""]
        lines += markdown_table(PAIR_HEADERS, _pair_rows(report))
    lines += ["", "## Plots", ""]
    lines += [f"![{caption}]({stem}.svg)\n" for stem, (_, caption) in figures.items()]
    lines += ["## Deviations from the document", ""]
    lines += [f"{number}. {text}" for number, text in enumerate(report.deviations, start=1)]
    lines += ["", "Not a medical device.", ""]
    return "\n".join(lines)


def _sections(report: TableReport, title: str, figures: dict, runs: list[Run]) -> list[str]:
    headers, rows = _grid(report, "<b>{}</b>")
    rows = [[minus(cell) for cell in row] for row in rows]
    missing = "".join(f"<li>{escaped(sentence)}</li>" for sentence in report.missing)
    missing = f"<h2>Missing</h2><ul>{missing}</ul>" if missing else ""
    sections = [
        f"""<header><p class="kind">mura_tf table</p><h1>{escaped(title)}</h1>
<p>{escaped(protocol(report.split, runs))}</p>
<p class="warning"><b>Not a medical device.</b> These are results of research software. They must
not be used to diagnose anybody.</p></header>""",
        f"""<section>{table(headers, rows, css="scores")}
<p class="note">Mean (deviation) over the repeats; the best kappa of each row is bold; intervals are
95&nbsp;% bootstrap intervals that resample patients.</p>{missing}</section>""",
    ]
    for heading, names, body in (
        ("The document's claims", CLAIM_HEADERS, _claim_rows(report)),
        ("Systems in pairs", PAIR_HEADERS, _pair_rows(report)),
    ):
        if body:
            body = [[minus(escaped(cell)) for cell in row] for row in body]
            listed = table(names, body, text_columns=range(len(names)))
            sections.append(f"<section><h2>{heading}</h2>{listed}</section>")
    drawings = "".join(
        f"<figure>{inline_svg(drawing, stem, caption)}"
        f"<figcaption class='note'>{escaped(caption)}</figcaption></figure>"
        for stem, (drawing, caption) in figures.items()
    )
    listed = "".join(f"<li>{escaped(sentence)}</li>" for sentence in report.deviations)
    sections.append(f"<section><h2>Plots</h2><div class='plots'>{drawings}</div></section>")
    sections.append(f"<section><h2>Deviations from the document</h2><ol>{listed}</ol></section>")
    return sections
