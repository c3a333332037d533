"""Small radiographs that are mixtures of three patterns."""

import cv2
import numpy as np
import pandas as pd

from mura_tf.data.table import VIEW_COLUMNS

SIDE = 16
CLASSES = ["normal elbow", "abnormal elbow", "normal wrist", "abnormal wrist"]
TRAINING = dict(zip(CLASSES, (40, 8, 30, 22), strict=True))


def write_views(folder, counts=TRAINING, seed=0):
    """A views table of images 16 pixels high and 8 to 16 wide, so that only padding is added.

    They are mixtures of three patterns and some noise, with a black left column.
    """
    rng = np.random.default_rng(seed)
    patterns = rng.normal(size=(3, SIDE, SIDE))
    folder.mkdir(parents=True)
    rows = []
    for name, count in counts.items():
        word, study_type = name.split()
        for number in range(count):
            image = 110 + 10 * rng.normal(size=3) @ patterns.reshape(3, -1)
            image = image.reshape(SIDE, SIDE) + rng.normal(size=(SIDE, SIDE))
            image = image[:, : rng.choice([8, 12, 16])]
            image[:, 0] = 0
            path = folder / f"{word}_{study_type}_{number}.png"
            cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))
            key = ("train", study_type, f"p{number}", "s1", "1.png", int(word == "abnormal"))
            rows.append((*key, str(path)))
    return pd.DataFrame(rows, columns=VIEW_COLUMNS)


def written_views(folder):
    """A training split of `TRAINING`, and a quarter of it again as a valid split."""
    training = write_views(folder)
    return pd.concat([training, training[::4].assign(split="valid")], ignore_index=True)


def rows_of(study, per_class):
    rows = study.reductions[study.reductions.per_class == per_class]
    return rows.set_index("method")
