"""A table with its heading and what is said of it, as Markdown and as HTML."""

from collections.abc import Sequence
from typing import NamedTuple

from mura_tf.reports.markdown import markdown_table
from mura_tf.reports.page import escaped, text_table


class Section(NamedTuple):
    """A table of a report; cells are text.

    Attributes:
        heading: above all.
        note: above the table; "" for none.
        headers, rows: of the table.
        words: the columns that are not aligned as numbers.
        below: sentences below the table.
    """

    heading: str
    note: str
    headers: list[str]
    rows: list[list[str]]
    words: tuple[int, ...] = (0,)
    below: Sequence[str] = ()

    @property
    def markdown(self) -> list[str]:
        """The lines, an empty one at the end."""
        lines = [f"## {self.heading}", ""]
        lines += [self.note, ""] if self.note else []
        lines += [*markdown_table(self.headers, self.rows, self.words), ""]
        return lines + [line for sentence in self.below for line in (sentence, "")]

    @property
    def html(self) -> str:
        listed = text_table(self.headers, self.rows, self.words)
        note = _note(self.note) if self.note else ""
        below = "".join(map(_note, self.below))
        return f"<section><h2>{escaped(self.heading)}</h2>{note}{listed}{below}</section>"


def _note(sentence: str) -> str:
    return f"<p class='note'>{escaped(sentence)}</p>"
