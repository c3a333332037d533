import cv2
import numpy as np
import pytest
from mura_folders import study_folders
from trainings import RECIPE

from mura_tf.data.views import load_mura
from mura_tf.training.train import train


@pytest.fixture(scope="session")
def views(tmp_path_factory):
    """40 training and 16 validation views of two study types; a bright square is the lesion."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for _, _, patient, folder in study_folders(root, {"train": 15, "valid": 6}):
        for view in range(1 if patient % 3 else 2):
            image = rng.integers(0, 120, (40, 48), np.uint8)
            if patient % 2 and rng.random() < 0.7:
                image[10:20, 10:20] += 100
            cv2.imwrite(str(folder / f"image{view + 1}.png"), image)
    return load_mura(root)


@pytest.fixture(scope="session")
def reference(views, tmp_path_factory):
    """The run that nothing interrupts."""
    return train(RECIPE, views, tmp_path_factory.mktemp("reference") / "run", verbose=0)


@pytest.fixture
def folder(tmp_path):
    """Of a run that is to be trained."""
    return tmp_path / "run"
