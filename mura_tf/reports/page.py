"""HTML pages that need no other file: tables, numbers, figures as inline SVG."""

import base64
import html
import io
import os
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from mura_tf.files import written_whole
from mura_tf.reports.colours import COLOURS
from mura_tf.reports.numbers import number_text, with_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WARNING = """\
<p class="warning"><b>Not a medical device.</b> These are results of research software. They must
not be used to diagnose anybody.</p>"""


def write_page(path: str | os.PathLike[str], title: str, sections: Iterable[str]) -> Path:
    """Writes one page, whole, from sections of HTML."""
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    page = Template(template).substitute(
        title=escaped(title), light=_variables(0), dark=_variables(1), body="\n".join(sections)
    )
    with written_whole(path) as part:
        part.write_text(page, encoding="utf-8")
    return Path(path)


def table(
    headers: list[str],
    rows: Sequence[Sequence[object]],
    text_columns: Iterable[int] = (0,),
    css: str = "",
) -> str:
    """An HTML table; cells are HTML, and those outside `text_columns` are aligned as numbers."""
    text_columns = set(text_columns)
    align = ["" if column in text_columns else ' class="n"' for column in range(len(headers))]
    head = "".join(
        f'<th scope="col"{a}>{header}</th>' for header, a in zip(headers, align, strict=True)
    )
    body = []
    for first, *others in rows:
        pairs = zip(others, align[1:], strict=True)
        cells = "".join(f"<td{a}>{cell}</td>" for cell, a in pairs)
        body.append(f'<tr><th scope="row">{first}</th>{cells}</tr>\n')
    return (
        f'<div class="scroll"><table class="{css}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def text_table(
    headers: list[str], rows: Iterable[list[str]], text_columns: Iterable[int] = (0,)
) -> str:
    """A `table` of text; the numbers in it get a real minus."""
    words = set(text_columns)
    cells = [
        [
            escaped(cell) if column in words else minus(escaped(cell))
            for column, cell in enumerate(row)
        ]
        for row in rows
    ]
    return table([escaped(header) for header in headers], cells, words)


def score_cell(row: pd.Series, name: str) -> str:
    """A score, and in grey its interval: `name`, `name_low`, `name_high` of a row of `score`."""
    value, low, high = row[[name, f"{name}_low", f"{name}_high"]]
    text = escaped(with_interval(value, low, high))
    return minus(re.sub(r" (\[.*\])", r' <span class="interval">\1</span>', text))


def number(value: float) -> str:
    return minus(number_text(value))


def minus(text: str) -> str:
    return text.replace("-", "&minus;")


def escaped(value: object) -> str:
    """Text as HTML."""
    return html.escape(str(value))


def distinct(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _variables(scheme: int) -> str:
    return " ".join(f"--{name}: {colours[scheme]};" for name, colours in COLOURS.items())


def svg(figure: "Figure", name: str) -> str:
    """The figure as SVG with real text, the same bytes each time; `name` seeds its ids."""
    import matplotlib  # half a second, which pages without plots spare

    nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
    drawing = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(drawing, format="svg", metadata=nothing)
    return drawing.getvalue()


def plots_section(figures: dict[str, tuple[str, str]]) -> str:
    """Plots one after the other, with their text as large as the page's.

    Args:
        figures: name -> (of `svg`, caption).
    """
    drawings = "".join(captioned(drawing, name, text) for name, (drawing, text) in figures.items())
    return f"<section><h2>Plots</h2><div class='plots'>{drawings}</div></section>"


def list_section(heading: str, sentences: list[str], numbered: bool = False) -> str:
    """A list under a heading; nothing where there are no sentences."""
    if not sentences:
        return ""
    tag = "ol" if numbered else "ul"
    items = "".join(f"<li>{escaped(sentence)}</li>" for sentence in sentences)
    return f"<section><h2>{heading}</h2><{tag}>{items}</{tag}></section>"


def drawn(figures: dict[str, tuple["Figure", str]]) -> dict[str, tuple[str, str]]:
    """Name -> (`svg`, caption) of figures by name, each with its caption."""
    return {name: (svg(figure, name), caption) for name, (figure, caption) in figures.items()}


def inline_svg(drawing: str, name: str, description: str) -> str:
    """An `svg` for a page, with the page's font and the colours of the reader's scheme.

    Args:
        drawing: of `svg`.
        name: what its ids start with, because ids are shared by the whole page.
        description: for readers who do not see it.
    """
    drawing = drawing[drawing.index("<svg") :]
    opening = f'<svg viewBox="{_view_box(drawing)}" role="img" aria-label="{escaped(description)}">'
    drawing = re.sub(r"<svg[^>]*>", lambda _: opening, drawing, count=1)
    drawing = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", drawing)
    drawing = drawing.replace("xlink:href", "href")
    drawing = re.sub(r"font: ([^;\"]*?[\d.]+px) [^;\"]*", r"font: \1 var(--font)", drawing)
    for colour, (light, _) in COLOURS.items():
        drawing = drawing.replace(light, f"var(--{colour})")
    return drawing


def captioned(drawing: str, name: str, caption: str) -> str:
    """An `inline_svg` with its caption, at the width where its text is as large as the page's."""
    width = 1.45 * float(_view_box(drawing).split()[2])
    return (
        f'<figure style="max-width: {width:.0f}px">{inline_svg(drawing, name, caption)}'
        f"<figcaption class='note'>{escaped(caption)}</figcaption></figure>"
    )


def _view_box(drawing: str) -> str:
    """Left, top, width and height of an `svg`."""
    return drawing.partition('viewBox="')[2].partition('"')[0]


def png(figure: "Figure") -> bytes:
    """The figure as PNG, for radiographs."""
    drawing = io.BytesIO()
    figure.savefig(drawing, format="png", dpi=100)
    return drawing.getvalue()


def inline_png(drawing: bytes, caption: str) -> str:
    """A `png` for a page, with its caption."""
    source = f"data:image/png;base64,{base64.b64encode(drawing).decode()}"
    text = escaped(caption)
    return (
        f'<figure><img alt="{text}" src="{source}" style="max-width: 100%">'
        f"<figcaption class='note'>{text}</figcaption></figure>"
    )


def inline_jpeg(image: np.ndarray) -> str:
    """The `src` of an image for a page: uint8 (height, width), or (height, width, 3) RGB."""
    pixels = image if image.ndim == 2 else image[..., ::-1]
    jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
