"""The whole line on the synthetic data set."""

import os
from pathlib import Path

import pandas as pd

from mura_tf.cores import usable_cores
from mura_tf.experiment import run_experiment
from mura_tf.grid.engines import LocalEngine
from mura_tf.inference.pack import pack
from mura_tf.synthetic.anatomy import ANATOMIES
from mura_tf.synthetic.write import FOLDER, write_synthetic_mura
from mura_tf.training.recipe import Recipe

STUDIES_PER_TYPE = 90
MEMBERS = 2
MOST_JOBS = 4
RECIPE = Recipe(
    backbone="small_cnn",
    weights=None,
    image_size=64,
    preprocessing="native",
    batch_size=16,
    learning_rate=3e-3,
    schedule="plateau:loss:0.1:6",
    patience=6,
    max_epochs=36,
    head=("pool", "batch_norm", "dropout:0.1"),
)


def run_demo(out: str | os.PathLike[str]) -> pd.DataFrame:
    """Writes `out/MURA-v1.1`, trains and reports in `out`; what is there is kept.

    It is what `mura-tf synthesize` and `mura-tf train` do, with a small network: one model on all
    study types, then an ensemble per type from it.

    Returns:
        Table of `score_systems`.

    Raises:
        ValueError: the data set in `out` is no synthetic one; see `run_experiment`.
    """
    out = Path(out)
    data = out / FOLDER
    if not data.exists() or not any(data.iterdir()):
        write_synthetic_mura(out, STUDIES_PER_TYPE, seed=0, progress=True)
    elif not (data / "lesions.csv").is_file():
        raise ValueError(
            f"the demonstration is of synthetic radiographs. Received: {data}, which is another "
            "data set. Give another folder, or train on these with `mura-tf train`."
        )
    return run_experiment(
        RECIPE,
        data,
        out,
        members=MEMBERS,
        engine=LocalEngine(min(usable_cores(), MOST_JOBS)),
        cache_dir=out / "cache",
    )


def pack_demo(out: str | os.PathLike[str]) -> tuple[Path, list[Path]]:
    """Packs the demonstration's ensembles, and names three studies that they did not see.

    Returns:
        `out/demo.mura`, and the folders of three validation studies, of different types.
    """
    out = Path(out)
    bundle = out / "demo.mura"
    pack([out / RECIPE.backbone], bundle, licence="Synthetic radiographs: no rights are reserved.")
    types = sorted((out / FOLDER / "valid").glob("XR_*"))[:: len(ANATOMIES) // 3][:3]
    return bundle, [min(study_type.glob("*/study*")) for study_type in types]
