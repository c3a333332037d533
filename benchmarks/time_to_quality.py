"""Seconds of training until valid's AUROC on FracAtlas is 0.90: a recipe beside a plain script.

    python benchmarks/time_to_quality.py FRACATLAS WEIGHTS.h5 --recipe modern

Both are one `efficientnet_v2_b0`, one after the other on this machine, on the same split, each a
process that is ended once it is there. Seconds count from the first epoch; validation after each
epoch counts in both, decoding in the plain script's first alone: the recipe's cache is filled
before. The recipe's AUROC is exact; the script's is Keras' AUC, an approximation by 200 thresholds.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from mura_tf.training.recipe import find_settings

PLAIN = Path(__file__).parents[1] / "experiments" / "plain_keras.py"
TRAIN = """
import json, sys
from mura_tf import Recipe, load_fracatlas, train
data, settings, folder = sys.argv[1:]
train(Recipe(**json.loads(settings)), load_fracatlas(data), folder, skip_bad=True, verbose=2)
"""


def curve(command: list[str], target: float) -> pd.DataFrame:
    """`seconds` and valid's `auroc` after each epoch that a command prints, to the target."""
    rows, started = [], None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if started is None and line.startswith("Epoch 1/"):
                started = time.perf_counter()
            if started and (found := re.search(r"val_au(?:ro)?c: ([0-9.]+)", line)):
                rows.append((time.perf_counter() - started, float(found[1])))
                if rows[-1][1] >= target:
                    process.terminate()
                    return pd.DataFrame(rows, columns=["seconds", "auroc"])
    if process.returncode:
        raise SystemExit(process.returncode)
    return pd.DataFrame(rows, columns=["seconds", "auroc"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("weights")
    parser.add_argument("--recipe", default="modern")
    parser.add_argument("--target", type=float, default=0.9)
    parser.add_argument("--epochs", type=int, default=10, help="of the plain script, at most")
    arguments = parser.parse_args()
    settings = find_settings(arguments.recipe)
    settings |= {"weights": arguments.weights, "monitor": "val_auroc"}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "plain")
        out.mkdir()
        run = [arguments.data, json.dumps(settings), str(Path(folder, "run"))]
        plain = [arguments.data, "efficientnet_v2_b0", arguments.weights]
        plain += ["--epochs", str(arguments.epochs), "--out", str(out)]
        commands = {
            arguments.recipe: [sys.executable, "-u", "-c", TRAIN, *run],
            PLAIN.name: [sys.executable, "-u", str(PLAIN), *plain],
        }
        for name, command in commands.items():
            found = curve(command, arguments.target)
            there = found.auroc >= arguments.target
            seconds = found.seconds[there].min() if there.any() else np.inf
            rows.append((name, seconds, len(found), found.auroc.max()))
    columns = ["system", f"seconds until {arguments.target:g}", "epochs", "AUROC"]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False))


if __name__ == "__main__":
    main()
