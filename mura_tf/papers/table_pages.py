"""A table report -> Markdown, CSV and HTML in the document's own layout, and its plots."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mura_tf.evaluation.comparison import System
from mura_tf.evaluation.scores import STAGE_NAMES
from mura_tf.files import write_texts
from mura_tf.papers.claim_pages import claim_section
from mura_tf.published import OVERALL
from mura_tf.reports.constant import CONSTANT
from mura_tf.reports.curve_plots import plot_run_curves
from mura_tf.reports.experiment_page import protocol
from mura_tf.reports.kappas import kappa_section
from mura_tf.reports.markdown import ending, listed_lines, markdown_table
from mura_tf.reports.numbers import NOTHING, interval_text, number_text
from mura_tf.reports.page import (
    WARNING,
    drawn,
    escaped,
    list_section,
    minus,
    plots_section,
    write_page,
)
from mura_tf.reports.score_plots import plot_kappa, plot_parameters, plot_reliability
from mura_tf.reports.section import Section
from mura_tf.reports.style import SYSTEM_COLOURS
from mura_tf.training.run import Run

MEASURES = ("accuracy", "accuracy_std", "kappa", "kappa_std", "kappa_low", "kappa_high")
NOTE = (
    "Mean (standard deviation) over the repeats; of several systems, the best kappa of each study "
    "type is bold. The 95 % intervals are of a bootstrap that resamples patients: they tell what "
    "other patients would change, the deviation what training again changes."
)


@dataclass(frozen=True)
class TableReport:
    """What a table says, before it is laid out.

    Attributes:
        cells: a row per system and study type: `backbone, stage, study_type, n, members, repeats`,
            the `MEASURES`, the published ones (`published_accuracy`, ...), `accuracy_difference`
            and `kappa_difference` (ours minus the published value, NaN where the studies are not
            the document's), `best` (kappa of its study type) and `called_abnormal` (studies, the
            mean over the repeats).
        claims: of `answer_claims`.
        constants: sentences on systems and runs that decide the same for everything.
        references: of `mura_kappas` where the studies are MURA's, elsewhere no rows of it.
        pairs: `one, other, difference, low, high` of overall kappa, a row per two systems.
        deviations: sentences.
        missing: sentences about runs that are planned and not finished.
        split: the reported one.
        same_data: whether these are studies of the published table.
        digits: decimals that the document prints.
    """

    cells: pd.DataFrame
    claims: pd.DataFrame
    constants: list[str]
    references: pd.DataFrame
    pairs: pd.DataFrame
    deviations: list[str]
    missing: list[str]
    split: str
    same_data: bool
    digits: int


def write_pages(
    report: TableReport,
    title: str,
    studies: pd.DataFrame,
    runs: list[Run],
    folder: Path,
) -> None:
    """Writes `table.md`, `table.csv`, `report.html` and the plots.

    Args:
        report: what they say.
        title: what they are called.
        studies: table of `study_probabilities` that the cells were computed from.
        runs: those that are shown.
        folder: where they go.
    """
    figures = drawn(_figures(report, studies, runs))
    texts = {f"{stem}.svg": drawing for stem, (drawing, _) in figures.items()}
    texts["table.csv"] = _csv(report)
    texts["table.md"] = _markdown(report, title, figures, protocol(report.split, runs))
    write_texts(folder, texts)
    write_page(folder / "report.html", title, _sections(report, title, figures, runs))


def system_labels(systems: list[System]) -> dict[System, str]:
    """What tells the systems apart: the backbone, the stage or both."""
    backbones, stages = ({system[part] for system in systems} for part in (0, 1))
    if len(stages) == 1:
        return {system: system[0] for system in systems}
    if len(backbones) == 1:
        return {system: STAGE_NAMES[system[1]] for system in systems}
    return {system: f"{system[0]}, {STAGE_NAMES[system[1]]}" for system in systems}


def _systems(cells: pd.DataFrame) -> list[System]:
    return list(dict.fromkeys(zip(cells.backbone, cells.stage, strict=True)))


def _row_names(cells: pd.DataFrame) -> list[str]:
    types = sorted(set(cells.study_type) - {OVERALL})
    return [*types, OVERALL] if OVERALL in set(cells.study_type) else types


# ------------------------------------------------------------------------------------------------
# Plots


def _figures(
    report: TableReport, studies: pd.DataFrame, runs: list[Run]
) -> dict[str, tuple[Figure, str]]:
    """File name -> figure, caption. Where there are too many systems, the first are drawn."""
    labels = system_labels(_systems(report.cells))
    drawn = list(labels)[: len(SYSTEM_COLOURS)]

    def rows_of(table: pd.DataFrame) -> pd.DataFrame:
        systems = pd.Series(zip(table.backbone, table.stage, strict=True), table.index)
        return table.assign(system=systems.map(labels), repeat=0)[systems.isin(drawn)]

    rows = rows_of(report.cells)
    figures = {"kappa": (plot_kappa(rows), "Study-level kappa with 95 % intervals")}
    overall = rows[rows.study_type == OVERALL]
    if len(set(overall.backbone)) > 1:
        caption = "Overall kappa against the number of parameters; hollow is published"
        figures["parameters"] = plot_parameters(overall), caption
    figures["reliability"] = (
        plot_reliability(rows_of(studies)),
        "The share of studies that are abnormal against their probability; on the diagonal a "
        "probability means what it says",
    )
    figures["curves"] = (
        plot_run_curves(runs),
        "Learning curves, a line per run; a dot marks the epoch that was chosen",
    )
    return figures


# ------------------------------------------------------------------------------------------------
# The table


def _lines(report: TableReport, bold: str) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Study type -> what a line says -> an accuracy and a kappa for each system, as text.

    Args:
        report: the table.
        bold: the format of a best kappa, such as "**{}**".
    """
    cells = {
        (cell.study_type, cell.backbone, cell.stage): cell for _, cell in report.cells.iterrows()
    }
    kinds = ["here", "95 %", "published", "difference"][: 4 if report.same_data else 3]
    systems = _systems(report.cells)
    if len(systems) == 1:
        bold = "{}"
    rows = []
    for study_type in _row_names(report.cells):
        found = [cells.get((study_type, *system)) for system in systems]
        lines = [
            (kind, [text for cell in found for text in _texts(cell, kind, report.digits, bold)])
            for kind in kinds
        ]
        rows.append((study_type[:1].upper() + study_type[1:], lines))
    return rows


def _texts(cell: pd.Series | None, kind: str, digits: int, bold: str) -> tuple[str, str]:
    """Accuracy and kappa of one system in one line; `cell` is None where there is none."""
    if cell is None:
        return (NOTHING, NOTHING) if kind == "here" else ("", "")
    if kind == "here":
        kappa = _with_deviation(cell.kappa, cell.kappa_std, digits)
        accuracy = _with_deviation(cell.accuracy, cell.accuracy_std, digits)
        return accuracy, bold.format(kappa) if cell.best else kappa
    if kind == "95 %":
        return "", interval_text(cell.kappa_low, cell.kappa_high, f".{digits}f")
    if kind == "published":
        return (
            _with_deviation(cell.published_accuracy, cell.published_accuracy_std, digits),
            _with_deviation(cell.published_kappa, cell.published_kappa_std, digits),
        )
    form = f"+.{digits}f"
    return number_text(cell.accuracy_difference, form), number_text(cell.kappa_difference, form)


def _with_deviation(value: float, deviation: float, digits: int) -> str:
    text = number_text(value, f".{digits}f")
    return text if np.isnan(deviation) else f"{text} ({deviation:.{digits}f})"


def _csv(report: TableReport) -> str:
    """The document's layout with a number a cell: rows study types, columns system and measure."""
    counts = ["n", "members", "repeats"]
    measures = [*counts, *MEASURES, *(f"published_{measure}" for measure in MEASURES[:4])]
    measures += ["accuracy_difference", "kappa_difference", "best"]
    cells = report.cells.astype(dict.fromkeys(counts, "Int64")).set_index("study_type")
    columns = [
        cells.loc[(cells.backbone == backbone) & (cells.stage == stage), measures].add_prefix(
            f"{backbone}/{stage} "
        )
        for backbone, stage in _systems(report.cells)
    ]
    return pd.concat(columns, axis=1).reindex(_row_names(report.cells)).to_csv()


def _score_table(report: TableReport) -> str:
    """The table as HTML: a group of columns per system, a group of lines per study type."""
    labels = system_labels(_systems(report.cells)).values()
    groups = "".join(
        f'<th scope="colgroup" colspan="2" class="n">{escaped(label)}</th>' for label in labels
    )
    names = '<th scope="col" class="n pair">Accuracy</th><th scope="col" class="n">Kappa</th>'
    bodies = []
    for study_type, lines in _lines(report, "<b>{}</b>"):
        opening = f'<th scope="rowgroup" rowspan="{len(lines)}">{escaped(study_type)}</th>'
        rows = []
        for kind, texts in lines:
            pairs = zip(texts[::2], texts[1::2], strict=True)
            cells = "".join(
                f'<td class="n pair">{minus(accuracy)}</td><td class="n">{minus(kappa)}</td>'
                for accuracy, kappa in pairs
            )
            rows.append(f'<tr>{opening}<th scope="row">{kind}</th>{cells}</tr>')
            opening = ""
        bodies.append(f"<tbody>{''.join(rows)}</tbody>\n")
    return (
        '<div class="scroll"><table class="cells"><thead><tr><th scope="col" rowspan="2">Study type'
        f'</th><th rowspan="2"></th>{groups}</tr><tr>{names * len(labels)}</tr></thead>'
        f"{''.join(bodies)}</table></div>"
    )


# ------------------------------------------------------------------------------------------------
# Other tables


def _other_sections(report: TableReport) -> list[Section]:
    sections = []
    if len(report.references):
        sections.append(_reference_section(report))
    if len(report.claims):
        sections.append(claim_section(report.claims))
    if len(report.pairs):
        sections.append(_pair_section(report.pairs))
    return sections


def _reference_section(report: TableReport) -> Section:
    """Our kappas beside those of who has read MURA's test set; see `kappa_section`."""
    labels = system_labels(_systems(report.cells))
    systems = zip(report.cells.backbone, report.cells.stage, strict=True)
    titles = [labels[system] for system in systems]
    scores = report.cells.assign(title=titles, studies=report.cells.n)
    return Section(*kappa_section(scores, report.references))


def _pair_section(pairs: pd.DataFrame) -> Section:
    rows = [
        [
            row.one,
            row.other,
            number_text(row.difference, "+.3f"),
            interval_text(row.low, row.high, "+.3f"),
        ]
        for row in pairs.itertuples()
    ]
    headers = ["System", "minus", "Difference in overall kappa", "95 %"]
    return Section("Systems in pairs", "", headers, rows, words=(0, 1))


# ------------------------------------------------------------------------------------------------
# Pages


def _markdown(
    report: TableReport, title: str, figures: dict[str, tuple[str, str]], protocol_text: str
) -> str:
    headers = ["Study type", ""]
    for label in system_labels(_systems(report.cells)).values():
        headers += [f"{label}: accuracy", "kappa"]
    rows = []
    for study_type, lines in _lines(report, "**{}**"):
        for kind, texts in lines:
            rows.append([study_type, kind, *texts])
            study_type = ""
    page = [f"# {title}", "", protocol_text, "", *markdown_table(headers, rows), "", NOTE]
    page += listed_lines("Missing", report.missing) + listed_lines(CONSTANT, report.constants)
    page += [""]
    for section in _other_sections(report):
        page += section.markdown
    return "\n".join([*page, *ending(figures, report.deviations)])


def _sections(
    report: TableReport, title: str, figures: dict[str, tuple[str, str]], runs: list[Run]
) -> list[str]:
    sections = [
        f"""<header><p class="kind">mura_tf table</p><h1>{escaped(title)}</h1>
<p>{escaped(protocol(report.split, runs))}</p>
{WARNING}</header>""",
        f"<section>{_score_table(report)}<p class='note'>{escaped(NOTE)}</p></section>",
    ]
    sections.append(list_section("Missing", report.missing))
    sections.append(list_section(CONSTANT, report.constants))
    sections += [section.html for section in _other_sections(report)]
    sections.append(plots_section(figures))
    sections.append(list_section("Deviations from the document", report.deviations, numbered=True))
    return sections
