"""`mura-tf reproduce`: a table of the paper, or the systems of another document."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mura_tf.cli.failures import wrong_usage
from mura_tf.cli.options import (
    DATA,
    MACHINE,
    TRAINED,
    CacheDir,
    EngineName,
    ImageSize,
    Jobs,
    MaxEpochs,
    MaxSkipped,
    RayAddress,
    RecipeName,
    SelectOn,
    SkipBad,
    Weights,
    listed,
    require_ray,
    settings_of,
    skipping,
)
from mura_tf.cli.printing import print_table
from mura_tf.terminal import counted, waiting

if TYPE_CHECKING:
    import pandas as pd

    from mura_tf.grid.engines import Engine
    from mura_tf.papers.parameters import ParameterTable

CPUS_PER_RUN, GPUS_PER_RUN = 1, 0


def reproduce(
    experiment: Annotated[
        str | None, typer.Argument(help="table_vi, for example; --list names them all.")
    ] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="Name every system, its cost and published number.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done and what it costs.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Train nothing; report what is finished.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="A data set, as `mura-tf train` takes it.", rich_help_panel=DATA),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of the runs, which tables share, and of the tables.", rich_help_panel=DATA
        ),
    ] = Path("runs/paper"),
    skip_bad: SkipBad = False,
    max_skipped: MaxSkipped = None,
    cache_dir: CacheDir = None,
    backbones: Annotated[
        str | None,
        typer.Option(
            help="Instead of the table's, with commas; of a document, one.", rich_help_panel=TRAINED
        ),
    ] = None,
    systems: Annotated[
        str | None,
        typer.Option(
            help="Some of a document's, by the names of --list, with commas. [default: all]",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    types: Annotated[
        str | None,
        typer.Option(
            help="Study types with a model of their own, such as elbow,wrist. [default: the "
            "document's]",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Models per ensemble. [default: the document's]",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            min=1, help="Ensembles trained anew. [default: the table's]", rich_help_panel=TRAINED
        ),
    ] = None,
    split: Annotated[
        Literal["text", "document"] | None,
        typer.Option(
            help="Of fourteen_classes: as its text tells, or as its figures are. [default: text]",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    split_by: Annotated[
        Literal["patient", "image"] | None,
        typer.Option(
            help="By image, as some documents did, scores are too high.", rich_help_panel=TRAINED
        ),
    ] = None,
    recipe: RecipeName = None,
    weights: Weights = None,
    image_size: ImageSize = None,
    max_epochs: MaxEpochs = None,
    select_on: SelectOn = None,
    engine: EngineName = "local",
    jobs: Jobs = 1,
    ray_address: RayAddress = None,
    cpus_per_run: Annotated[
        float,
        typer.Option(min=0, help="For Ray: cores, and threads, of a run.", rich_help_panel=MACHINE),
    ] = CPUS_PER_RUN,
    gpus_per_run: Annotated[
        float,
        typer.Option(
            min=0,
            help="For Ray: 0.2 lets five runs share a GPU, 0 assigns none.",
            rich_help_panel=MACHINE,
        ),
    ] = GPUS_PER_RUN,
) -> None:
    """Reproduce a table or the systems of a document; write OUT/NAME/, ours beside theirs.

    The same command again goes on where a killed one stopped. Tables with one OUT share runs.
    """
    _require_engine(engine, jobs, ray_address, cpus_per_run, gpus_per_run)
    skipped = skipping(skip_bad, max_skipped)

    with waiting("Starting"):
        from mura_tf.papers import reproduce as lib
        from mura_tf.papers.parameters import ParameterTable

    if list_all:
        _print_listing(lib.listing())
        return
    if experiment is None:
        raise typer.BadParameter(
            f"an experiment must be named, one of {', '.join(lib.experiment_names())}."
        )
    with wrong_usage():
        found = lib.find_experiment(experiment)
    if dry_run and report_only:
        raise typer.BadParameter("--dry-run and --report-only exclude each other. Give one.")
    given = {
        "weights": weights,
        "image_size": image_size,
        "max_epochs": max_epochs,
        "select_on": select_on,
    }
    with wrong_usage():
        options = {
            "study_types": listed(types),
            "systems": listed(systems),
            "settings": settings_of(recipe, given),
            "backbones": listed(backbones),
            "members": members,
            "repeats": repeats,
            "split": split,
            "split_by": split_by,
        }
        options = {name: value for name, value in options.items() if value is not None}
        if isinstance(found, ParameterTable):
            _require_none(found, options, data, report_only)
        else:
            lib.require_options(found, options)
    if isinstance(found, ParameterTable):
        _count_parameters(found, out, listed(backbones), dry_run)
        return
    if dry_run:
        table, sentence = lib.cost(found, out, data, progress=True, **options)
        print_table(table.round(2))
        print(sentence)
        return
    if not report_only and data is None:
        raise typer.BadParameter(
            "--data is needed to train. To report what is finished: --report-only."
        )
    report, failed = lib.reproduce(
        found,
        out,
        None if report_only else data,
        engine=None
        if report_only
        else _engine(engine, jobs, ray_address, cpus_per_run, gpus_per_run),
        cache_dir=cache_dir,
        skip_bad=skipped,
        progress=True,
        **options,
    )
    for sentence in report.missing:
        print(f"Missing: {sentence}")
    print(f"Table: {out / found.name / 'table.md'}\nReport: {out / found.name / 'report.html'}")
    if failed:
        raise RuntimeError(f"{counted(len(failed), 'run')} failed; see above. Repeat the command.")


def _require_engine(name: str, jobs: int, address: str | None, cpus: float, gpus: float) -> None:
    """Options of the engine that was not chosen would do nothing."""
    if name == "ray" and jobs > 1:
        raise typer.BadParameter(
            "--jobs is of this machine. With --engine ray give --cpus-per-run or --gpus-per-run: "
            "as many runs go at a time as the cluster has room for."
        )
    require_ray(
        name,
        ray_address=address is not None,
        cpus_per_run=cpus != CPUS_PER_RUN,
        gpus_per_run=gpus != GPUS_PER_RUN,
    )


def _engine(name: str, jobs: int, address: str | None, cpus: float, gpus: float) -> "Engine":
    from mura_tf.grid.engines import LocalEngine, RayEngine

    if name == "local":
        return LocalEngine(jobs)
    with waiting("Starting Ray"):
        return RayEngine(address, cpus, gpus)


def _require_none(
    table: "ParameterTable", options: dict[str, Any], data: Path | None, report_only: bool
) -> None:
    """ValueError where a table that trains nothing is given what a training is told."""
    given = [name for name, value in options.items() if value and name != "backbones"]
    given += ["data"] * (data is not None) + ["report_only"] * report_only
    if given:
        raise ValueError(
            f"{table.name} counts parameters, and takes backbones alone. Received: "
            f"{', '.join(given)}. Leave it out."
        )


def _count_parameters(
    found: "ParameterTable", out: Path, backbones: tuple[str, ...] | None, dry_run: bool
) -> None:
    from mura_tf.models.backbones import find_backbone
    from mura_tf.papers.parameters import report_parameters

    backbones = backbones or found.backbones
    with wrong_usage():
        for backbone in backbones:
            find_backbone(backbone)
    if dry_run:
        print(
            f"{found.name} builds {len(backbones)} models and counts their parameters; nothing is "
            "downloaded or trained."
        )
        return
    print_table(report_parameters(found, out, backbones, progress=True))
    print(f"Table: {out / found.name}")


def _print_listing(table: "pd.DataFrame") -> None:
    for (command, document), rows in table.groupby(["command", "document"], sort=False):
        print(f"{command} (document {document})")
        for row in rows.itertuples():
            print(
                f"  {row.name:<28} {row.system:<40} {row.runs:>4} runs {row.images:>8} M images  "
                f"{row.published}"
            )
