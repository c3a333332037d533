"""Memory of scores and operating points, which grows with the studies and with nothing else."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from mura_tf.evaluation.operating_points import operating_points, score_points
from mura_tf.evaluation.scores import score

STUDIES = 6000
ROW = 8 * STUDIES
"""Bytes of a number for each study: a bootstrap of 2,000 samples has 92 MiB of them."""


@pytest.fixture(scope="module")
def studies():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, STUDIES)
    probabilities = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    facts = {"split": "valid", "study_type": "wrist", "study": "study1", "backbone": "small_cnn"}
    facts |= {"stage": "type", "repeat": 0, "members": 1}
    names = [f"p{number}" for number in range(STUDIES)]
    return pd.DataFrame({"patient": names, "label": labels, "probability": probabilities} | facts)


@pytest.mark.parametrize("what", ["scores", "choice", "points"])
def test_it_is_a_few_rows_of_weights(studies, monkeypatch, what):
    points = operating_points(studies)
    work = {
        "scores": lambda: score(studies, replicates=2000),
        "choice": lambda: operating_points(studies),
        "points": lambda: score_points(points, studies, replicates=2000),
    }[what]
    monkeypatch.setattr("mura_tf.evaluation.metrics.BLOCK", 20 * STUDIES)
    tracemalloc.start()
    try:
        work()
        assert tracemalloc.get_traced_memory()[1] < 300 * ROW
    finally:
        tracemalloc.stop()
