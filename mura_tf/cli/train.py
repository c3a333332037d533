"""`mura-tf train`: ensembles, their scores, their report."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mura_tf.cli.failures import wrong_usage
from mura_tf.cli.options import (
    DATA,
    RECIPE,
    TRAINED,
    CacheDir,
    Data,
    ImageSize,
    Jobs,
    MaxEpochs,
    MaxSkipped,
    RecipeName,
    SelectOn,
    SkipBad,
    Weights,
    listed,
    settings_of,
    skipping,
)
from mura_tf.cli.printing import print_report
from mura_tf.terminal import waiting


def train(
    data: Data,
    out: Annotated[Path, typer.Argument(help="Folder above the run folders and the report.")],
    scheme: Annotated[
        Literal["two-stage", "direct", "whole"],
        typer.Option(
            help="two-stage: one model on all study types, then from it one per type (the "
            "paper's). direct: one per type. whole: one on all types together.",
            rich_help_panel=TRAINED,
        ),
    ] = "two-stage",
    types: Annotated[
        str | None,
        typer.Option(
            help="Study types with a model of their own, such as elbow,wrist. [default: all]",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    members: Annotated[
        int, typer.Option(min=1, help="Models per ensemble.", rich_help_panel=TRAINED)
    ] = 5,
    repeats: Annotated[
        int,
        typer.Option(min=1, help="How often the ensembles are trained.", rich_help_panel=TRAINED),
    ] = 1,
    recipe: RecipeName = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Such as efficientnet_b3; an unknown one lists all.", rich_help_panel=RECIPE
        ),
    ] = None,
    weights: Weights = None,
    image_size: ImageSize = None,
    preprocessing: Annotated[
        Literal["caffe", "caffe_rgb", "native", "unit"] | None,
        typer.Option(
            help="caffe is the paper's; native, what the backbone was pretrained with; unit, 0 "
            "to 1.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(help="For example flip,rotation:10,zoom:0.1 or none.", rich_help_panel=RECIPE),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Views per step.", rich_help_panel=RECIPE)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="At the start.", rich_help_panel=RECIPE)
    ] = None,
    max_epochs: MaxEpochs = None,
    select_on: SelectOn = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of everything random.", rich_help_panel=RECIPE)
    ] = None,
    mixed_precision: Annotated[
        bool | None,
        typer.Option(
            "--mixed-precision",
            help="Compute in float16, for a GPU; weights stay float32.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    jobs: Jobs = 1,
    split: Annotated[
        str | None,
        typer.Option(
            help="Without a validation split: the share of the training views that becomes one, by "
            "patient or by image, such as patient:0.15.",
            metavar="BY:SHARE",
            rich_help_panel=DATA,
        ),
    ] = None,
    skip_bad: SkipBad = False,
    max_skipped: MaxSkipped = None,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write TensorBoard logs.", rich_help_panel=DATA),
    ] = False,
    cache_dir: CacheDir = None,
) -> None:
    """Train ensembles, score them, write OUT/scores.csv and OUT/report.html.

    Settings that are not given are the paper's. The same command again goes on where a killed one
    stopped, and trains no finished run twice.
    """
    skipped = skipping(skip_bad, max_skipped)
    given = {
        "backbone": backbone,
        "weights": weights,
        "image_size": image_size,
        "preprocessing": preprocessing,
        "augment": augment,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "max_epochs": max_epochs,
        "select_on": select_on,
        "seed": seed,
        "mixed_precision": mixed_precision,
    }

    with waiting("Starting"):
        from mura_tf.data.splits import parse_split
        from mura_tf.experiment import require_options, run_experiment
        from mura_tf.grid.engines import LocalEngine
        from mura_tf.training.recipe import Recipe

    with wrong_usage():
        settings = Recipe.from_dict(settings_of(recipe, given))
        require_options(settings, listed(types), scheme=scheme, members=members, repeats=repeats)
        if split is not None:
            parse_split(split)
    scores = run_experiment(
        settings,
        data,
        out,
        scheme=scheme,
        study_types=listed(types),
        members=members,
        repeats=repeats,
        split=split,
        engine=LocalEngine(jobs),
        skip_bad=skipped,
        tensorboard=tensorboard,
        cache_dir=cache_dir,
    )
    print_report(scores, out)
