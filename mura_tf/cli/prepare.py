"""`mura-tf prepare`: the uint8 squares that training reads."""

from typing import Annotated, Literal

import typer

from mura_tf.cli.options import DATA, CacheDir, Data, MaxSkipped, Side, SkipBad, skipping
from mura_tf.terminal import waiting


def prepare(
    data: Data,
    image_size: Side = 300,
    resize: Annotated[
        Literal["bilinear", "area"],
        typer.Option(help="As the recipe has it; area is antialiased.", rich_help_panel=DATA),
    ] = "bilinear",
    skip_bad: SkipBad = False,
    max_skipped: MaxSkipped = None,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact",
            help="Then free what this size's cache keeps of files that changed or are gone, of "
            "any data set. While nothing trains.",
            rich_help_panel=DATA,
        ),
    ] = False,
    cache_dir: CacheDir = None,
) -> None:
    """Decode, resize and pad every radiograph once; training then starts at once."""
    skipped = skipping(skip_bad, max_skipped)
    with waiting("Starting"):
        from mura_tf.data.cache import compact_cache, prepare_readable
        from mura_tf.data.views import load_views

    views, _, _ = prepare_readable(
        load_views(data, progress=True),
        image_size,
        cache_dir,
        resize=resize,
        skip_bad=skipped,
        progress=True,
    )
    print(f"{len(views)} views are ready at {image_size} px.")
    if compact:
        with waiting("Compacting"):
            dropped, left = compact_cache(image_size, cache_dir, resize=resize)
        megabytes = dropped * image_size**2 / 1e6
        print(f"{dropped} squares are dropped, {megabytes:,.1f} MB; {left} are left.")
