"""`mura-tf demo`: the whole line, offline."""

from pathlib import Path
from typing import Annotated

import typer

from mura_tf.cli.predict import predict
from mura_tf.cli.printing import print_report
from mura_tf.terminal import waiting


def demo(
    out: Annotated[Path, typer.Argument(help="Folder of data, runs and report.")] = Path("demo"),
) -> None:
    """The whole line on synthetic radiographs, offline, in minutes; leaves OUT/report.html.

    It ends with what its ensembles find in three studies that they did not see.
    """
    with waiting("Starting"):
        from mura_tf.demo import pack_demo, run_demo

    print_report(run_demo(out), out)
    bundle, studies = pack_demo(out)
    found = out / "found"
    print(f"\n$ mura-tf predict {bundle} {' '.join(map(str, studies))} --out {found}")
    predict(bundle, studies, found)
