"""A data set of MURA's size, and a table of ten times that: seconds and memory of each step.

    python benchmarks/size.py

Writes 40,005 small grey PNGs, each another, laid out as MURA v1.1 is and as many per study type,
label and split as Table I has. Then each step runs in a process of its own; its seconds are without
the imports, its memory is the most that the process ever held, imports included. Steps that read no
radiograph are repeated on a views table of ten such data sets; how they grow is the exponent e of
seconds ~ rows^e.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import pandas as pd
from grid import write_finished
from memory import most_resident

import mura_tf as mt
from mura_tf.data.cache import data_fingerprint
from mura_tf.experiment import report_runs
from mura_tf.grid.plan import PlannedRun
from mura_tf.published import published_table
from mura_tf.training.selection import selected_views, split_views

SIDE = 64
TIMES = 10
RECIPE = mt.Recipe(stage="mura")
HOLDOUT = mt.Recipe(stage="mura", select_on="holdout")
Step: TypeAlias = Callable[[], object]


def write_mura(root: Path) -> None:
    """40,005 PNGs of some 3 kB."""
    rng = np.random.default_rng(0)
    table = published_table("table_i").query("study_type != 'all'")
    for cell in table.itertuples():
        kind = f"XR_{cell.study_type.upper()}"
        outcome = "positive" if cell.label else "negative"
        for image in range(int(cell.images)):
            study = image % int(cell.studies)
            patient = f"patient{'vt'[cell.split == 'train']}{outcome[0]}{cell.study_type}{study}"
            folder = root / cell.split / kind / patient / f"study1_{outcome}"
            folder.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 256, (12, 9), np.uint8)
            picture = cv2.resize(noise, (72, 96), interpolation=cv2.INTER_LINEAR)
            cv2.imwrite(str(folder / f"image{image // int(cell.studies) + 1}.png"), picture)


def times(views: pd.DataFrame, count: int) -> pd.DataFrame:
    """So many such data sets, of other patients each; the files of the first alone are there."""
    copies = [
        views.assign(
            patient=views.patient + f"x{number}", path=views.path + f"?{number}" * bool(number)
        )
        for number in range(count)
    ]
    return pd.concat(copies, ignore_index=True)


def file_steps(folder: Path) -> dict[str, Step]:
    mura, cache = folder / "MURA-v1.1", folder / "cache"
    return {
        "load_mura": lambda: mt.load_mura(mura),
        "check_dataset": lambda: mt.check_dataset(mura),
        "prepare": lambda: mt.prepare(pd.read_csv(folder / "views.csv"), SIDE, cache),
        "prepare, all there": lambda: mt.prepare(pd.read_csv(folder / "views.csv"), SIDE, cache),
    }


def table_steps(folder: Path) -> dict[str, Step]:
    views = pd.read_csv(folder / "views.csv")
    digests = np.array([f"{number:016x}" for number in range(len(views))])
    run = folder / "run"
    return {
        "summarize": lambda: mt.summarize(views),
        "deal a holdout": lambda: split_views(selected_views(views, HOLDOUT), HOLDOUT),
        "data_fingerprint": lambda: data_fingerprint(views, digests),
        "write a run's predictions": lambda: write_finished(
            PlannedRun(RECIPE, run), views.assign(split="valid")
        ),
        "score and report the run": lambda: report_runs([run], folder / "report"),
    }


def measured(kind: str, step: str, folder: Path) -> tuple[float, float]:
    """Seconds and MiB of one step, in a process of its own."""
    command = [sys.executable, __file__, "--step", kind, step, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", nargs=3, metavar=("KIND", "STEP", "FOLDER"), help="one, as JSON")
    one = parser.parse_args().step
    if one:
        kind, step, folder = one
        run = STEPS[kind](Path(folder))[step]
        started = time.perf_counter()
        run()
        seconds = time.perf_counter() - started
        print(json.dumps([seconds, most_resident()]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        small, large = Path(temporary, "small"), Path(temporary, "large")
        large.mkdir()
        write_mura(small / "MURA-v1.1")
        views = mt.load_mura(small / "MURA-v1.1")
        views.to_csv(small / "views.csv", index=False)
        times(views, TIMES).to_csv(large / "views.csv", index=False)
        few, many = len(views), len(views) * TIMES
        print(f"| step | {few:,} rows | | {many:,} rows | | e |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for step in file_steps(small):
            seconds, memory = measured("file", step, small)
            print(f"| {step} | {seconds:.1f} s | {memory:,.0f} MiB | | | |", flush=True)
        for step in table_steps(small):
            (seconds, memory), (more, much) = (
                measured("table", step, folder) for folder in (small, large)
            )
            growth = math.log(more / seconds) / math.log(TIMES)
            print(f"| {step} | {seconds:.2f} s | {memory:,.0f} MiB ", end="")
            print(f"| {more:.2f} s | {much:,.0f} MiB | {growth:.2f} |", flush=True)


STEPS = {"file": file_steps, "table": table_steps}

if __name__ == "__main__":
    main()
