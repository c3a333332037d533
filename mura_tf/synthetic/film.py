"""The picture: what the rays cross adds up to the absorption, and the film answers to that."""

import cv2
import numpy as np
from numpy.random import Generator

from mura_tf.synthetic.anatomy import ANATOMIES, Anatomy
from mura_tf.synthetic.lesions import Box, Lesion, bounds, broken, hole, implanted
from mura_tf.synthetic.rods import Body, Bone, Rod, rotation

# Attenuation per mm at about 60 kV; bone and metal count what they add to the flesh around them.
FLESH, CORTEX, MARROW, METAL = 0.02, 0.07, 0.015, 0.6


def draw_view(
    study_type: str,
    body: np.random.SeedSequence,
    view: np.random.SeedSequence,
    lesions: list[Lesion],
) -> tuple[np.ndarray, list[tuple[str, Box]]]:
    """Draws one view. Pose, exposure and noise do not depend on `lesions`.

    Returns:
        uint8 (height, width), and for each lesion in the field its kind and box.
    """
    rng = np.random.default_rng(view)
    anatomy = ANATOMIES[study_type]
    turn, flexion, roll = anatomy.poses[rng.integers(len(anatomy.poses))]
    flexion *= rng.uniform(0.6, 1.4) if flexion < 60 else rng.uniform(0.9, 1.1)
    matrix, shift, shape = _camera(rng, anatomy, turn, roll)
    mm = float(abs(np.linalg.det(matrix)) ** (1 / 3))  # pixels
    patient = anatomy.build(np.random.default_rng(body), flexion)
    flesh = _flesh([rod.moved(matrix / 4, shift / 4) for rod in patient.flesh], mm / 4, shape, rng)
    typical = float(np.percentile(flesh[::4, ::4][flesh[::4, ::4] > 0.1], 60))
    absorption = typical * (np.maximum(flesh, 0) / typical) ** np.float32(0.45)  # as detectors do
    grain = cv2.GaussianBlur(
        rng.standard_normal((shape[0] // 2, shape[1] // 2), np.float32), (0, 0), 1
    )
    grain = MARROW * (1 + 0.45 * cv2.resize(grain, shape[::-1]))

    bones = [[rod.moved(matrix, shift) for rod in bone.rods] for bone in patient.bones]
    metal: list[Rod] = []
    holes, boxes = {}, []
    for lesion in lesions:
        details = np.random.default_rng(lesion.seed)
        shaft = bones[lesion.bone][0]
        if lesion.kind == "fracture":
            bones[lesion.bone][:1], box = broken(shaft, lesion.share, max(shape), details)
        elif lesion.kind == "lytic":
            holes[lesion.bone], box = hole(shaft, lesion.share, max(shape), details)
        else:
            bone = patient.bones[lesion.bone].rods[0]
            implant = implanted(bone, lesion.share, max(shape) / mm, details)
            implant = [rod.moved(matrix, shift) for rod in implant]
            metal, box = metal + implant, bounds(implant)
        boxes.append((lesion.kind, box))
    for number, rods in enumerate(bones):
        window, outer, inner = _crossed(rods, shape)
        layer = CORTEX * (outer - inner) + grain[window] * inner
        absorption[window] += layer * (holes[number](window) / mm if number in holes else 1 / mm)
    for rod in metal:
        window, outer, _ = _crossed([rod], shape)
        absorption[window] += METAL / mm * outer

    image, field = _film(absorption, typical, _contrast(patient), rng)
    clipped = [(kind, _clip(box, field)) for kind, box in boxes]
    return image, [(kind, box) for kind, box in clipped if min(box[2:]) > 0]


def _contrast(body: Body) -> float:
    """What a bone adds to the absorption: between the mean of those with sites and the most."""

    def middle(bone: Bone) -> float:
        shaft = bone.rods[0]
        return 2 * CORTEX * shaft.cortex + 2 * MARROW * float(np.median(shaft.radii))

    at_sites = np.mean([middle(bone) for bone in body.bones if bone.site])
    return float(at_sites + max(map(middle, body.bones))) / 2


def _camera(
    rng: Generator, anatomy: Anatomy, turn: float, roll: float
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Where the film lies: matrix (3, 3) and shift (3,) from mm to pixels, and (height, width)."""
    field = np.array(anatomy.field) * rng.uniform(0.92, 1.12, 2)
    if rng.random() < 0.1:
        field, roll = field[::-1], roll + 90
    scale = (512 if rng.random() < 0.85 else rng.integers(400, 512)) / field.max()
    width, height = (round(float(side * scale)) for side in field)
    turn, tilt, roll = rng.normal((turn, 0, roll), (6, 7, 6))
    matrix = rotation("z", roll) @ rotation("x", tilt) @ rotation("y", turn)
    matrix = scale * rng.uniform(0.92, 1.08) * np.diag([rng.choice([-1, 1]), 1, 1]) @ matrix
    middle = rng.normal(0.5, 0.025, 2) * (width, height)
    return matrix, np.array([*middle, 0]) - matrix @ (*anatomy.centre, 0), (height, width)


def _flesh(rods: list[Rod], mm: float, shape: tuple[int, int], rng: Generator) -> np.ndarray:
    """float32 `shape`: its absorption. It is smooth, so `rods` and `mm` are a quarter the size."""
    coarse = -(-shape[0] // 4), -(-shape[1] // 4)
    window, crossed, _ = _crossed(rods, coarse)
    flesh = np.zeros(coarse, np.float32)
    flesh[window] = FLESH / mm * crossed
    folds = cv2.GaussianBlur(rng.standard_normal(coarse, np.float32), (0, 0), 6)
    flesh = cv2.GaussianBlur(flesh, (0, 0), 1.3) * (1 + np.float32(0.8) * folds)
    return cv2.resize(flesh, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _crossed(
    rods: list[Rod], shape: tuple[int, int]
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """How much of some projected rods, grown together, the rays cross.

    Returns:
        The window of the picture that holds the rods, and float32 path lengths (pixels) in it:
        through the whole, and through the marrow inside.
    """
    picture = (0, 0, shape[1], shape[0])
    left, top, width, height = _clip(bounds(rods), picture)
    outer, inner = np.zeros((2, height, width), np.float32)
    for rod in rods:
        x0, y0, columns, rows = _clip(bounds([rod]), picture)
        if not columns * rows:
            continue
        axis = rod.end - rod.start
        length = max(float(np.hypot(*axis[:2])), 1e-3)
        ex, ey = (float(side) / length for side in axis[:2])
        x = np.arange(x0, x0 + columns, dtype=np.float32) - float(rod.start[0])
        y = np.arange(y0, y0 + rows, dtype=np.float32)[:, None] - float(rod.start[1])
        along, across = x * ex + y * ey, y * ex - x * ey
        share = np.clip(along * (1 / length), 0, 1)
        if rod.bow:
            across -= float(4 * rod.bow) * share * (1 - share)
        # Seen from its end, a cap is round however blunt it is.
        blunt = 1 + (rod.blunt - 1) * length / max(float(np.linalg.norm(axis)), length)
        past = (along - share * length) * blunt
        distance = across * across + past * past
        nearest = (share * 255).astype(np.uint8)
        here = np.s_[y0 - top : y0 - top + rows, x0 - left : x0 - left + columns]
        for total, squares in zip((outer[here], inner[here]), _squared_radii(rod), strict=True):
            chord = np.take(squares, nearest) - distance
            if rod.keep is not None:
                chord[~rod.keep(along, across)] = 0
            chord = np.sqrt(np.maximum(chord, 0)) * float(2 * rod.depth)
            if rod.depth > 0:
                np.maximum(total, chord, out=total)
            else:
                total += chord
    return np.s_[top : top + height, left : left + width], outer, inner


_SHARES = np.linspace(0, 1, 256)

_SHELL = 1 - 0.6 * np.abs(2 * _SHARES - 1) ** 4  # the cortex is thin at the ends


def _squared_radii(rod: Rod) -> tuple[np.ndarray, np.ndarray]:
    """float32 (256,) each, from start to end: of the whole rod and of the marrow."""
    radii = np.interp(_SHARES, np.linspace(0, 1, len(rod.radii)), rod.radii)
    radii = cv2.blur(radii[None], (25, 1), borderType=cv2.BORDER_REPLICATE)[0]
    marrow = np.maximum(radii - rod.cortex * _SHELL, 0)
    return (radii**2).astype(np.float32), (marrow**2).astype(np.float32)


def _film(
    absorption: np.ndarray, typical: float, contrast: float, rng: Generator
) -> tuple[np.ndarray, Box]:
    """Exposes and develops. Returns the picture and the box of the field between the shutters."""
    height, width = absorption.shape
    insets = np.rint(rng.uniform(0, 0.09, 4) * (width, height, width, height)).astype(int)
    left, top, right, bottom = (insets * (rng.random() < 0.65)).tolist()
    field = left, top, width - left - right, height - top - bottom
    lead = np.float32(typical + 1.4 * contrast) * _marker(absorption.shape, field, rng)
    absorption = cv2.GaussianBlur(absorption + lead, (0, 0), rng.uniform(0.7, 1.3))
    # The beam is stronger on one side.
    lean = rng.normal(0, 0.1, 2) * contrast
    across, down = (
        np.linspace(-most, most, side, dtype=np.float32)
        for most, side in zip(lean, (width, height), strict=True)
    )
    absorption = absorption + across + down[:, None]
    # Hurter and Driffield: density is sigmoid in the logarithm of the exposure exp(-absorption).
    middle = typical + contrast * rng.normal(0.7, 0.15)
    steepness = rng.uniform(1.8, 2.4) / contrast
    image = 1 / (1 + np.exp(float(steepness) * (float(middle) - absorption)))
    noise = rng.standard_normal(image.shape, np.float32)
    image += rng.uniform(0.01, 0.03) * noise * np.sqrt(1.05 - image)
    low, high, outside = rng.uniform((0, 225, 0), (20, 255, 6)).tolist()
    image = low + (high - low) * image
    if field != (0, 0, width, height):
        centre = left + field[2] / 2, top + field[3] / 2
        corners = np.rint(cv2.boxPoints((centre, field[2:], rng.normal(0, 1.5)))).astype(int)
        lit = cv2.fillConvexPoly(np.zeros(image.shape, np.uint8), corners, 1)
        image[lit == 0] = outside
        left, top, width, height = cv2.boundingRect(lit)
        field = left, top, width, height
    return np.clip(image, 0, 255).astype(np.uint8), field


def _marker(shape: tuple[int, int], field: Box, rng: Generator) -> np.ndarray:
    """uint8 `shape`: 1 on a letter near a corner of the field; one view in five has none."""
    left, top, width, height = field
    size = rng.uniform(0.7, 1.2)
    x = int(rng.choice([left + 12, left + width - int(40 * size)]))
    y = int(rng.choice([top + int(40 * size), top + height - 15]))
    letter, thickness = "LR"[rng.integers(2)], int(rng.integers(2, 4))
    mask = np.zeros(shape, np.uint8)
    if rng.random() < 0.8:
        cv2.putText(mask, letter, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, 1, thickness)
    return mask


def _clip(box: Box, field: Box) -> Box:
    """The part of `box` inside `field`; its width or height is 0 if there is none."""
    low = np.maximum(box[:2], field[:2])
    high = np.minimum(np.add(box[:2], box[2:]), np.add(field[:2], field[2:]))
    return (*low.tolist(), *np.maximum(high - low, 0).tolist())
