"""`mura-tf evaluate`: finished runs, scored and reported from their predictions."""

from pathlib import Path
from typing import Annotated

import typer

from mura_tf.cli.options import Runs, first_folder, run_folders
from mura_tf.cli.printing import print_report
from mura_tf.terminal import waiting


def evaluate(
    runs: Runs,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Gets scores.csv and report.html, in place of those there. [default: the first "
            "of RUNS]"
        ),
    ] = None,
) -> None:
    """Score finished runs as ensembles, from their predictions alone, and write the report."""
    folders = run_folders(runs)
    out = out or first_folder(runs)

    with waiting("Starting"):
        from mura_tf.experiment import report_runs

    print_report(report_runs(folders, out, progress=True), out)
