"""`mura-tf prepare`: the uint8 squares that training reads."""

from mura_tf.cli.options import CacheDir, Data, Side, SkipBad
from mura_tf.terminal import waiting


def prepare(
    data: Data, image_size: Side = 300, skip_bad: SkipBad = False, cache_dir: CacheDir = None
) -> None:
    """Decode, resize and pad every radiograph once; training then starts at once."""
    with waiting("Starting"):
        from mura_tf.data.cache import prepare_readable
        from mura_tf.data.views import load_views

    views, _, _ = prepare_readable(
        load_views(data, progress=True), image_size, cache_dir, skip_bad=skip_bad, progress=True
    )
    print(f"{len(views)} views are ready at {image_size} px.")
