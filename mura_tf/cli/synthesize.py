"""`mura-tf synthesize`: a data set whose lesions are known."""

from pathlib import Path
from typing import Annotated

import typer

from mura_tf.cli.printing import print_summary


def synthesize(
    out: Annotated[Path, typer.Argument(help="A new MURA-v1.1 folder is made in here.")],
    studies_per_type: Annotated[int, typer.Option(min=8, help="Studies of each study type.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
) -> None:
    """Write a MURA-shaped data set of procedural radiographs with known lesions."""
    import mura_tf as mt

    root = mt.write_synthetic_mura(out, studies_per_type, seed, progress=True)
    print_summary(root)
    print(f"Written to {root}.")
