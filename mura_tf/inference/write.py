"""Findings -> `findings.csv`, `views.csv`, a PNG per study and a page to look through them."""

import csv
import heapq
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mura_tf.files import written_whole
from mura_tf.inference.findings import FINDING_COLUMNS, NOT_READ, VIEW_COLUMNS, Finding, View
from mura_tf.reports.colours import COLOURS
from mura_tf.reports.numbers import number_text
from mura_tf.reports.overlay import plain_and_overlaid
from mura_tf.reports.page import WARNING, escaped, inline_jpeg, write_page
from mura_tf.reports.picture_names import PictureNames

SIDE = 448
"""Of a view in a study's picture, pixels."""
THUMBNAIL = 220
GAP = 12
MOST_SHOWN = 200
"""Studies on the page; the tables have all."""
RANK = {"abnormal": 0, "doubtful": 1, "normal": 2, NOT_READ: 3}
"""What the page shows first."""
KIND = "mura_tf findings"
"""By which the page is known."""
CAPTION = "Research software, not a medical device. The colours tell where, not how abnormal."


@dataclass
class Record:
    """What is told of a finding, without its pixels; plain data, so that it can be JSON.

    Attributes:
        row, views: of the two tables, with lists where the CSV has text.
        headline: see `Finding`.
        unreadable: how many of its files could not be read.
        section: of the page, HTML.
        written: its picture and its DICOM objects, as paths below `out`.
    """

    row: dict[str, Any]
    views: list[dict[str, Any]]
    headline: str
    unreadable: int
    section: str
    written: list[str] = field(default_factory=list)


def recorded(
    finding: Finding, name: str, out: str | os.PathLike[str], facts: Mapping[str, Any]
) -> Record:
    """Writes a study's picture, `out/studies/name.png`, and returns what is told of it.

    Args:
        finding: whose views get the picture's name, where they have a heatmap.
        name: of `PictureNames`.
        out: a folder.
        facts: of the bundle.
    """
    written = []
    if finding.unreadable < len(finding.views):
        written.append(f"studies/{name}.png")
        with written_whole(Path(out) / written[0]) as picture:
            study_picture(finding, facts).save(picture, compress_level=1)  # a third of the time
        for view in finding.views:
            view.heatmap = written[0] if view.heat is not None else ""
    section, views = _section(finding), finding.view_rows
    return Record(finding.row, views, finding.headline, finding.unreadable, section, written)


def require_own_tables(out: Path) -> None:
    """ValueError where what findings take the place of in `out` is none of an earlier call."""
    for name, columns in (("findings.csv", FINDING_COLUMNS), ("views.csv", VIEW_COLUMNS)):
        if (out / name).exists():
            with open(out / name, "rb") as file:
                if file.readline().rstrip(b"\r\n") != ",".join(columns).encode():
                    raise _not_own(out / name)
    page = out / "index.html"
    if page.exists() and KIND.encode() not in page.read_bytes():
        raise _not_own(page)


def _not_own(path: Path) -> ValueError:
    return ValueError(
        f"{path} must be of an earlier call, whose findings these take the place of. Received: "
        "another's. Give another folder for the results (--out)."
    )


def write_findings(
    findings: Iterable[Finding], out: str | os.PathLike[str], facts: Mapping[str, Any]
) -> Counter[str]:
    """Writes what a bundle found, study by study; nothing goes beside the originals.

    Args:
        findings: of `Bundle.findings`.
        out: the folder that gets `findings.csv`, `views.csv`, `index.html` and `studies/*.png`.
        facts: of the bundle.

    Returns:
        Decision -> studies; "unreadable files" -> files.
    """
    names = PictureNames()
    records = (recorded(finding, names(finding.study), out, facts) for finding in findings)
    return write_records(records, out, facts)


def write_records(
    records: Iterable[Record], out: str | os.PathLike[str], facts: Mapping[str, Any]
) -> Counter[str]:
    """Writes the tables and the page of `write_findings`; no more than a page is held."""
    out = Path(out)
    counts: Counter[str] = Counter()
    shown: list[tuple[int, float, int, str]] = []
    with (
        written_whole(out / "findings.csv") as part,
        written_whole(out / "views.csv") as views_part,
        open(part, "w", newline="", encoding="utf-8") as file,
        open(views_part, "w", newline="", encoding="utf-8") as views_file,
    ):
        table = csv.DictWriter(file, FINDING_COLUMNS)
        views_table = csv.DictWriter(views_file, VIEW_COLUMNS)
        table.writeheader()
        views_table.writeheader()
        for number, record in enumerate(records):
            decision = record.row["decision"]
            counts[decision] += 1
            counts["unreadable files"] += record.unreadable
            table.writerow(_flat(record.row))
            views_table.writerows(map(_flat, record.views))
            probability = 0.0 if decision == NOT_READ else record.row["probability"]
            key = (-RANK[decision], probability, -number, record.section)
            (heapq.heappush if len(shown) < MOST_SHOWN else heapq.heappushpop)(shown, key)
    sections = [section for *_, section in sorted(shown, reverse=True)]
    _write_page(out / "index.html", sections, counts, facts)
    return counts


def study_picture(finding: Finding, facts: Mapping[str, Any]) -> Image.Image:
    """A study's views, each above its heatmap, below what is said of it."""
    views = [view for view in finding.views if view.radiograph is not None]
    columns = [
        plain_and_overlaid(view.radiograph, view.heat, SIDE)
        for view in finding.views
        if view.radiograph is not None
    ]
    widths = [max(part.shape[1] for part in column) for column in columns]
    height = max(sum(part.shape[0] + GAP for part in column) for column in columns)
    sheet = Image.new("RGB", (max(sum(widths) + GAP * (len(views) + 1), 640), height + 112))
    sheet.paste(COLOURS["paper"][1], (0, 0, *sheet.size))
    draw = ImageDraw.Draw(sheet)
    said = "blue" if finding.decision == "normal" else "orange"
    whose = f"{CAPTION} {facts['name']} {facts['version']}."
    large, small, across = _font(15), _font(12), sheet.width - 2 * GAP
    for y, text, colour, font in (
        (8, _ending(finding.study, large, across), "ink", large),
        (32, _ending(finding.headline, large, across), said, large),
        (sheet.height - 22, whose, "muted", small),
    ):
        draw.text((GAP, y), text, COLOURS[colour][1], font)
    left = GAP
    for view, column, width in zip(views, columns, widths, strict=True):
        probability = f"  {number_text(view.probability, '.2f')}"
        room = (across if len(views) == 1 else width) - small.getlength(probability)
        told = _ending(view.file, small, room) + probability
        draw.text((left, 58), told, COLOURS["muted"][1], small)
        top = 80
        for part in column:
            sheet.paste(Image.fromarray(part), (left, top))
            top += part.shape[0] + GAP
        left += width + GAP
    return sheet


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own, without importing it: Pillow's has few letters but those of ASCII."""
    spec = find_spec("matplotlib")
    assert spec is not None and spec.origin is not None  # it is installed with this package
    path = Path(spec.origin).with_name("mpl-data") / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, size)


def _ending(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """A text, or as much of its end as fits into so many pixels: of a path, what tells it apart.

    Letters that the font has not are told by their numbers, as in \\u5c71.
    """
    unknown = bytes(font.getmask("\uffff"))
    text = "".join(
        one if one.isascii() or bytes(font.getmask(one)) != unknown else ascii(one)[1:-1]
        for one in text
    )
    end = text
    while end and font.getlength(text) > width:
        end = end[1:]
        text = f"…{end}"
    return text


def _section(finding: Finding) -> str:
    figures = "".join(map(_figure, finding.views))
    warnings = "".join(f"<li>{escaped(text)}</li>" for text in finding.warnings)
    notes = f"<ul class='note'>{warnings}</ul>" if warnings else ""
    kind = {"abnormal": "wrong", "doubtful": "wrong", "normal": "right"}.get(finding.decision, "")
    return (
        f'<section class="study {kind}"><h2>{escaped(finding.study)}</h2>'
        f'<p><span class="verdict">{escaped(finding.headline)}</span></p>'
        f'{notes}<div class="pairs">{figures}</div></section>'
    )


def _figure(view: View) -> str:
    if view.radiograph is None:
        reason = escaped(f"{view.file}: {'; '.join(view.warnings)}")
        return f'<figure><p class="missing">{reason}</p></figure>'
    pictures = plain_and_overlaid(view.radiograph, view.heat, THUMBNAIL)
    images = "".join(
        f'<img alt="{kind} {escaped(view.file)}" src="{inline_jpeg(picture)}">'
        for kind, picture in zip(("radiograph", "heatmap of"), pictures, strict=False)
    )
    return (
        f"<figure>{images}<figcaption>{escaped(view.file)} <span>probability&nbsp;"
        f"{number_text(view.probability, '.2f')}</span></figcaption></figure>"
    )


def _write_page(
    path: Path, sections: list[str], counts: Counter[str], facts: Mapping[str, Any]
) -> None:
    total = sum(counts[decision] for decision in RANK)
    told = ", ".join(f"{counts[decision]} {decision}" for decision in RANK if counts[decision])
    more = ""
    if total > len(sections):
        more = f" The first {len(sections)} are shown; findings.csv has all."
    header = f"""<header><p class="kind">{KIND}</p>
<h1>{total:,} stud{"y" if total == 1 else "ies"}</h1>
<p class="lead">{escaped(told)}.{more}</p>
<p>By {escaped(facts["name"])}, version {escaped(facts["version"])}. Abnormal and doubtful first;
each radiograph, and beside it the same with its heatmap. The colours tell where, not how
abnormal.</p>
{WARNING}</header>"""
    write_page(path, f"mura_tf: {facts['name']}", [header, *sections])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a CSV: lists as text, nothing for NaN."""
    flat = {}
    for name, value in row.items():
        if isinstance(value, list):
            value = "; ".join(value)
        elif isinstance(value, float) and np.isnan(value):
            value = ""
        flat[name] = value
    return flat
