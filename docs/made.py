"""What the site tells of the code, made from it: public names, registries, commands, rooms."""

import ast
import os
import re
from importlib import import_module
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # Keras is loaded for the heatmap methods

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

import mura_tf
from mura_tf.cli import app
from mura_tf.explain.ensemble import ORDERS
from mura_tf.explain.localization import SCORES
from mura_tf.explain.methods import METHODS
from mura_tf.grid.plan import SCHEMES
from mura_tf.models.backbones import BACKBONES
from mura_tf.models.specs import (
    AUGMENTATIONS,
    BATCH_NORMS,
    HEAD_LAYERS,
    OPTIMIZERS,
    SCHEDULES,
    TRAINABLE,
)
from mura_tf.papers.deviations import GREY, paper_choices
from mura_tf.papers.reproduce import listing
from mura_tf.reports.markdown import markdown_table
from mura_tf.reports.style import COLOURS
from mura_tf.training.recipe import Recipe

PACKAGE = Path(mura_tf.__file__).parent
ROOMS = (
    *("models", "data", "synthetic", "evaluation", "training"),
    *("grid", "explain", "reports", "inference", "papers", "cli"),
)
"""The folders of the package, in the order in which a radiograph meets them."""
BESIDE = {
    "BACKBONES": ["models.backbones.Backbone"],
    "prepare": ["data.cache.PreparedViews"],
    "Bundle": [
        *("inference.findings.Finding", "inference.findings.View"),
        "evaluation.operating_points.OperatingPoint",
    ],
    "score_classes": ["evaluation.classes.ClassScores"],
    "study_data": ["data.study.DataStudy"],
    "run_experiment": [
        *("grid.plan.plan_runs", "grid.plan.run_plan"),
        *("grid.engines.LocalEngine", "grid.engines.RayEngine"),
    ],
}
"""What a public name takes or returns and is told beside it, without a public name of its own."""
_MARK = re.compile(r"^<!-- made: (.+?) -->.*$", re.MULTILINE)
"""And, for who reads the page as it lies, where the same is told."""


def files() -> dict[str, str]:
    """Files of the site that are in no folder of the repository, by name."""
    pages = {f"docs/python/{room}.md": _room_page(room) for room in _names_by_room()}
    return pages | {"docs/colours.css": _colours()}


def filled(text: str, page: str) -> str:
    """A page with what is made for the places that it marks, `<!-- made: NAME -->`.

    Raises:
        ValueError: a mark of another name.
    """

    def made(mark: re.Match) -> str:
        if mark[1] not in MADE:
            raise ValueError(
                f"{page} marks a place for one of {', '.join(MADE)}. Received: {mark[1]!r}."
            )
        return MADE[mark[1]]()

    return _MARK.sub(made, text)


def place_of(name: str) -> str:
    """The page and anchor of a public name.

    Raises:
        ValueError: there is no such name.
    """
    if name not in mura_tf.__all__:
        raise ValueError(f"a page names mt.{name}. Expected one of {', '.join(mura_tf.__all__)}.")
    room = f"python/{_room_of(name)}" if name in mura_tf._HOME else "python"
    return f"docs/{room}.md#{_identifier(name)}"


def first_line(path: Path) -> str:
    """ ": " and the first line of a Python file's docstring; nothing of other files."""
    docstring = path.suffix == ".py" and ast.get_docstring(ast.parse(path.read_text("utf-8")))
    return f": {docstring.splitlines()[0]}" if docstring else ""


def _names_by_room() -> dict[str, list[str]]:
    """Room, or module of no room, -> its public names."""
    names: dict[str, list[str]] = {room: [] for room in ROOMS}
    for name in mura_tf._HOME:
        names.setdefault(_room_of(name), []).append(name)
    return {room: found for room, found in names.items() if found}


def _room_of(name: str) -> str:
    return mura_tf._HOME[name].partition(".")[0]


def _identifier(name: str) -> str:
    return ".".join(filter(None, ("mura_tf", mura_tf._HOME.get(name), name)))


def _room_page(room: str) -> str:
    """Every public name of a room, by mkdocstrings."""
    lines = [f"# {room}", ""]
    for name in _names_by_room()[room]:
        lines += _told(_identifier(name), f"mt.{name}")
        for other in BESIDE.get(name, ()):
            lines += _told(f"mura_tf.{other}", other)
    return "\n".join(lines)


def _told(identifier: str, heading: str) -> list[str]:
    return [f"::: {identifier}", "    options:", f"      heading: {heading}", ""]


def _public_names() -> str:
    """A list per room, then what is of no room."""
    lines = []
    for room, names in _names_by_room().items():
        listed = ", ".join(f"`mt.{name}`" for name in names)
        lines.append(f"- [{room}](python/{room}.md): {listed}")
    for name in mura_tf.__all__:
        if name not in mura_tf._HOME:
            lines += ["", *_told(_identifier(name), f"mt.{name}")]
    return "\n".join(lines)


def _commands() -> str:
    """A section per command, by Typer."""
    group = get_command(app)
    return "\n".join(
        get_docs_for_click(
            obj=command, ctx=typer.Context(group), indent=1, name=name, call_prefix="mura-tf"
        )
        for name, command in group.commands.items()
    )


def _rooms() -> str:
    """Each room's docstring, and its files."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    if folders != set(ROOMS):
        raise ValueError(f"ROOMS must name the folders {sorted(folders)}. Received: {ROOMS}.")
    lines = []
    for room in ROOMS:
        lines += [f"## {room}", "", import_module(f"mura_tf.{room}").__doc__.strip(), ""]
        for path in sorted((PACKAGE / room).glob("[!_]*.py")):
            lines.append(f"- [{path.stem}](../mura_tf/{room}/{path.name}){first_line(path)}")
        lines.append("")
    return "\n".join(lines)


def _deviations() -> str:
    """Of the paper's tables, numbered."""
    return "\n".join(f"1. {one}" for one in (*paper_choices(map(Recipe, BACKBONES)), GREY))


def _systems() -> str:
    """Every system of the five documents, as `mura-tf reproduce --list` prints them."""
    lines = []
    headers = ("name", "system", "runs", "images, millions", "published")
    for (command, document), rows in listing().groupby(["command", "document"], sort=False):
        lines += [f"### {command} ({document})", ""]
        named = rows.assign(name=rows.name.map(lambda name: name and f"`{name}`"))
        cells = named[["name", "system", "runs", "images", "published"]].itertuples(index=False)
        lines += [*markdown_table(headers, cells, (0, 1, 4)), ""]
    return "\n".join(lines)


def _backbones() -> str:
    headers = ("backbone", "px", "native", "parameters", "ImageNet top-1")
    return "\n".join(
        markdown_table(
            headers,
            (
                (
                    f"`{name}`",
                    str(facts.image_size),
                    f"`{facts.preprocessing}`",
                    f"{facts.parameters:,}",
                    f"{facts.top1:.1%}" if facts.top1 else "",
                )
                for name, facts in BACKBONES.items()
            ),
            text_columns=(0, 2),
        )
    )


def _methods() -> str:
    headers = ("method", "source", "takes a layer", "takes a class")
    answers = {True: "yes", False: "no"}
    return "\n".join(
        markdown_table(
            headers,
            (
                (f"`{name}`", one.source, answers[one.takes_layer], answers[one.takes_class])
                for name, one in METHODS.items()
            ),
            range(4),
        )
    )


def _meanings(header: str, meaning: str, registry: dict[str, str]) -> str:
    rows = ((f"`{name}`", text) for name, text in registry.items())
    return "\n".join(markdown_table((header, meaning), rows, (0, 1)))


def _colours() -> str:
    """Those of the reports, by their names, for both schemes."""
    lines = []
    for number, scheme in enumerate(("default", "slate")):
        lines.append(f'[data-md-color-scheme="{scheme}"] {{')
        lines += [f"  --{name}: {pair[number]};" for name, pair in COLOURS.items()]
        lines.append("}")
    return "\n".join(lines) + "\n"


MADE = {
    "public names": _public_names,
    "commands": _commands,
    "rooms": _rooms,
    "systems": _systems,
    "deviations": _deviations,
    "backbones": _backbones,
    "head": lambda: _meanings("layer", "what it is", HEAD_LAYERS),
    "augmentations": lambda: _meanings("augmentation", "what its value is", AUGMENTATIONS),
    "schedules": lambda: _meanings("schedule", "the learning rate", SCHEDULES),
    "optimizers": lambda: _meanings("optimizer", "what it is", OPTIMIZERS),
    "batch norms": lambda: _meanings("batch_norm", "what it is", BATCH_NORMS),
    "trainable": lambda: _meanings("trainable", "which layers are trained", TRAINABLE),
    "schemes": lambda: _meanings("scheme", "what is trained", SCHEMES),
    "methods": _methods,
    "orders": lambda: _meanings("order", "which studies come first", ORDERS),
    "heatmap scores": lambda: _meanings("score", "what it is", SCORES),
}
