"""A radiograph of 3,000 x 1 pixels makes no figure of 350,000 rows."""

import cv2
import numpy as np
import pandas as pd
import pytest

from mura_tf.reports.study_page import plot_study


@pytest.mark.parametrize("shape", [(3000, 1), (1, 3000), (40, 30)])
def test_a_figure_of_a_strip_has_the_size_of_any_other(tmp_path, shape):
    cv2.imwrite(str(tmp_path / "strip.png"), np.full(shape, 90, np.uint8))
    view = {
        "split": "valid",
        "study_type": "elbow",
        "patient": "patient1",
        "study": "study1",
        "view": "strip.png",
        "label": 1,
        "path": str(tmp_path / "strip.png"),
        "probability": 0.7,
        "probability_study": 0.7,
        "disagreement": 0.0,
    }
    figure = plot_study(pd.DataFrame([view]), np.zeros((1, 32, 32), np.float32))
    figure.savefig(tmp_path / "study.png", dpi=50)
    height, width = cv2.imread(str(tmp_path / "study.png"), cv2.IMREAD_GRAYSCALE).shape
    assert height < 1000 and width < 1000
