"""Predictions tables that no model made."""

import itertools

import numpy as np
import pandas as pd


def predictions_of(
    studies=40, members=1, seed=0, split="valid", study_types=("elbow", "wrist"), **system
):
    """A predictions table; patient k is in both study types, with 1 to 4 views in each study."""
    rng = np.random.default_rng(seed)
    rows = []
    for study_type, number in itertools.product(study_types, range(studies)):
        label = int(rng.random() < 0.4)
        for view, member in itertools.product(range(rng.integers(1, 5)), range(members)):
            rows.append(
                {
                    "split": split,
                    "study_type": study_type,
                    "patient": f"patient{number // 2:05}",
                    "study": f"study{number % 2 + 1}",
                    "view": f"image{view + 1}.png",
                    "label": label,
                    "path": f"/data/{study_type}/{number}/image{view + 1}.png",
                    "backbone": "efficientnet_b3",
                    "stage": "type",
                    "repeat": 0,
                    "member": member,
                    "probability": float(np.clip(rng.normal(0.35 + 0.3 * label, 0.25), 0, 1)),
                }
                | system
            )
    table = pd.DataFrame(rows)
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def figure_1(**columns):
    study = {"split": "valid", "study_type": "finger", "patient": "p1", "study": "study1"}
    system = {"backbone": "efficientnet_b3", "stage": "type", "repeat": 0, "member": 0}
    views = {"view": ["image1.png", "image2.png"], "label": 1, "probability": [0.715, 0.957]}
    return pd.DataFrame(study | system | views | columns)
