"""`mura-tf predict`: what a bundle finds in new radiographs."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mura_tf.cli.failures import wrong_usage
from mura_tf.cli.options import MACHINE, EngineName, Model, RayAddress, require_ray
from mura_tf.terminal import counted, waiting

if TYPE_CHECKING:
    from mura_tf.grid.engines import Engine

CPUS_PER_SHARD, GPUS_PER_SHARD = 1, 0


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
        typer.Option(
            help="Operating point that decides: paper (0.5), kappa (of the highest kappa) or doubt "
            "(doubtful in between). [default: doubt if there is one, paper]"
        ),
    ] = None,
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom", help="With --out: heatmaps and reports as DICOM, of DICOM studies."
        ),
    ] = False,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    cpus_per_shard: Annotated[
        float,
        typer.Option(min=0, help="For Ray; a shard is some 64 views.", rich_help_panel=MACHINE),
    ] = CPUS_PER_SHARD,
    gpus_per_shard: Annotated[
        float,
        typer.Option(
            min=0,
            help="For Ray; 0.2 lets five share a GPU, 0 assigns none.",
            rich_help_panel=MACHINE,
        ),
    ] = GPUS_PER_SHARD,
) -> None:
    """Read new radiographs: a line per study, and with --out tables, pictures and a page.

    With --out the same command again goes on where a killed one stopped. Exit status 1 if a file
    could not be read, while the others were, or if no study was.
    """
    if dicom and out is None:
        raise typer.BadParameter("--dicom needs --out, where the objects go.")
    if engine == "ray" and out is None:
        raise typer.BadParameter("--engine ray needs --out, where its processes write.")
    require_ray(
        engine,
        ray_address=ray_address is not None,
        cpus_per_shard=cpus_per_shard != CPUS_PER_SHARD,
        gpus_per_shard=gpus_per_shard != GPUS_PER_SHARD,
    )

    with waiting("Opening the bundle"):
        from mura_tf.inference.bundle import Bundle
        from mura_tf.inference.findings import NOT_READ

        bundle = Bundle(model)
    with wrong_usage():
        bundle.point(point)
        if study_type is not None:
            bundle.require_type(study_type)

    counts: Counter[str] = Counter()
    if out is None:
        for finding in bundle.findings(
            files, study_type=study_type, each_file=each_file, point=point
        ):
            _tell(finding.study, finding.headline, finding.warnings)
            counts[finding.decision] += 1
            counts["unreadable files"] += finding.unreadable
    else:
        from mura_tf.inference.shards import read_into

        counts = read_into(
            bundle,
            files,
            out,
            study_type=study_type,
            each_file=each_file,
            point=point,
            dicom=dicom,
            engine=_ray(ray_address, cpus_per_shard, gpus_per_shard) if engine == "ray" else None,
            told=lambda one: _tell(one.row["study"], one.headline, one.row["warnings"]),
        )
        print(f"Findings: {out / 'findings.csv'}\nPage: {out / 'index.html'}")
    print("Not a medical device.")
    if unreadable := counts["unreadable files"]:
        raise RuntimeError(f"{counted(unreadable, 'file')} could not be read.")
    if not {*counts} - {NOT_READ, "unreadable files"}:
        raise RuntimeError("no study was read; what stands below each says why.")


def _tell(study: str, headline: str, warnings: list[str]) -> None:
    from mura_tf.data.findings import printable

    print(f"{study}: {headline}", flush=True)
    for warning in warnings:
        print(f"    {printable(warning)}")


def _ray(address: str | None, cpus: float, gpus: float) -> "Engine":
    from mura_tf.inference.shards import ray_engine

    with waiting("Starting Ray"):
        return ray_engine(address, cpus, gpus)
