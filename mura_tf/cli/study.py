"""`mura-tf study`: what a data set holds, as document 003 asks."""

from pathlib import Path
from typing import Annotated

import typer

from mura_tf.cli.options import (
    DATA,
    CacheDir,
    Data,
    MaxSkipped,
    Side,
    SkipBad,
    listed,
    skipping,
)
from mura_tf.terminal import waiting


def study(
    data: Data,
    out: Annotated[
        Path,
        typer.Option(help="Folder of the page, the Markdown, CSV and plots.", rich_help_panel=DATA),
    ],
    image_size: Side = 64,
    per_class: Annotated[
        str, typer.Option(help="How many images of each class PCA gets, run by run.")
    ] = "10,1000",
    skip_bad: SkipBad = False,
    max_skipped: MaxSkipped = None,
    cache_dir: CacheDir = None,
) -> None:
    """Study a data set: its classes, its grey levels, PCA against incremental PCA."""
    sizes, skipped = _sizes(per_class), skipping(skip_bad, max_skipped)

    with waiting("Starting"):
        from mura_tf.data.study import study_data
        from mura_tf.data.views import load_views
        from mura_tf.reports.data_page import write_data_study

    found = study_data(
        load_views(data, progress=True),
        image_size=image_size,
        per_class=sizes,
        skip_bad=skipped,
        cache_dir=cache_dir,
        progress=True,
    )
    with waiting("Writing the page"):
        page = write_data_study(found, out)
    print(f"Page: {page}")


def _sizes(text: str) -> list[int]:
    sizes = listed(text)
    if not sizes or not all(size.isdecimal() and int(size) for size in sizes):
        raise typer.BadParameter(
            f"--per-class must be whole numbers from 1 up, such as 10,1000. Received: {text!r}."
        )
    return list(map(int, sizes))
