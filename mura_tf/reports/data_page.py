"""A data study -> one HTML page, Markdown, CSV and plots, beside document 003's Fig. 10."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn

from mura_tf.data.study import BATCH, IPCA_NAME, KEPT, PCA_NAME, SHARE, SYSTEMS, DataStudy
from mura_tf.data.tasks import type_and_label
from mura_tf.files import write_texts, written_whole
from mura_tf.published import published_table
from mura_tf.reports.data_plots import plot_distribution, plot_elbows, plot_intensities
from mura_tf.reports.markdown import closing, markdown_table
from mura_tf.reports.numbers import number_text
from mura_tf.reports.page import (
    WARNING,
    captioned,
    drawn,
    escaped,
    inline_png,
    list_section,
    png,
    text_table,
    write_page,
)
from mura_tf.reports.radiograph_plots import Picture, plot_radiographs

TITLE = "The data study of document 003"
WALL, WALL_CAPTION = "samples.png", "A training image of each class, drawn at random (003, Fig. 3)"


def write_data_study(study: DataStudy, out: str | os.PathLike[str]) -> Path:
    """Writes `report.html`, which needs no other file, `study.md`, `study.csv`, the plots as SVG
    and a wall of samples as PNG.

    The CSV has the long form of `experiments/published`: `system, study_type, label, split, metric,
    value`.

    Returns:
        The path of `report.html`.
    """
    out = Path(out)
    figures = {
        "classes": (
            plot_distribution(study.counts),
            "The share of each split's views that a class, a study type and a label have",
        ),
        "grey-levels": (
            plot_intensities(study.pixels, study.histograms),
            "Grey levels of the training images without their padding: the share of the pixels in "
            "64 bins (logarithmic), and mean (standard deviation)",
        ),
        "elbows": (
            plot_elbows(study.curves),
            f"The share of the variance that the first components explain; a dot marks {SHARE:.0%}",
        ),
    }
    drawings = drawn(figures)
    texts = {f"{stem}.svg": drawing for stem, (drawing, _) in drawings.items()}
    wall = _wall(study)
    if wall:
        with written_whole(out / WALL) as part:
            part.write_bytes(wall)
    texts |= {"study.csv": _csv(study), "study.md": _markdown(study, drawings, wall)}
    write_texts(out, texts)
    return write_page(out / "report.html", TITLE, _sections(study, drawings, wall))


def _parts(study: DataStudy) -> list[tuple[str, str, list[str], list[list[str]], list[str]]]:
    """Heading, figure, table headers, table rows and sentences of each section."""
    return [
        ("Classes", "classes", *_class_table(study), []),
        ("Grey levels", "grey-levels", *_pixel_table(study), []),
        ("PCA against incremental PCA", "elbows", *_reduction_table(study), [_verdict(study)]),
    ]


def _wall(study: DataStudy) -> bytes | None:
    """A training image of each class, as PNG; None where none can be read."""
    by_label = sorted(study.samples.items(), key=lambda sample: type_and_label(sample[0])[::-1])
    pictures = [Picture(path, name) for name, path in by_label]
    figure = plot_radiographs(pictures, columns=-(-len(pictures) // 2))
    return png(figure) if figure else None


def _class_table(study: DataStudy) -> tuple[list[str], list[list[str]]]:
    headers, totals = ["Class"], study.counts.sum()
    for split in study.counts:
        headers += [split, "share"]
    rows = []
    for name, counts in study.counts.iterrows():
        cells = [
            (f"{counts[split]:,}", f"{counts[split] / totals[split]:.1%}") for split in counts.index
        ]
        rows.append([name, *(text for pair in cells for text in pair)])
    rows.append(["all", *(text for total in totals for text in (f"{total:,}", "100.0%"))])
    return headers, rows


def _pixel_table(study: DataStudy) -> tuple[list[str], list[list[str]]]:
    headers = ["Class", "Training images", "Mean", "Deviation", "Deviation of the images' means"]
    rows = []
    for row in study.pixels.itertuples():
        levels = (row.mean, row.std, row.std_of_means)
        rows.append(
            [row.Index, f"{row.images:,}", *(number_text(level, ".1f") for level in levels)]
        )
    return headers, rows


def _reduction_table(study: DataStudy) -> tuple[list[str], list[list[str]]]:
    headers = ["Method", "Images per class", "Images", "003"]
    headers += [f"Components for {SHARE:.0%}", "003", "Seconds", "003"]
    rows = []
    for row in study.reductions.itertuples():
        components = number_text(row.components, ".0f")
        if np.isnan(row.components):
            components = f"more than {row.kept}"
        rows.append(
            [
                row.method,
                f"{row.per_class:,}",
                f"{row.images:,}",
                number_text(row.published_images, ",.0f"),
                components,
                number_text(row.published_components, ".0f"),
                f"{row.seconds:.2f}",
                number_text(row.published_seconds, "g"),
            ]
        )
    return headers, rows


def _verdict(study: DataStudy) -> str:
    """Which kind of PCA was faster, here and in the document."""
    times = study.reductions.pivot(  # noqa: PD010
        index="per_class", columns="method", values=["seconds", "published_seconds"]
    )
    sentences = []
    for size, row in times.iterrows():
        ours, theirs = (
            row[column].get(IPCA_NAME) / row[column].get(PCA_NAME, np.nan)
            for column in ("seconds", "published_seconds")
        )
        if np.isnan(ours):
            continue
        published = "" if np.isnan(theirs) else f" (003: {theirs:.2f})"
        sentences.append(f"{ours:.2f} times PCA's time at {size:,} images per class{published}")
    if not sentences:
        return "Without PCA there is nothing to compare incremental PCA with."
    return f"Incremental PCA took {', '.join(sentences)}."


def _deviations(study: DataStudy) -> list[str]:
    published = published_table("fourteen_classes").dropna(subset=["label", "study_type"])
    types = dict.fromkeys(type_and_label(name)[0] for name in study.counts.index)
    sentences = []
    if set(types) != set(published.study_type):
        sentences.append(f"The document studies MURA; these data have {', '.join(types)}.")
    shares = study.counts.sum() / study.counts.sum().sum()
    splits = ", ".join(f"{share:.0%} {split}" for split, share in shares.items())
    side = study.image_size
    return [
        *sentences,
        f"The document deals its images anew to 80 % train, 10 % valid and 10 % test; here they "
        f"keep the data set's own split, {splits}.",
        "The document shows the grey levels of two images of a class; here they are those of all "
        "its training images, without the padding, which PCA does see.",
        f"The document names no image size, solver or batch; here it is {side} x {side} pixels, a "
        f"full singular value decomposition, and batches of {BATCH} images with {KEPT} components "
        f"kept, or half the images where they are fewer than {2 * BATCH}.",
        "Fig. 10 counts 1,400 images for ten of each class; of fourteen classes they are 140.",
        f"Seconds are the processor time of one thread, scikit-learn {sklearn.__version__}, with "
        "reading the prepared images and standardising; the document does not say what its are.",
        *study.remarks,
    ]


def _lead(study: DataStudy) -> str:
    return (
        f"{study.counts.to_numpy().sum():,} radiographs of {len(study.counts)} classes, a study "
        f"type and a label each. Grey levels and components are those of the training split's "
        f"{study.pixels.images.sum():,} images."
    )


def _markdown(study: DataStudy, drawings: dict[str, tuple[str, str]], wall: bytes | None) -> str:
    lines = [f"# {TITLE}", "", _lead(study), ""]
    if wall:
        lines += [f"![{WALL_CAPTION}]({WALL})", ""]
    for heading, stem, headers, rows, sentences in _parts(study):
        lines += [f"## {heading}", "", *(line for text in sentences for line in (text, ""))]
        lines += [*markdown_table(headers, rows), ""]
        lines += [f"![{drawings[stem][1]}]({stem}.svg)", ""]
    return "\n".join(lines + closing(_deviations(study)))


def _sections(
    study: DataStudy, drawings: dict[str, tuple[str, str]], wall: bytes | None
) -> list[str]:
    sections = [
        f"<header><p class='kind'>mura_tf data study</p><h1>{TITLE}</h1>"
        f"<p>{escaped(_lead(study))}</p>{WARNING}</header>"
    ]
    if wall:
        sections.append(f"<section><h2>Samples</h2>{inline_png(wall, WALL_CAPTION)}</section>")
    for heading, stem, headers, rows, sentences in _parts(study):
        listed = text_table(headers, rows)
        notes = "".join(f"<p>{escaped(sentence)}</p>" for sentence in sentences)
        plot = captioned(drawings[stem][0], stem, drawings[stem][1])
        sections.append(
            f"<section><h2>{heading}</h2>{notes}<div class='stack'>{listed}{plot}</div></section>"
        )
    heading = "Deviations from the document"
    return [*sections, list_section(heading, _deviations(study), numbered=True)]


def _csv(study: DataStudy) -> str:
    rows: list[tuple[object, ...]] = []
    for name, counts in study.counts.iterrows():
        key = ("data", *type_and_label(name))
        rows += [(*key, split, "images", count) for split, count in counts.items()]
        measures = study.pixels.loc[name].drop("images")
        rows += [(*key, "train", f"pixel_{measure}", value) for measure, value in measures.items()]
    systems = {name: system for system, name in SYSTEMS.items()}
    for row in study.reductions.itertuples():
        measures = {
            "images_per_class": row.per_class,
            "total_images": row.images,
            "components_kept": row.kept,
            "components_for_95_percent_variance": row.components,
            "runtime_seconds": row.seconds,
        }
        system = f"{systems[row.method]}_{row.per_class}"
        rows += [
            (system, None, None, "train", measure, value) for measure, value in measures.items()
        ]
    columns = ["system", "study_type", "label", "split", "metric", "value"]
    cells = pd.DataFrame(rows, columns=columns).astype({"label": "Int64"})
    cells["value"] = cells.value.map(lambda value: "" if np.isnan(value) else f"{value:.6g}")
    return cells.to_csv(index=False)
