"""Predictions tables of a task with classes, that no model made."""

import itertools

import numpy as np
import pandas as pd

from mura_tf.data.tasks import class_names, class_of

TASK = "type_and_abnormality"
TYPES = ("elbow", "hand", "wrist")
SYSTEM = {"backbone": "densenet121", "stage": "mura", "repeat": 0}


def predictions_of(types=TYPES, patients=20, members=1, split="test", task=TASK, seed=0):
    """A predictions table of a system that is right somewhat more often than not."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, study_type in itertools.product(range(patients), types):
        study = {"study_type": study_type, "patient": f"p{number // 2}", "study": f"s{number % 2}"}
        label = int(rng.random() < 0.4)
        rows += [study | {"view": f"{view}.png", "label": label} for view in range(number % 3 + 1)]
    views = pd.DataFrame(rows).assign(split=split, path="nowhere.png", **SYSTEM)
    classes = class_names(views, task)
    truth = np.array(classes)[:, None] == class_of(views, task).to_numpy()
    tables = []
    for member in range(members):
        logits = 1.2 * truth.T + rng.normal(size=truth.T.shape)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        columns = {f"p:{name}": shares[:, index] for index, name in enumerate(classes)}
        tables.append(views.assign(member=member, probability=np.nan, **columns))
    return pd.concat(tables, ignore_index=True)
