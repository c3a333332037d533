"""Lesions: chosen once per study, then seen from every view."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from mura_tf.synthetic.anatomy import ANATOMIES
from mura_tf.synthetic.rods import Rod, rod

Box = tuple[int, int, int, int]  # x, y, width, height: pixels


@dataclass(frozen=True)
class Lesion:
    kind: str
    bone: int
    share: float  # of the way from the bone's start to its end
    seed: int


def draw_lesions(rng: Generator, study_type: str) -> list[Lesion]:
    bones = ANATOMIES[study_type].build(np.random.default_rng(0), 0).bones
    sites = {i: bone.site for i, bone in enumerate(bones) if bone.site}
    count = min(len(sites), 1 + (rng.random() < 0.5))
    return [
        Lesion(
            str(rng.choice(["fracture", "hardware", "lytic"], p=[0.25, 0.55, 0.2])),
            int(bone),
            rng.uniform(*sites[bone]),
            int(rng.integers(2**32)),
        )
        for bone in rng.choice(list(sites), count, replace=False)
    ]


def broken(shaft: Rod, share: float, side: float, rng: Generator) -> tuple[list[Rod], Box]:
    """The two fragments of a projected rod, shifted against each other, with a jagged gap."""
    middle, radius = _seat(shaft, share, side)
    axis = shaft.end - shaft.start
    beside = np.array([-axis[1], axis[0], 0]) / max(np.hypot(*axis[:2]), 1e-3) * radius
    bulge, step = rng.uniform(-0.8, 0.8), rng.uniform(0.5, 0.9) * rng.choice([-1, 1])
    gap = radius * rng.uniform(0.9, 1.3)
    knots = np.linspace(-2.5, 2.5, 13)
    jags = rng.uniform(-0.6, 0.6) * knots + rng.uniform(-0.22, 0.22, 13)

    def fragment(sign: int) -> Rod:
        aside = (bulge - sign * step) * beside  # of the broken end; the joint stays where it is
        if sign < 0:
            part = replace(shaft, end=shaft.end + aside / share)
        else:
            part = replace(shaft, start=shaft.start + aside / (1 - share))
        edge = share * np.hypot(*(part.end - part.start)[:2]) + sign * gap / 2

        def keep(along: np.ndarray, across: np.ndarray) -> np.ndarray:
            return sign * (along - edge - np.interp(across, radius * knots, radius * jags)) > 0

        return replace(part, keep=keep)

    return [fragment(-1), fragment(1)], _square(middle + bulge * beside, (1.6 + abs(step)) * radius)


def hole(
    shaft: Rod, share: float, side: float, rng: Generator
) -> tuple[Callable[[tuple[slice, slice]], np.ndarray], Box]:
    """A lytic lesion of a projected rod: a function of a window, the share of bone left there."""
    middle, radius = _seat(shaft, share, side)
    size = radius * rng.uniform(0.95, 1.35)
    middle = middle + np.array([*rng.uniform(-0.3, 0.3, 2), 0]) * radius
    lobes, phases = rng.uniform(0, 0.12, 2), rng.uniform(0, 2 * np.pi, 2)

    def left(window: tuple[slice, slice]) -> np.ndarray:
        y, x = np.ogrid[window]
        x, y = (x - middle[0]).astype(np.float32), (y - middle[1]).astype(np.float32)
        angle = np.arctan2(y, x)
        edge = sum(
            lobe * np.cos(n * angle + phase)
            for n, (lobe, phase) in enumerate(zip(lobes, phases, strict=True), start=2)
        )
        distance = np.hypot(x, y) / (size * (1 + edge))
        rim = 0.15 * np.exp(-(((distance - 1.25) / 0.15) ** 2))
        return 1 - 0.95 * np.exp(-(distance**6)) + rim

    return left, _square(middle, 1.6 * size)


def implanted(shaft: Rod, share: float, side: float, rng: Generator) -> list[Rod]:
    """A plate with screws, or pins: rods of metal, mm."""
    middle, radius = _seat(shaft, share, side)
    length = np.linalg.norm(shaft.end - shaft.start)
    axis = (shaft.end - shaft.start) / length
    across = np.cross(axis, rng.standard_normal(3))
    across /= np.linalg.norm(across)
    if rng.random() < 0.4:
        slopes = rng.uniform(0.25, 0.7, rng.integers(2, 4)) * rng.choice([-1, 1])
        slopes[-1] *= -1
        ahead = [2.6 * radius * (axis + slope * across) for slope in slopes]
        return [rod(middle - a, middle + a, (0.18 * radius,)) for a in ahead]
    half = min(rng.uniform(3.2, 5) * radius, 0.3 * length) * axis
    middle = middle + 1.1 * radius * across
    plate = rod(middle - half, middle + half, (0.36 * radius,), depth=0.6)
    heads = [middle + place * half for place in np.linspace(-0.85, 0.85, rng.integers(4, 7))]
    return [plate, *(rod(head, head - 2.1 * radius * across, (0.2 * radius,)) for head in heads)]


def _seat(shaft: Rod, share: float, side: float) -> tuple[np.ndarray, float]:
    """Where a lesion sits and how large it is: as the bone, but neither tiny nor huge on film."""
    middle, radius = shaft.at(share)
    return middle, float(np.clip(radius, 0.045 * side, 0.065 * side))


def _square(middle: np.ndarray, half: float) -> Box:
    x, y = np.rint(middle[:2] - half)
    return int(x), int(y), round(2 * half), round(2 * half)


def bounds(rods: Iterable[Rod]) -> Box:
    ends = np.array([(shaft.start[:2], shaft.end[:2]) for shaft in rods])
    reach = np.array([max(shaft.radii) + abs(shaft.bow) for shaft in rods])[:, None]
    x, y = np.floor((ends.min(axis=1) - reach).min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil((ends.max(axis=1) + reach).max(axis=0)).astype(int).tolist()
    return x, y, right - x + 1, bottom - y + 1
