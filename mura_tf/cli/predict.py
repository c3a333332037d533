"""`mura-tf predict`: what a bundle finds in new radiographs."""

from pathlib import Path
from typing import Annotated

import typer

from mura_tf.cli.failures import wrong_usage
from mura_tf.cli.options import Model
from mura_tf.terminal import waiting


def predict(
    model: Model,
    files: Annotated[
        list[Path],
        typer.Argument(help="PNG, JPEG or DICOM files, folders, zips, or a views CSV."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Gets findings.csv, views.csv, index.html and a PNG per study."),
    ] = None,
    study_type: Annotated[
        str | None, typer.Option("--type", help="Of all studies, whatever folders and headers say.")
    ] = None,
    each_file: Annotated[
        bool, typer.Option("--each-file", help="Each image of a folder is a study of its own.")
    ] = False,
    point: Annotated[
        str | None,
        typer.Option(help="Operating point that decides. [default: doubt if there is one, paper]"),
    ] = None,
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom", help="With --out: heatmaps and reports as DICOM, of DICOM studies."
        ),
    ] = False,
) -> None:
    """Read new radiographs: a line per study, and with --out tables, pictures and a page.

    Exit status 1 if a file could not be read; the others were.
    """
    if dicom and out is None:
        raise typer.BadParameter("--dicom needs --out, where the objects go.")

    with waiting("Opening the bundle"):
        from mura_tf.inference.bundle import Bundle

        bundle = Bundle(model)
    with wrong_usage():
        bundle.point(point)
        if study_type is not None:
            bundle.require_type(study_type)

    unreadable = 0

    def told():
        nonlocal unreadable
        for finding in bundle.findings(
            files, study_type=study_type, each_file=each_file, point=point
        ):
            unreadable += sum(view.radiograph is None for view in finding.views)
            print(f"{finding.study}: {finding.headline}", flush=True)
            for warning in finding.warnings:
                print(f"    {warning}")
            if dicom:
                from mura_tf.inference.dicom_out import write_dicom

                write_dicom(finding, out / "dicom", bundle, point)
            yield finding

    if out is None:
        for _ in told():
            pass
    else:
        from mura_tf.inference.write import write_findings

        write_findings(told(), out, bundle.facts)
        print(f"Findings: {out / 'findings.csv'}\nPage: {out / 'index.html'}")
    print("Not a medical device.")
    if unreadable:
        raise RuntimeError(f"{unreadable} file{'s' if unreadable > 1 else ''} could not be read.")
