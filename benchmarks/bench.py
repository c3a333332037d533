"""Measures the line's speed on MURA-like input and prints the table of `benchmarks/README.md`.

    python benchmarks/bench.py

Grey PNGs with a long side of 512 pixels (the synthetic data set). Run it on a quiet machine; every
pair of numbers is taken in turns, and the fastest of each is printed, as `timeit` does: the host of
a virtual machine may take one of its processors away for seconds.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from memory import IMPORTED

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SIDE = 300
BATCH = 8
TURNS = 7
STEPS = 30
MEMORY_IMAGES = 20_000


def preparing(views: "pd.DataFrame", folder: Path) -> tuple[float, float]:
    """Images/s of `prepare` and of a bare `cv2.imread` loop on one core."""
    import cv2

    from mura_tf import prepare

    turns = []
    for turn in range(TURNS):
        started = time.perf_counter()
        prepare(views, SIDE, folder / f"cache{turn}")
        ours = len(views) / (time.perf_counter() - started)
        started = time.perf_counter()
        for path in views.path:
            cv2.imread(path, cv2.IMREAD_GRAYSCALE)
        turns.append((ours, len(views) / (time.perf_counter() - started)))
    return _fastest(turns)


def feeding(views: "pd.DataFrame", folder: Path) -> tuple[float, float]:
    """Images/s of `make_dataset` from a warm cache and of a pipeline that decodes every epoch."""
    import tensorflow as tf

    from mura_tf import make_dataset

    def decoded(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_png(tf.io.read_file(path), channels=1)
        image = tf.image.resize_with_pad(image, SIDE, SIDE)
        image = tf.image.random_flip_left_right(image)
        return image - tf.constant([103.939, 116.779, 123.68]), label

    ours = make_dataset(
        views, image_size=SIDE, batch_size=BATCH, training=True, cache_dir=folder / "cache0"
    ).repeat(4)
    theirs = tf.data.Dataset.from_tensor_slices((views.path.to_numpy(), views.label.to_numpy()))
    theirs = theirs.shuffle(len(views)).map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
    theirs = theirs.batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return _fastest([(_rate(ours), _rate(theirs)) for _ in range(TURNS)])


def training(views: "pd.DataFrame", folder: Path, backbone: str) -> tuple[float, float]:
    """Images/s of `fit` from a warm cache and of the same train step on a batch in memory."""
    import keras
    import tensorflow as tf

    from mura_tf import BACKBONES, CohenKappa, build_model, make_dataset, prepare

    side = BACKBONES[backbone].image_size
    prepare(views, side, folder / "cache0")
    batches = make_dataset(
        views, image_size=side, batch_size=BATCH, training=True, cache_dir=folder / "cache0"
    ).repeat()
    model = build_model(backbone, weights=None)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-4),
        loss="binary_crossentropy",
        metrics=[CohenKappa()],
        jit_compile=False,
    )
    in_memory = [next(iter(batches))]
    repeated = tf.data.Dataset.from_tensors(in_memory[0]).repeat(1)
    model.fit(repeated, verbose=0, shuffle=False)  # traces the step
    step = model.train_function
    turns = []
    for _ in range(TURNS):
        started = time.perf_counter()
        model.fit(batches, steps_per_epoch=STEPS, verbose=0, shuffle=False)
        fitted = BATCH * STEPS / (time.perf_counter() - started)
        iterator = iter(tf.data.Dataset.from_tensors(in_memory[0]).repeat(STEPS))
        started = time.perf_counter()
        losses = [step(iterator)["loss"] for _ in range(STEPS)]
        float(losses[-1])
        turns.append((fitted, BATCH * STEPS / (time.perf_counter() - started)))
    return _fastest(turns)


def peak_memory(folder: Path) -> float:
    """MiB that preparing 20,000 images, each another, adds to a Python with TensorFlow loaded."""
    import cv2
    import numpy as np

    images, rng = folder / "images", np.random.default_rng(0)
    images.mkdir()
    for number in range(MEMORY_IMAGES):
        noise = rng.integers(0, 256, (12, 9), np.uint8)
        cv2.imwrite(str(images / f"{number}.png"), cv2.resize(noise, (384, 512)))
    code = IMPORTED + (
        "import pandas, tensorflow\n"
        "from pathlib import Path\n"
        "from memory import most_resident\n"
        "from mura_tf import prepare\n"
        "before = most_resident()\n"
        "views = pandas.DataFrame({'path': sorted(map(str, Path(sys.argv[1]).iterdir()))})\n"
        f"prepare(views, {SIDE}, sys.argv[2])\n"
        "print(most_resident() - before)\n"
    )
    command = [sys.executable, "-c", code, str(images), str(folder / "memory")]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _fastest(turns: list[tuple[float, float]]) -> tuple[float, float]:
    ours, theirs = zip(*turns, strict=True)
    return max(ours), max(theirs)


def _rate(batches: "Iterable[tuple[tf.Tensor, ...]]") -> float:
    started, images = time.perf_counter(), 0
    for batch in batches:
        images += batch[0].shape[0]
    return images / (time.perf_counter() - started)


def main() -> None:
    from mura_tf import BACKBONES, load_mura, write_synthetic_mura

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        views = load_mura(write_synthetic_mura(folder, 40, seed=0))
        print(
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {SIDE} px, ", end=""
        )
        print(f"batch {BATCH}, {len(views)} PNGs\n")
        print("| what | here | beside | ratio | beside what |\n| --- | ---: | ---: | ---: | --- |")
        _row("preparing, images/s", preparing(views, folder), "bare cv2.imread loop, one core")
        _row("feeding, images/s", feeding(views, folder), "tf.io.decode_png every epoch")
        for backbone in ("mobilenet_v2_035", "efficientnet_b0"):
            name = f"fit {backbone}, {BACKBONES[backbone].image_size} px, images/s"
            _row(name, training(views, folder, backbone), "bare step, batch in memory")
        added = peak_memory(folder)
        _row(f"preparing {MEMORY_IMAGES:,} images, MiB added", (added, 1024), "the limit")


def _row(name: str, pair: tuple[float, float], beside: str) -> None:
    ours, theirs = pair
    print(f"| {name} | {ours:,.1f} | {theirs:,.1f} | {ours / theirs:.2f} | {beside} |", flush=True)


if __name__ == "__main__":
    main()
