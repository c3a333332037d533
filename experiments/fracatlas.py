"""FracAtlas: fractured or not, all study types in one model, an ensemble of five.

    python experiments/fracatlas.py data/FracAtlas weights/mobilenet_v2_0.35_224_no_top.weights.h5

The settings are `recipes/fracatlas.json`. Published: nothing for this split; the yardstick is
`plain_keras.py` on the same one. Selected on valid, reported on test.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from mura_tf import Recipe, run_experiment
from mura_tf.experiment import print_scores

RECIPE = Recipe.load(Path(__file__).parent / "recipes/fracatlas.json")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="the FracAtlas folder")
    parser.add_argument("weights", help="ImageNet weights of the backbone, or 'imagenet'")
    parser.add_argument("--backbone", default=RECIPE.backbone)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--out", default="runs/fracatlas")
    given = parser.parse_args()
    recipe = replace(RECIPE, backbone=given.backbone, weights=given.weights)
    print_scores(
        run_experiment(
            recipe, given.data, given.out, scheme="whole", members=given.members, skip_bad=True
        )
    )
