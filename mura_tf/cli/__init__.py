"""`mura-tf`, a file per command: parses, calls, prints.

Open the command's file first. `options` are the shared ones, `failures` the sentence and the exit
status of what goes wrong, `quiet` what is kept from the terminal, `printing` the tables.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mura_tf.cli import (
    check,
    demo,
    evaluate,
    explain,
    export,
    pack,
    predict,
    prepare,
    reproduce,
    serve,
    study,
    synthesize,
    train,
)
from mura_tf.cli.failures import Commands
from mura_tf.cli.printing import print_in_any_encoding
from mura_tf.cli.quiet import quiet

app = typer.Typer(
    cls=Commands,
    help="Abnormality detection in bone radiographs: train, evaluate and report.\n\n"
    "Not a medical device.",
    epilog="Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _every_command(
    context: typer.Context,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", help="Show what the libraries say, too; before or behind the command."
        ),
    ] = False,
) -> None:
    print_in_any_encoding()
    context.with_resource(quiet(verbose))


# in the order in which data meets them
app.command(rich_help_panel="Data")(synthesize.synthesize)
app.command(rich_help_panel="Data")(check.check)
app.command(rich_help_panel="Data")(prepare.prepare)
app.command(rich_help_panel="Data")(study.study)
app.command(rich_help_panel="Models")(train.train)
app.command(rich_help_panel="Models")(evaluate.evaluate)
app.command(rich_help_panel="Models")(explain.explain)
app.command(rich_help_panel="New radiographs")(pack.pack)
app.command(rich_help_panel="New radiographs")(predict.predict)
app.command(rich_help_panel="New radiographs")(serve.serve)
app.command(rich_help_panel="New radiographs")(export.export)
app.command(rich_help_panel="The whole line")(reproduce.reproduce)
app.command(rich_help_panel="The whole line")(demo.demo)


def reproduce_script(path: str) -> None:
    """Makes `python experiments/NAME.py ...` the same as `mura-tf reproduce NAME ...`."""
    app(["reproduce", Path(path).stem, *sys.argv[1:]])
