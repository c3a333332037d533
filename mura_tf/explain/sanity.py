"""Whether heatmaps depend on what a model has learned, and the model on what they show."""

from collections.abc import Callable

import cv2
import keras
import numpy as np
from scipy.stats import spearmanr

SHARES = np.array([0, 0.05, 0.1, 0.2, 0.4, 0.7, 1])
"""Of a radiograph's pixels, hottest first, that are deleted or inserted. Lesions are small."""
BLUR = 0.1
"""Standard deviation of the blur that stands for "deleted", as a share of the side."""


def randomized(model: keras.Model, seed: int = 0) -> keras.Model:
    """The same network with the weights it would begin training from scratch with.

    It sets Keras' random seed.

    Source: Adebayo et al., "Sanity checks for saliency maps", 2018, "complete" randomization.
    """
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(model)


def rank_correlations(heat: np.ndarray, other: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of the pixels of two maps of each view: float (n,), in [-1, 1].

    Args:
        heat, other: float (n, S, S).
        inside: bool (n, S, S), the radiographs without padding.

    Returns:
        0 where one of the two maps is constant, because then it has no order to agree with.
    """
    correlations = np.zeros(len(heat))
    for index, (one, two, frame) in enumerate(zip(heat, other, inside, strict=True)):
        if np.ptp(one[frame]) and np.ptp(two[frame]):
            correlations[index] = spearmanr(one[frame], two[frame]).statistic
    return correlations


def deletion_and_insertion(
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    heat: np.ndarray,
    inside: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """How a probability falls as the hottest pixels go, and rises as they come.

    What is deleted, or not inserted yet, is blurred. Pixels of one heat go in random order, the
    same each time.

    Args:
        predict: images (B, S, S, 3) -> probabilities (B,).
        images: float32 (n, S, S, 3), preprocessed.
        heat: float (n, S, S).
        inside: bool (n, S, S), the radiographs without padding.

    Returns:
        (deletion, insertion): float (n, shares), the probabilities at each of `SHARES`. Their area
        is `scipy.integrate.trapezoid(deletion, SHARES)`.

    Source: Petsiuk et al., "RISE", 2018; blurred in both, where they have a grey deletion.
    """
    curves = []
    for image, one, frame in zip(images, heat, inside, strict=True):
        blurred = cv2.GaussianBlur(image, (0, 0), BLUR * image.shape[0])
        blurred[~frame] = image[~frame]
        share = np.full(one.shape, np.inf)
        share[frame] = (_places(one[frame]) + 1) / frame.sum()  # of the pixels as hot or hotter
        gone = (share <= SHARES[1:-1, None, None])[..., None]
        steps = [image, blurred, *np.where(gone, blurred, image), *np.where(gone, image, blurred)]
        whole, nothing, *between = predict(np.stack(steps))
        half = len(between) // 2
        curves.append(([whole, *between[:half], nothing], [nothing, *between[half:], whole]))
    return tuple(np.moveaxis(np.array(curves, float), 1, 0))


def _places(heat: np.ndarray) -> np.ndarray:
    """The place of each value when the hottest comes first, 0 to n - 1, ties in random order."""
    order = np.random.default_rng(0).permutation(len(heat))
    order = order[np.argsort(-heat[order], kind="stable")]
    places = np.empty(len(heat), int)
    places[order] = np.arange(len(heat))
    return places
