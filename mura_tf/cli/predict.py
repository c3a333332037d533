"""`mura-tf predict`: what a bundle finds in new radiographs."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mura_tf.cli.failures import wrong_usage
from mura_tf.cli.options import Model
from mura_tf.terminal import waiting

if TYPE_CHECKING:
    from mura_tf.inference.bundle import Bundle
    from mura_tf.inference.findings import Finding


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

    findings = _told(
        bundle.findings(files, study_type=study_type, each_file=each_file, point=point),
        partial(_write_dicom, out=out / "dicom", bundle=bundle, point=point)
        if dicom and out
        else None,
    )
    if out is None:
        unreadable = sum(finding.unreadable for finding in findings)
    else:
        from mura_tf.inference.write import write_findings

        unreadable = write_findings(findings, out, bundle.facts)["unreadable files"]
        print(f"Findings: {out / 'findings.csv'}\nPage: {out / 'index.html'}")
    print("Not a medical device.")
    if unreadable:
        raise RuntimeError(f"{unreadable} file{'s' if unreadable > 1 else ''} could not be read.")


def _told(
    findings: Iterable["Finding"], also: Callable[["Finding"], None] | None
) -> Iterator["Finding"]:
    """Prints each finding as it comes, and has something else done with it."""
    for finding in findings:
        print(f"{finding.study}: {finding.headline}", flush=True)
        for warning in finding.warnings:
            print(f"    {warning}")
        if also is not None:
            also(finding)
        yield finding


def _write_dicom(finding: "Finding", out: Path, bundle: "Bundle", point: str | None) -> None:
    from mura_tf.inference.dicom_out import write_dicom

    write_dicom(finding, out, bundle, point)
