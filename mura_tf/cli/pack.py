"""`mura-tf pack`: finished runs as one file that reads new radiographs."""

from pathlib import Path
from typing import Annotated

import typer

from mura_tf.cli.failures import wrong_usage
from mura_tf.cli.options import Runs
from mura_tf.terminal import counted, waiting


def pack(
    runs: Runs,
    bundle: Annotated[Path, typer.Argument(help="The .mura file that is written.")],
    recogniser: Annotated[
        Path | None,
        typer.Option(help="A run of the task study_type: recognises it where nobody gives it."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="[default: the file's name]")] = None,
    version: Annotated[str, typer.Option(help="Of the bundle.")] = "1",
    licence: Annotated[
        str, typer.Option(help="What the weights and the data allow, a sentence.")
    ] = "",
) -> None:
    """Pack finished runs as one .mura file, with operating points, calibration and a model card."""
    with waiting("Packing"):
        import mura_tf as mt
        from mura_tf.inference.pack import require_suffix

        with wrong_usage():
            require_suffix(bundle)
        packed = mt.pack(
            runs, bundle, recogniser=recogniser, name=name, version=version, licence=licence
        )
    members = len(packed.facts["members"])
    print(f"{bundle}: {counted(members, 'model')} that read {', '.join(packed.study_types)}.")
    print(f"Next: mura-tf predict {bundle} FILES --out found")
