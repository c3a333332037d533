"""Markdown: tables, and how every report ends."""

from collections.abc import Iterable


def markdown_table(
    headers: list[str], rows: Iterable[list[str]], text_columns: Iterable[int] = (0,)
) -> list[str]:
    """The lines of a Markdown table; columns outside `text_columns` are aligned as numbers."""
    words = set(text_columns)
    rule = ["---" if column in words else "---:" for column in range(len(headers))]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (headers, rule, *rows)]
    return [f"| {' | '.join(row)} |" for row in cells]


def ending(figures: dict[str, tuple[str, str]], deviations: list[str]) -> list[str]:
    """The lines of the plots, the numbered deviations and the warning.

    Args:
        figures: stem of an SVG file beside the Markdown -> (its text, caption).
        deviations: sentences.
    """
    plots = [f"![{caption}]({stem}.svg)\n" for stem, (_, caption) in figures.items()]
    return ["## Plots", "", *plots, *closing(deviations)]


def closing(deviations: list[str]) -> list[str]:
    """The lines of the numbered deviations and the warning."""
    numbered = [f"{number}. {text}" for number, text in enumerate(deviations, start=1)]
    heading = "## Deviations from the document"
    return [heading, "", *numbered, "", "Not a medical device.", ""]


def listed_lines(heading: str, sentences: list[str]) -> list[str]:
    """A list under a heading; nothing where there are no sentences."""
    if not sentences:
        return []
    return ["", f"## {heading}", "", *(f"- {sentence}" for sentence in sentences)]
