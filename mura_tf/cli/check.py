"""`mura-tf check`: everything that is wrong with a data set."""

import typer

from mura_tf.cli.options import Data
from mura_tf.cli.printing import print_summary
from mura_tf.terminal import counted, waiting


def check(data: Data) -> None:
    """List everything that is wrong with a data set, file by file; exit 1 if anything is."""
    with waiting("Starting"):
        from mura_tf.data.check import check_dataset

    problems = check_dataset(data, progress=True)
    if problems.empty:
        print_summary(data)
        print(f"Nothing is wrong with {data}.")
        return
    for problem in problems.itertuples():
        print(f"{problem.problem}: {problem.path}: {problem.reason}")
    print(f"{counted(len(problems), 'problem')} in {data}.")
    raise typer.Exit(1)
