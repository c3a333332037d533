"""Small PNG files, their views table, and what the cache holds of them."""

import os

import cv2
import numpy as np
import pandas as pd

SIZE = 32


def images_in(folder, count, seed=0):
    """Paths of that many PNG files, of shapes and contents of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        path = folder / f"image{number}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, rng.integers(20, 60, 2), np.uint8))
        paths.append(str(path))
    return paths


def table(paths):
    numbers = range(len(paths))
    return pd.DataFrame(
        {
            "split": "train",
            "study_type": "elbow",
            "patient": [f"patient{number // 2}" for number in numbers],
            "study": "study1",
            "view": [os.path.basename(path) for path in paths],
            "label": [number // 2 % 2 for number in numbers],
            "path": paths,
        }
    )


def squares(prepared):
    return prepared.images[prepared.rows]


def files(cache):
    folder = cache / f"{SIZE}px"
    return (folder / "images.u8").read_bytes(), (folder / "index.jsonl").read_bytes()
