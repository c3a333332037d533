"""The bodies that are radiographed: bones and flesh of each study type, and how they are posed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from mura_tf.synthetic.rods import Body, Bone, ball, rod, rotation


# fmt: off
def _forearm_bones(rng: Generator) -> Body:
    """Radius and ulna; the elbow at the origin, the hand up, the thumb to the left."""
    radius = rod((-13, -14), (-10, -241), (11, 10, 6.5, 8, 7, 7, 7.2, 7.2, 7.5, 8.5, 12.5, 13.5),
                 2.7, bow=rng.uniform(3, 7))
    ulna = rod((10, -8), (13, -236), (12, 11, 9, 8, 7.5, 7, 6.5, 6, 5.3, 5, 6, 6.5),
               2.6, bow=rng.uniform(-2, 1))
    olecranon = ball((9, 8, -19), (9, -14, -10), (8, 10, 11), 1.6)
    skin = rod((0, 20), (0, -255), rng.uniform(0.9, 1.15) * np.array((46, 45, 42, 36, 30, 27)),
               depth=0.8)
    return Body((Bone((radius,)), Bone((ulna, olecranon))), (skin,))


def _humerus_bones(rng: Generator) -> Body:
    """The elbow at the origin, the shoulder down, the head to the right."""
    shaft = rod((0, 18), (2, 292), (13, 12, 11.5, 11, 11, 11, 11.5, 12, 13, 16, 18),
                3.6, bow=rng.uniform(-4, 4))
    condyles = ball((-15, 7), (15, 6), (11, 10, 8, 11, 12), 1.6)
    columns = [rod((x, 16), (0.25 * x, 66), (5, 6, 8), 1.8) for x in (25, -21)]
    fossa = rod((1, 14), (0, 62), (23, 17, 10), 3, depth=0.2)
    head = ball((12, 302), (9, 298), (23, 21), 1.6)
    tuberosity = ball((-11, 302), (-8, 285), (10, 11), 1.6)
    skin = rod((0, -15), (0, 330), rng.uniform(0.9, 1.15) * np.array((42, 46, 52, 58, 62)),
               depth=0.9)
    return Body((Bone((shaft, condyles, *columns, fossa, head, tuberosity)),), (skin,))


def _shoulder_girdle(rng: Generator) -> Body:
    """The humeral head at the origin, the chest to the right. The clavicle is the first bone."""
    clavicle = rod((8, -38), (135, -42), (8, 7, 6, 6, 6.5, 8, 10), 2.2, bow=rng.uniform(5, 13))
    scapula = (
        rod((33, 22), (66, 128), (6, 4.5, 4, 5), 2),
        rod((45, 12), (70, 120), (12, 34, 30, 20, 9), 6, depth=0.12),
        rod((29, -10), (31, 18), (7, 8, 7), 2.2),
        rod((34, -16), (16, -22), (7, 6, 6), 1.8, bow=4),
        rod((100, 0), (2, -32), (4, 6, 7, 8, 9), 2, depth=0.7),
    )
    ribs = [
        Bone((rod((62 + 9 * abs(i - 1), y), (165, y - 22 - 6 * i), (4.5, 5, 5.5, 5.5), 1.5,
                  bow=-16 - 3 * i),))
        for i, y in enumerate(np.arange(12, 190, 27) + rng.normal(0, 2, 7))
    ]
    flesh = (
        rod((120, -5), (125, 260), (60, 105, 115), depth=0.75),
        rod((0, 5), (70, -20), (52, 46, 42), depth=1.2),
        rod((110, -70), (120, 10), (26, 40)),
        rod((130, 40), (130, 200), (45, 62, 70), depth=-0.6),  # the lung
    )
    return Body((Bone((clavicle,)), Bone(scapula), *ribs), flesh)

_CARPALS = (  # x, y, how far it reaches in x and y, radius
    (-10, -5, -6, -7, 6.2), (-1, -4, 1, -2, 7.2), (8, -7, 3, -3, 6.2), (12, -8, 0, -1, 4.4),
    (-20, -24, -2, -3, 6.2), (-11, -25, 0, -3, 5.3), (-2, -16, 1, -10, 6.6), (7, -20, 3, -6, 6.4),
)

_RAYS = (  # base of the metacarpal (x, y), slope in degrees, lengths, radius
    ((-26, -33), -36, (40, 30, 23), 5.0),
    ((-13, -37), -11, (60, 39, 24, 17), 4.4),
    ((-3, -38), -2, (59, 43, 28, 18), 4.4),
    ((6, -36), 7, (53, 39, 26, 18), 4.1),
    ((14, -33), 16, (49, 31, 19, 16), 3.9),
)


def _ray(
    rng: Generator,
    base: tuple[float, float],
    slope: float,
    lengths: Sequence[float] | np.ndarray,
    radius: float,
    flexion: float,
) -> Body:
    """Metacarpal and phalanges upwards from `base`, each `flexion` degrees more bent."""
    body = Body()
    point, bend = np.array([*base, 0.0]), 0.0
    for number, length in enumerate(lengths):
        last = number == len(lengths) - 1
        ahead = rotation("z", slope * (1.1 if number else 0.8)) @ rotation("x", bend)
        ahead = -ahead[:, 1]
        near, far = np.array((1.5, 1.0) if last else (1.45, 1.3)) * rng.uniform(0.94, 1.06, 2)
        shape = [near, 0.97 * near, 0.45 + 0.6 * near, 1, 0.95, 1, 0.5 + 0.55 * far, far, far]
        thick = radius * 0.86**number * (0.75 if last else 1)
        end = point + length * ahead
        bone = rod(point, end, thick * np.array(shape), 0.32 * thick)
        skin = np.array((2.1, 1.9, 1.9, 1.9)) * thick * (1.2 if last else 1)
        tip = end + 4 * ahead if last else end
        body += Body((Bone((bone,)),), (rod(point, tip, skin),))
        point = end + ahead * (1.45 * thick + 1.5)
        bend += flexion * rng.uniform(0.7, 1.3)
    return body


def _hand(rng: Generator, flexion: float) -> Body:
    hand = _wrist_and_hand(rng, flexion)
    return hand.with_sites(
        {
            i: (0.35, 0.65)
            for metacarpal in (10, 13, 17, 21, 25)
            for i in (metacarpal, metacarpal + 1)
        }
    )


def _wrist_and_hand(rng: Generator, flexion: float) -> Body:
    """The wrist at the origin, fingers up, thumb to the left."""
    hand = _forearm_bones(rng).moved(np.eye(3), (0, 246, 0))
    for x, y, reach_x, reach_y, radius in _CARPALS:
        start = np.array([x, y]) + rng.normal(0, 0.5, 2)
        carpal = ball(
            start, start + np.array([reach_x, reach_y]), radius * rng.uniform(0.85, 1.05, 3), 1.1
        )
        hand += Body((Bone((carpal,)),))
    for base, slope, lengths, radius in _RAYS:
        hand += _ray(rng, base, slope + rng.normal(0, 2.5), lengths, radius, flexion)
    return hand + Body(flesh=(rod((-4, -85), (-1, 0), (28, 36, 33, 26), depth=0.4),))


def _wrist(rng: Generator, flexion: float) -> Body:
    sites = {0: (0.78, 0.9), 1: (0.8, 0.9), 13: (0.2, 0.35), 17: (0.2, 0.35), 21: (0.2, 0.35)}
    return _wrist_and_hand(rng, flexion).with_sites(sites)


def _finger(rng: Generator, flexion: float) -> Body:
    lengths = np.array((62, 41, 26, 18)) * rng.uniform(0.93, 1.07, 4)
    finger = _ray(rng, (0, 94), rng.normal(0, 3), lengths, 5.2, flexion)
    finger = finger.with_sites({0: (0.68, 0.78), 1: (0.35, 0.65), 2: (0.35, 0.65)})
    if rng.random() < 0.5:
        side, slope = rng.choice([-1, 1]), rng.uniform(6, 13)
        beside = _ray(rng, (side * 13, 94), side * slope, 0.93 * lengths, 4.8, flexion)
        finger += beside.with_sites({1: (0.35, 0.65)})
    return finger


def _forearm(rng: Generator, flexion: float) -> Body:
    arm = _wrist_and_hand(rng, 20).moved(np.eye(3), (0, -246, 0))
    arm += _humerus_bones(rng).moved(rotation("x", flexion))
    return arm.with_sites({0: (0.25, 0.75), 1: (0.25, 0.75)})


def _elbow(rng: Generator, flexion: float) -> Body:
    arm = _forearm_bones(rng).moved(rotation("x", flexion)) + _humerus_bones(rng)
    return arm.with_sites({0: (0.16, 0.28), 1: (0.16, 0.28), 2: (0.12, 0.22)})


def _humerus(rng: Generator, abduction: float) -> Body:
    """The humeral head at the origin, the elbow down, the chest to the right."""
    arm = _humerus_bones(rng) + _forearm_bones(rng).moved(rotation("x", rng.uniform(0, 30)))
    upright = rotation("z", abduction) @ np.diag([1, -1, 1])
    arm = arm.moved(upright, upright @ (-9, -300, 0))
    return (arm + _shoulder_girdle(rng)).with_sites({0: (0.3, 0.82)})


def _shoulder(rng: Generator, abduction: float) -> Body:
    return _humerus(rng, abduction).with_sites({0: (0.78, 0.88), 3: (0.3, 0.6)})


@dataclass(frozen=True)
class Anatomy:
    """How one study type is built and taken."""

    build: Callable[[Generator, float], Body]
    centre: tuple[float, float]  # of the picture, mm
    field: tuple[float, float]  # width and height of the picture, mm
    # One per view: turn about the long axis, flexion or abduction, turn in the picture; degrees.
    poses: tuple[tuple[float, float, float], ...]

# fmt: off
ANATOMIES = {
    "elbow": Anatomy(_elbow, (0, 0), (130, 165),
                     ((0, 5, 180), (35, 10, 180), (88, 85, 150), (88, 100, 135))),
    "finger": Anatomy(_finger, (0, 8), (76, 122), ((0, 3, 0), (45, 8, 0), (85, 16, 0))),
    "forearm": Anatomy(_forearm, (0, -125), (130, 220),
                       ((0, 5, 0), (0, 5, 180), (80, 15, 0), (80, 30, 180))),
    "hand": Anatomy(_hand, (-6, -92), (150, 215),
                    ((0, 2, 0), (0, 4, 0), (38, 10, 0), (52, 15, 0))),
    "humerus": Anatomy(_humerus, (-12, 110), (150, 275), ((0, 8, 0), (40, 3, 0), (0, 16, 0))),
    "shoulder": Anatomy(_shoulder, (26, 26), (180, 175),
                        ((0, 12, 0), (18, 6, 0), (-18, 30, 0), (0, 45, 0))),
    "wrist": Anatomy(_wrist, (-3, -4), (92, 132), ((0, 3, 0), (42, 5, 0), (84, 8, 0))),
}
