import numpy as np
import pytest

from mura_tf.data.pipeline import preprocessing_table


@pytest.fixture
def images():
    """Random images, 64 pixels, as the paper's preprocessing leaves them."""
    grey = np.random.default_rng(0).integers(0, 256, (3, 64, 64))
    return preprocessing_table("caffe")[grey]
