"""A view as it is drawn."""

import dataclasses

import numpy as np
import pytest

from mura_tf.synthetic.anatomy import ANATOMIES
from mura_tf.synthetic.film import draw_view
from mura_tf.synthetic.lesions import draw_lesions


def test_another_seed_draws_another_picture():
    pictures = []
    for seed in (0, 1):
        body, view = np.random.SeedSequence([seed, 0, 0]).spawn(2)
        pictures.append(draw_view("wrist", body, view, [])[0])
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize("study_type", ANATOMIES)
@pytest.mark.parametrize("kind", ["fracture", "hardware", "lytic"])
def test_a_lesion_changes_its_box_and_little_else(study_type, kind):
    body, view = np.random.SeedSequence([5, 5, 5]).spawn(2)
    lesion = draw_lesions(np.random.default_rng(8), study_type)[0]
    lesion = dataclasses.replace(lesion, kind=kind)
    without, none = draw_view(study_type, body, view, [])
    image, [(drawn, (x, y, width, height))] = draw_view(study_type, body, view, [lesion])
    change = np.abs(image.astype(float) - without)
    inside = np.zeros(image.shape, bool)
    inside[y : y + height, x : x + width] = True
    assert none == [] and drawn == kind
    assert (change[inside] > 15).mean() > 0.05
    # A fracture's fragments lean out of its box up to the next joint.
    assert change[inside].sum() > (0.2 if kind == "fracture" else 0.95) * change.sum()
