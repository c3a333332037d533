"""Maps/s of each method beside the plain forward pass on the same batch.

    python benchmarks/explain.py

The paper's head on the backbones below with random weights, at their own size. Each method takes
its turn with the forward pass; medians of the turns are printed, and exit status 1 says that CAM
costs 1.3 forward passes or more, or Grad-CAM 4 or more.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

BACKBONES = ("mobilenet_v2_035", "efficientnet_b0", "densenet169")
BATCH = 8
TURNS = 7
MOST = {"cam": 1.3, "grad_cam": 4.0}
"""Forward passes that a method may cost."""
SLOW = ("score_cam", "smoothgrad")
"""They take dozens of forward passes: one turn, and on the smallest backbone only."""


def costs(backbone: str) -> dict[str, tuple[float, float]]:
    """Method -> images/s of the forward pass and maps/s, with the same batch in turns."""
    import numpy as np

    from mura_tf import build_model, heatmaps
    from mura_tf.explain.heatmaps import methods_for

    model = build_model(backbone, weights=None)
    model.jit_compile = False  # as the methods' own models, and faster on a CPU
    side = model.input_shape[1]
    images = np.random.default_rng(0).uniform(-1, 1, (BATCH, side, side, 3)).astype("float32")

    def seconds(function: Callable[[], object]) -> float:
        started = time.perf_counter()
        function()
        return time.perf_counter() - started

    found = {}
    for method in methods_for(model):
        if method in SLOW and backbone != BACKBONES[0]:
            continue

        forward = partial(model.predict_on_batch, images)
        explain = partial(heatmaps, model, images, method)
        forward(), explain()  # the graphs are made
        turns = [
            (seconds(forward), seconds(explain)) for _ in range(1 if method in SLOW else TURNS)
        ]
        plain, explained = (statistics.median(column) for column in zip(*turns, strict=True))
        found[method] = BATCH / plain, BATCH / explained
    return found


def main() -> None:
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, batch {BATCH}\n")
    print("| backbone | method | maps/s | forward, images/s | forward passes | at most |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    missed = []
    for backbone in BACKBONES:
        for method, (plain, maps) in costs(backbone).items():
            cost, most = plain / maps, MOST.get(method)
            numbers = f"{maps:.1f} | {plain:.1f} | {cost:.2f} | {most or ''}"
            print(f"| {backbone} | {method} | {numbers} |")
            if most and cost >= most:
                missed.append(f"{backbone}, {method}: {cost:.2f} forward passes, at most {most}")
    if missed:
        sys.exit("Missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
