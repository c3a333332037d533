"""Options that several commands have, and what their values mean."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

# panels of --help
DATA, TRAINED, RECIPE, MACHINE = "Data and output", "What is trained", "The recipe", "The machine"

Data = Annotated[
    Path,
    typer.Argument(
        help="A folder laid out as MURA, FracAtlas or GRAZPEDWRI-DX, or with a folder per class; "
        "a folder above it; or a views CSV."
    ),
]
Model = Annotated[
    Path, typer.Argument(help="A bundle (.mura), or a run folder or one above several.")
]
Runs = Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")]
Side = Annotated[int, typer.Option("--image-size", min=8, help="Side of the squares, pixels.")]

SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Go on without unreadable files.", rich_help_panel=DATA),
]
MaxSkipped = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Share of the views that --skip-bad may leave out. [default: 0.2]",
        rich_help_panel=DATA,
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Where prepared images are kept. [default: $MURA_TF_CACHE, else mura_tf in "
        "$XDG_CACHE_HOME or ~/.cache]",
        rich_help_panel=DATA,
    ),
]

RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Settings instead of the paper's: a recipe that ships with the package, such as "
        "fracatlas_efficientnet, or a JSON file.",
        metavar="NAME|FILE",
        rich_help_panel=RECIPE,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="'imagenet', 'none' or the path of backbone weights (.h5).", rich_help_panel=RECIPE
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(min=32, help="Pixels. [default: the backbone's]", rich_help_panel=RECIPE),
]
MaxEpochs = Annotated[
    int | None, typer.Option(min=1, help="A run ends here at the latest.", rich_help_panel=RECIPE)
]
SelectOn = Annotated[
    Literal["valid", "holdout"] | None,
    typer.Option(
        help="Where epochs are chosen: valid is the paper's; holdout, a part of the training "
        "patients.",
        rich_help_panel=RECIPE,
    ),
]

Jobs = Annotated[
    int, typer.Option(min=1, help="Runs at a time on this machine.", rich_help_panel=MACHINE)
]


EngineName = Annotated[
    Literal["local", "ray"],
    typer.Option(
        help="This machine, or Ray, which spreads the work over a cluster.",
        rich_help_panel=MACHINE,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(help="Of a Ray cluster. [default: Ray on this machine]", rich_help_panel=MACHINE),
]


def require_ray(engine: str, **given: bool) -> None:
    """Options of the engine that was not chosen would do nothing."""
    for name, one in given.items():
        if engine != "ray" and one:
            raise typer.BadParameter(
                f"--{name.replace('_', '-')} is an option of Ray. Add --engine ray, or leave it."
            )


def listed(text: str | None) -> tuple[str, ...] | None:
    """The parts between commas; None for an option that was not given."""
    return tuple(part.strip() for part in text.split(",")) if text is not None else None


def skipping(skip_bad: bool, max_skipped: float | None) -> bool | float:
    """`skip_bad` of `prepare_readable`, by the two options."""
    if max_skipped is None:
        return skip_bad
    if not skip_bad:
        raise typer.BadParameter("--max-skipped goes with --skip-bad. Add it.")
    return max_skipped


def settings_of(recipe: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of the recipe of that name or path, and the options that were given."""
    from mura_tf.training.recipe import find_settings

    settings = find_settings(recipe) if recipe else {}
    settings |= {name: value for name, value in given.items() if value is not None}
    if settings.get("weights") == "none":
        settings["weights"] = None
    if isinstance(settings.get("augment"), str):
        augment = settings["augment"]
        settings["augment"] = () if augment == "none" else listed(augment)
    return settings


def run_folders(roots: list[Path]) -> list[Path]:
    """See `folders_below`."""
    from mura_tf.training.run import folders_below

    return folders_below(roots)


def first_folder(roots: list[Path]) -> Path:
    """Where what is made of `run_folders` goes by default: `runs/*` names files, too."""
    return next(root for root in roots if not root.is_file())
