import os

import cv2
import numpy as np
import pandas as pd
import pytest
from batches import COUNT, SIZE, code

from mura_tf.data.radiograph import decode_noted
from mura_tf.data.table import VIEW_COLUMNS


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def no_decoding(monkeypatch):
    def refuse(content, path):
        raise AssertionError(f"{path} was decoded")

    def start():
        monkeypatch.setattr("mura_tf.data.store.decode_noted", refuse)

    return start


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files decoded from now on."""
    names = []

    def count(content, path):
        names.append(os.path.basename(path))
        return decode_noted(content, path)

    monkeypatch.setattr("mura_tf.data.store.decode_noted", count)
    return names


@pytest.fixture(scope="session")
def views(tmp_path_factory):
    """View k has a dark square of grey level 10 k + 20 and a white mark in its left half."""
    folder = tmp_path_factory.mktemp("views")
    rows = []
    for number in range(COUNT):
        image = np.full((SIZE, SIZE), code(number), np.uint8)
        image[4:8, 2:6] = 255
        path = folder / f"image{number}.png"
        cv2.imwrite(str(path), image)
        study_type = ["elbow", "wrist"][number % 3 == 0]
        label = int(number % 4 == 0)
        rows.append(("train", study_type, f"p{number}", "study1", path.name, label, str(path)))
    return pd.DataFrame(rows, columns=VIEW_COLUMNS)
