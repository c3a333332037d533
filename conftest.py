"""What every test has, and what the examples of docstrings and pages are run on."""

from pathlib import Path

import pytest
from eager import run_eagerly
from grazpedwri_tree import write_grazpedwri

collect_ignore = ["tests/played"]  # imported there to look for examples, they would play here, too


@pytest.fixture(autouse=True, scope="session")
def cache_dir(tmp_path_factory):
    """No test writes to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("MURA_TF_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A `demo` as `mura-tf demo` leaves it, but for its size; beside it other data sets."""
    import mura_tf as mt
    from mura_tf.demo import RECIPE
    from mura_tf.grid.plan import plan_runs

    folder = tmp_path_factory.mktemp("examples") / "demo"
    views = mt.load_mura(mt.write_synthetic_mura(folder, studies_per_type=8))
    recipe = RECIPE.changed({"image_size": 32, "max_epochs": 1})
    with run_eagerly():
        for run in plan_runs(recipe, folder, ["wrist"], members=2):
            mt.train(run.recipe, views, run.folder, verbose=0)
    _write_fracatlas(folder.with_name("FracAtlas"))
    write_grazpedwri(folder.with_name("GRAZPEDWRI-DX"))
    return folder


@pytest.fixture(autouse=True)
def examples(request, monkeypatch):
    """Examples know the usual names, and are run beside the `demo` they name."""
    if isinstance(request.node, pytest.DoctestItem):
        import numpy as np
        import pandas as pd

        import mura_tf as mt

        names = request.getfixturevalue("doctest_namespace")
        names |= {"mt": mt, "np": np, "pd": pd, "Path": Path}
        code = "".join(example.source for example in request.node.dtest.examples)
        if any(name in code for name in ("demo", "FracAtlas", "GRAZPEDWRI-DX")):
            monkeypatch.chdir(request.getfixturevalue("demo").parent)


def _write_fracatlas(folder: Path) -> None:
    """Images of every study type and label, as FracAtlas is shipped."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    parts = ("hand", "leg", "hip", "shoulder")
    lines = [",".join(("image_id", *parts, "mixed", "fractured"))]
    for label, name in enumerate(("Non_fractured", "Fractured")):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(16):
            image = f"IMG{label}{number:03d}.jpg"
            flags = [int(number % 4 == place) for place in range(4)]
            lines.append(",".join(map(str, (image, *flags, 0, label))))
            cv2.imwrite(str(folder / "images" / name / image), rng.integers(0, 256, (12, 10), "u1"))
    (folder / "dataset.csv").write_text("\n".join(lines) + "\n")
