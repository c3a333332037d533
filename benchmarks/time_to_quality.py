"""Seconds of training until valid's AUROC on FracAtlas is 0.90: a recipe beside a plain script.

    python benchmarks/time_to_quality.py FRACATLAS WEIGHTS.h5 --recipe modern

Both are one `efficientnet_v2_b0`, one after the other on this machine, on the same split. Building
and predicting do not count; validation after each epoch does, in both. Decoding does not count for
the recipe, whose cache is filled before; for the plain script it does, in its first epoch, after
which it keeps what it has decoded. The recipe's AUROC is exact; the script's is Keras' AUC, an
approximation by 200 thresholds.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from mura_tf import Recipe, load_fracatlas, train
from mura_tf.training.recipe import find_settings

PLAIN = Path(__file__).parents[1] / "experiments" / "plain_keras.py"


def of_recipe(data: str, recipe: Recipe, folder: Path) -> pd.DataFrame:
    """`seconds` since the start and `auroc` on valid, after each epoch."""
    run = train(recipe, load_fracatlas(data), folder, skip_bad=True)
    seconds = np.cumsum(run.info["seconds_per_epoch"])
    return pd.DataFrame({"seconds": seconds, "auroc": run.history.val_auroc})


def of_plain_script(data: str, weights: str, folder: Path, epochs: int) -> pd.DataFrame:
    """The same of `plain_keras.py`, by when it prints its epochs."""
    folder.mkdir()
    command = [sys.executable, "-u", str(PLAIN), data, "efficientnet_v2_b0", weights]
    command += ["--epochs", str(epochs), "--out", str(folder)]
    rows, started = [], None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="")
            if line.startswith("Epoch 1/"):
                started = time.perf_counter()
            if started and (found := re.search(r"val_auc: ([0-9.]+)", line)):
                rows.append((time.perf_counter() - started, float(found[1])))
    if process.returncode:
        raise SystemExit(process.returncode)
    return pd.DataFrame(rows, columns=["seconds", "auroc"])


def until(curve: pd.DataFrame, target: float) -> float:
    """Seconds to the first epoch at the target or above; infinite where there is none."""
    reached = curve[curve.auroc >= target]
    return float(reached.seconds.iloc[0]) if len(reached) else np.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("weights")
    parser.add_argument("--recipe", default="modern")
    parser.add_argument("--target", type=float, default=0.9)
    parser.add_argument("--epochs", type=int, default=10, help="of the plain script, at most")
    arguments = parser.parse_args()
    settings = find_settings(arguments.recipe) | {"weights": arguments.weights}
    recipe = Recipe.from_dict(settings).changed({"monitor": "val_auroc"})
    with tempfile.TemporaryDirectory() as folder:
        curves = {
            arguments.recipe: of_recipe(arguments.data, recipe, Path(folder, "recipe")),
            "plain_keras.py": of_plain_script(
                arguments.data, arguments.weights, Path(folder, "plain"), arguments.epochs
            ),
        }
    rows = [
        (name, until(curve, arguments.target), curve.auroc.max(), curve.seconds.iloc[-1])
        for name, curve in curves.items()
    ]
    columns = ["system", f"seconds until {arguments.target:g}", "best AUROC", "seconds in all"]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False))


if __name__ == "__main__":
    main()
