"""Procedural radiographs: a body of rods, its lesions, and the film that rays through it expose."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

# Attenuation per mm at about 60 kV; bone and metal count what they add to the flesh around them.
FLESH, CORTEX, MARROW, METAL = 0.02, 0.07, 0.015, 0.6


# The body: rods, in mm. x to the right, y down, z towards the viewer.


@dataclass(frozen=True)
class _Rod:
    """A round rod of varying radius, of which all anatomy here is made."""

    start: np.ndarray  # float (3,)
    end: np.ndarray
    radii: np.ndarray  # float (n,), evenly spaced from start to end
    cortex: float = 0.0  # thickness of the compact shell
    bow: float = 0.0  # how far the middle lies beside the line from start to end
    depth: float = 1.0  # relative to the width; air if negative
    blunt: float = 1.7  # how flat the caps are; 1 is a half ball
    keep: Callable | None = None  # of (along, across): the part that is there

    def moved(self, matrix: np.ndarray, shift=0.0) -> "_Rod":
        volume = np.linalg.det(matrix)
        scale = abs(volume) ** (1 / 3)
        return replace(
            self,
            start=matrix @ self.start + shift,
            end=matrix @ self.end + shift,
            radii=scale * self.radii,
            cortex=scale * self.cortex,
            bow=np.sign(volume) * scale * self.bow,
        )

    def at(self, share: float) -> tuple[np.ndarray, float]:
        """The point that lies `share` of the way from start to end, and the radius there."""
        axis = self.end - self.start
        beside = np.array([-axis[1], axis[0], 0]) / max(np.hypot(*axis[:2]), 1e-3)
        point = self.start + share * axis + 4 * self.bow * share * (1 - share) * beside
        return point, float(np.interp(share, np.linspace(0, 1, len(self.radii)), self.radii))


@dataclass(frozen=True)
class _Bone:
    """Rods that grew together. The first may have a lesion, between the two shares of `site`."""

    rods: tuple[_Rod, ...]
    site: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Body:
    bones: tuple[_Bone, ...] = ()
    flesh: tuple[_Rod, ...] = ()

    def __add__(self, other: "_Body") -> "_Body":
        return _Body(self.bones + other.bones, self.flesh + other.flesh)

    def moved(self, matrix: np.ndarray, shift=0.0) -> "_Body":
        bones = [replace(b, rods=tuple(r.moved(matrix, shift) for r in b.rods)) for b in self.bones]
        return _Body(tuple(bones), tuple(rod.moved(matrix, shift) for rod in self.flesh))

    def with_sites(self, sites: dict[int, tuple[float, float]]) -> "_Body":
        bones = [replace(bone, site=sites.get(i)) for i, bone in enumerate(self.bones)]
        return replace(self, bones=tuple(bones))


def _rotation(axis: str, degrees: float) -> np.ndarray:
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(np.deg2rad(degrees))
    matrix[j, i] = np.sin(np.deg2rad(degrees))
    matrix[i, j] = -matrix[j, i]
    return matrix


def _rod(start, end, radii, *args, **kwargs) -> _Rod:
    start, end = (np.array([*point, 0.0][:3], float) for point in (start, end))
    return _Rod(start, end, np.array(radii, float), *args, **kwargs)


def _ball(start, end, radii, cortex: float) -> _Rod:
    return _rod(start, end, radii, cortex, blunt=1.0)


# fmt: off
def _forearm_bones(rng) -> _Body:
    """Radius and ulna; the elbow at the origin, the hand up, the thumb to the left."""
    radius = _rod((-13, -14), (-10, -241), (11, 10, 6.5, 8, 7, 7, 7.2, 7.2, 7.5, 8.5, 12.5, 13.5),
                  2.7, bow=rng.uniform(3, 7))
    ulna = _rod((10, -8), (13, -236), (12, 11, 9, 8, 7.5, 7, 6.5, 6, 5.3, 5, 6, 6.5),
                2.6, bow=rng.uniform(-2, 1))
    olecranon = _ball((9, 8, -19), (9, -14, -10), (8, 10, 11), 1.6)
    skin = _rod((0, 20), (0, -255), rng.uniform(0.9, 1.15) * np.array((46, 45, 42, 36, 30, 27)),
                depth=0.8)
    return _Body((_Bone((radius,)), _Bone((ulna, olecranon))), (skin,))


def _humerus_bones(rng) -> _Body:
    """The elbow at the origin, the shoulder down, the head to the right."""
    shaft = _rod((0, 18), (2, 292), (13, 12, 11.5, 11, 11, 11, 11.5, 12, 13, 16, 18),
                 3.6, bow=rng.uniform(-4, 4))
    condyles = _ball((-15, 7), (15, 6), (11, 10, 8, 11, 12), 1.6)
    columns = [_rod((x, 16), (0.25 * x, 66), (5, 6, 8), 1.8) for x in (25, -21)]
    fossa = _rod((1, 14), (0, 62), (23, 17, 10), 3, depth=0.2)
    head = _ball((12, 302), (9, 298), (23, 21), 1.6)
    tuberosity = _ball((-11, 302), (-8, 285), (10, 11), 1.6)
    skin = _rod((0, -15), (0, 330), rng.uniform(0.9, 1.15) * np.array((42, 46, 52, 58, 62)),
                depth=0.9)
    return _Body((_Bone((shaft, condyles, *columns, fossa, head, tuberosity)),), (skin,))


def _shoulder_girdle(rng) -> _Body:
    """The humeral head at the origin, the chest to the right. The clavicle is the first bone."""
    clavicle = _rod((8, -38), (135, -42), (8, 7, 6, 6, 6.5, 8, 10), 2.2, bow=rng.uniform(5, 13))
    scapula = (
        _rod((33, 22), (66, 128), (6, 4.5, 4, 5), 2),
        _rod((45, 12), (70, 120), (12, 34, 30, 20, 9), 6, depth=0.12),
        _rod((29, -10), (31, 18), (7, 8, 7), 2.2),
        _rod((34, -16), (16, -22), (7, 6, 6), 1.8, bow=4),
        _rod((100, 0), (2, -32), (4, 6, 7, 8, 9), 2, depth=0.7),
    )
    ribs = [
        _Bone((_rod((62 + 9 * abs(i - 1), y), (165, y - 22 - 6 * i), (4.5, 5, 5.5, 5.5), 1.5,
                    bow=-16 - 3 * i),))
        for i, y in enumerate(np.arange(12, 190, 27) + rng.normal(0, 2, 7))
    ]
    flesh = (
        _rod((120, -5), (125, 260), (60, 105, 115), depth=0.75),
        _rod((0, 5), (70, -20), (52, 46, 42), depth=1.2),
        _rod((110, -70), (120, 10), (26, 40)),
        _rod((130, 40), (130, 200), (45, 62, 70), depth=-0.6),  # the lung
    )
    return _Body((_Bone((clavicle,)), _Bone(scapula), *ribs), flesh)


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
# fmt: on


def _ray(rng, base, slope, lengths, radius, flexion) -> _Body:
    """Metacarpal and phalanges upwards from `base`, each `flexion` degrees more bent."""
    body = _Body()
    point, bend = np.array([*base, 0.0]), 0.0
    for number, length in enumerate(lengths):
        last = number == len(lengths) - 1
        ahead = _rotation("z", slope * (1.1 if number else 0.8)) @ _rotation("x", bend)
        ahead = -ahead[:, 1]
        near, far = np.array((1.5, 1.0) if last else (1.45, 1.3)) * rng.uniform(0.94, 1.06, 2)
        shape = [near, 0.97 * near, 0.45 + 0.6 * near, 1, 0.95, 1, 0.5 + 0.55 * far, far, far]
        thick = radius * 0.86**number * (0.75 if last else 1)
        end = point + length * ahead
        bone = _rod(point, end, thick * np.array(shape), 0.32 * thick)
        skin = np.array((2.1, 1.9, 1.9, 1.9)) * thick * (1.2 if last else 1)
        tip = end + 4 * ahead if last else end
        body += _Body((_Bone((bone,)),), (_rod(point, tip, skin),))
        point = end + ahead * (1.45 * thick + 1.5)
        bend += flexion * rng.uniform(0.7, 1.3)
    return body


def _hand(rng, flexion) -> _Body:
    hand = _wrist_and_hand(rng, flexion)
    return hand.with_sites(
        {
            i: (0.35, 0.65)
            for metacarpal in (10, 13, 17, 21, 25)
            for i in (metacarpal, metacarpal + 1)
        }
    )


def _wrist_and_hand(rng, flexion) -> _Body:
    """The wrist at the origin, fingers up, thumb to the left."""
    hand = _forearm_bones(rng).moved(np.eye(3), (0, 246, 0))
    for x, y, reach_x, reach_y, radius in _CARPALS:
        start = np.array([x, y]) + rng.normal(0, 0.5, 2)
        rod = _ball(
            start, start + np.array([reach_x, reach_y]), radius * rng.uniform(0.85, 1.05, 3), 1.1
        )
        hand += _Body((_Bone((rod,)),))
    for base, slope, lengths, radius in _RAYS:
        hand += _ray(rng, base, slope + rng.normal(0, 2.5), lengths, radius, flexion)
    return hand + _Body(flesh=(_rod((-4, -85), (-1, 0), (28, 36, 33, 26), depth=0.4),))


def _wrist(rng, flexion) -> _Body:
    sites = {0: (0.78, 0.9), 1: (0.8, 0.9), 13: (0.2, 0.35), 17: (0.2, 0.35), 21: (0.2, 0.35)}
    return _wrist_and_hand(rng, flexion).with_sites(sites)


def _finger(rng, flexion) -> _Body:
    lengths = np.array((62, 41, 26, 18)) * rng.uniform(0.93, 1.07, 4)
    finger = _ray(rng, (0, 94), rng.normal(0, 3), lengths, 5.2, flexion)
    finger = finger.with_sites({0: (0.68, 0.78), 1: (0.35, 0.65), 2: (0.35, 0.65)})
    if rng.random() < 0.5:
        side, slope = rng.choice([-1, 1]), rng.uniform(6, 13)
        beside = _ray(rng, (side * 13, 94), side * slope, 0.93 * lengths, 4.8, flexion)
        finger += beside.with_sites({1: (0.35, 0.65)})
    return finger


def _forearm(rng, flexion) -> _Body:
    arm = _wrist_and_hand(rng, 20).moved(np.eye(3), (0, -246, 0))
    arm += _humerus_bones(rng).moved(_rotation("x", flexion))
    return arm.with_sites({0: (0.25, 0.75), 1: (0.25, 0.75)})


def _elbow(rng, flexion) -> _Body:
    arm = _forearm_bones(rng).moved(_rotation("x", flexion)) + _humerus_bones(rng)
    return arm.with_sites({0: (0.16, 0.28), 1: (0.16, 0.28), 2: (0.12, 0.22)})


def _humerus(rng, abduction) -> _Body:
    """The humeral head at the origin, the elbow down, the chest to the right."""
    arm = _humerus_bones(rng) + _forearm_bones(rng).moved(_rotation("x", rng.uniform(0, 30)))
    upright = _rotation("z", abduction) @ np.diag([1, -1, 1])
    arm = arm.moved(upright, upright @ (-9, -300, 0))
    return (arm + _shoulder_girdle(rng)).with_sites({0: (0.3, 0.82)})


def _shoulder(rng, abduction) -> _Body:
    return _humerus(rng, abduction).with_sites({0: (0.78, 0.88), 3: (0.3, 0.6)})


@dataclass(frozen=True)
class _Anatomy:
    """How one study type is built and taken."""

    build: Callable[[np.random.Generator, float], _Body]
    centre: tuple[float, float]  # of the picture, mm
    field: tuple[float, float]  # width and height of the picture, mm
    # One per view: turn about the long axis, flexion or abduction, turn in the picture; degrees.
    poses: tuple[tuple[float, float, float], ...]


# fmt: off
ANATOMIES = {
    "elbow": _Anatomy(_elbow, (0, 0), (130, 165),
                      ((0, 5, 180), (35, 10, 180), (88, 85, 150), (88, 100, 135))),
    "finger": _Anatomy(_finger, (0, 8), (76, 122), ((0, 3, 0), (45, 8, 0), (85, 16, 0))),
    "forearm": _Anatomy(_forearm, (0, -125), (130, 220),
                        ((0, 5, 0), (0, 5, 180), (80, 15, 0), (80, 30, 180))),
    "hand": _Anatomy(_hand, (-6, -92), (150, 215),
                     ((0, 2, 0), (0, 4, 0), (38, 10, 0), (52, 15, 0))),
    "humerus": _Anatomy(_humerus, (-12, 110), (150, 275), ((0, 8, 0), (40, 3, 0), (0, 16, 0))),
    "shoulder": _Anatomy(_shoulder, (26, 26), (180, 175),
                         ((0, 12, 0), (18, 6, 0), (-18, 30, 0), (0, 45, 0))),
    "wrist": _Anatomy(_wrist, (-3, -4), (92, 132), ((0, 3, 0), (42, 5, 0), (84, 8, 0))),
}
# fmt: on


# Lesions: chosen once per study, then seen from every view.

_Box = tuple[int, int, int, int]  # x, y, width, height: pixels


@dataclass(frozen=True)
class Lesion:
    kind: str
    bone: int
    share: float  # of the way from the bone's start to its end
    seed: int


def draw_lesions(rng, study_type: str) -> list[Lesion]:
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


def _broken(rod: _Rod, share: float, side: float, rng) -> tuple[list[_Rod], _Box]:
    """The two fragments of a projected rod, shifted against each other, with a jagged gap."""
    middle, radius = _seat(rod, share, side)
    axis = rod.end - rod.start
    beside = np.array([-axis[1], axis[0], 0]) / max(np.hypot(*axis[:2]), 1e-3) * radius
    bulge, step = rng.uniform(-0.8, 0.8), rng.uniform(0.5, 0.9) * rng.choice([-1, 1])
    gap = radius * rng.uniform(0.9, 1.3)
    knots = np.linspace(-2.5, 2.5, 13)
    jags = rng.uniform(-0.6, 0.6) * knots + rng.uniform(-0.22, 0.22, 13)

    def fragment(sign: int) -> _Rod:
        aside = (bulge - sign * step) * beside  # of the broken end; the joint stays where it is
        if sign < 0:
            part = replace(rod, end=rod.end + aside / share)
        else:
            part = replace(rod, start=rod.start + aside / (1 - share))
        edge = share * np.hypot(*(part.end - part.start)[:2]) + sign * gap / 2

        def keep(along: np.ndarray, across: np.ndarray) -> np.ndarray:
            return sign * (along - edge - np.interp(across, radius * knots, radius * jags)) > 0

        return replace(part, keep=keep)

    return [fragment(-1), fragment(1)], _square(middle + bulge * beside, (1.6 + abs(step)) * radius)


def _hole(rod: _Rod, share: float, side: float, rng) -> tuple[Callable, _Box]:
    """A lytic lesion of a projected rod: a function of a window, the share of bone left there."""
    middle, radius = _seat(rod, share, side)
    size = radius * rng.uniform(0.95, 1.35)
    middle = middle + np.array([*rng.uniform(-0.3, 0.3, 2), 0]) * radius
    lobes, phases = rng.uniform(0, 0.12, 2), rng.uniform(0, 2 * np.pi, 2)

    def left(window: tuple[slice, slice]) -> np.ndarray:
        y, x = np.ogrid[window]
        x, y = np.float32(x - middle[0]), np.float32(y - middle[1])
        angle = np.arctan2(y, x)
        edge = sum(
            lobe * np.cos(n * angle + phase)
            for n, (lobe, phase) in enumerate(zip(lobes, phases, strict=True), start=2)
        )
        distance = np.hypot(x, y) / (size * (1 + edge))
        rim = 0.15 * np.exp(-(((distance - 1.25) / 0.15) ** 2))
        return 1 - 0.95 * np.exp(-(distance**6)) + rim

    return left, _square(middle, 1.6 * size)


def _implant(shaft: _Rod, share: float, side: float, rng) -> list[_Rod]:
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
        return [_rod(middle - a, middle + a, (0.18 * radius,)) for a in ahead]
    half = min(rng.uniform(3.2, 5) * radius, 0.3 * length) * axis
    middle = middle + 1.1 * radius * across
    plate = _rod(middle - half, middle + half, (0.36 * radius,), depth=0.6)
    heads = [middle + place * half for place in np.linspace(-0.85, 0.85, rng.integers(4, 7))]
    return [plate, *(_rod(head, head - 2.1 * radius * across, (0.2 * radius,)) for head in heads)]


def _seat(rod: _Rod, share: float, side: float) -> tuple[np.ndarray, float]:
    """Where a lesion sits and how large it is: as the bone, but neither tiny nor huge on film."""
    middle, radius = rod.at(share)
    return middle, float(np.clip(radius, 0.045 * side, 0.065 * side))


def _square(middle: np.ndarray, half: float) -> _Box:
    x, y = np.rint(middle[:2] - half)
    return int(x), int(y), round(2 * half), round(2 * half)


def _bounds(rods: Iterable[_Rod]) -> _Box:
    ends = np.array([(rod.start[:2], rod.end[:2]) for rod in rods])
    reach = np.array([max(rod.radii) + abs(rod.bow) for rod in rods])[:, None]
    x, y = np.floor((ends.min(axis=1) - reach).min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil((ends.max(axis=1) + reach).max(axis=0)).astype(int).tolist()
    return x, y, right - x + 1, bottom - y + 1


# The picture: what the rays cross adds up to the absorption, and the film answers to that.


def draw_view(
    study_type: str,
    body: np.random.SeedSequence,
    view: np.random.SeedSequence,
    lesions: list[Lesion],
) -> tuple[np.ndarray, list[tuple[str, _Box]]]:
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
    metal, holes, boxes = [], {}, []
    for lesion in lesions:
        details = np.random.default_rng(lesion.seed)
        shaft = bones[lesion.bone][0]
        if lesion.kind == "fracture":
            bones[lesion.bone][:1], box = _broken(shaft, lesion.share, max(shape), details)
        elif lesion.kind == "lytic":
            holes[lesion.bone], box = _hole(shaft, lesion.share, max(shape), details)
        else:
            bone = patient.bones[lesion.bone].rods[0]
            implant = _implant(bone, lesion.share, max(shape) / mm, details)
            implant = [rod.moved(matrix, shift) for rod in implant]
            metal, box = metal + implant, _bounds(implant)
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


def _contrast(body: _Body) -> float:
    """What a bone adds to the absorption: between the mean of those with sites and the most."""

    def middle(bone: _Bone) -> float:
        shaft = bone.rods[0]
        return 2 * CORTEX * shaft.cortex + 2 * MARROW * float(np.median(shaft.radii))

    at_sites = np.mean([middle(bone) for bone in body.bones if bone.site])
    return float(at_sites + max(map(middle, body.bones))) / 2


def _camera(rng, anatomy: _Anatomy, turn: float, roll: float):
    """Where the film lies: matrix (3, 3) and shift (3,) from mm to pixels, and (height, width)."""
    field = np.array(anatomy.field) * rng.uniform(0.92, 1.12, 2)
    if rng.random() < 0.1:
        field, roll = field[::-1], roll + 90
    scale = (512 if rng.random() < 0.85 else rng.integers(400, 512)) / field.max()
    width, height = (round(float(side * scale)) for side in field)
    turn, tilt, roll = rng.normal((turn, 0, roll), (6, 7, 6))
    matrix = _rotation("z", roll) @ _rotation("x", tilt) @ _rotation("y", turn)
    matrix = scale * rng.uniform(0.92, 1.08) * np.diag([rng.choice([-1, 1]), 1, 1]) @ matrix
    middle = rng.normal(0.5, 0.025, 2) * (width, height)
    return matrix, np.array([*middle, 0]) - matrix @ (*anatomy.centre, 0), (height, width)


def _flesh(rods: list[_Rod], mm: float, shape: tuple[int, int], rng) -> np.ndarray:
    """float32 `shape`: its absorption. It is smooth, so `rods` and `mm` are a quarter the size."""
    coarse = tuple(-(-side // 4) for side in shape)
    window, crossed, _ = _crossed(rods, coarse)
    flesh = np.zeros(coarse, np.float32)
    flesh[window] = FLESH / mm * crossed
    folds = cv2.GaussianBlur(rng.standard_normal(coarse, np.float32), (0, 0), 6)
    flesh = cv2.GaussianBlur(flesh, (0, 0), 1.3) * (1 + np.float32(0.8) * folds)
    return cv2.resize(flesh, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _crossed(
    rods: list[_Rod], shape: tuple[int, int]
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """How much of some projected rods, grown together, the rays cross.

    Returns:
        The window of the picture that holds the rods, and float32 path lengths (pixels) in it:
        through the whole, and through the marrow inside.
    """
    picture = (0, 0, shape[1], shape[0])
    left, top, width, height = _clip(_bounds(rods), picture)
    outer, inner = np.zeros((2, height, width), np.float32)
    for rod in rods:
        x0, y0, columns, rows = _clip(_bounds([rod]), picture)
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


def _squared_radii(rod: _Rod) -> tuple[np.ndarray, np.ndarray]:
    """float32 (256,) each, from start to end: of the whole rod and of the marrow."""
    radii = np.interp(_SHARES, np.linspace(0, 1, len(rod.radii)), rod.radii)
    radii = cv2.blur(radii[None], (25, 1), borderType=cv2.BORDER_REPLICATE)[0]
    marrow = np.maximum(radii - rod.cortex * _SHELL, 0)
    return np.float32(radii**2), np.float32(marrow**2)


def _film(absorption: np.ndarray, typical: float, contrast: float, rng) -> tuple[np.ndarray, _Box]:
    """Exposes and develops. Returns the picture and the box of the field between the shutters."""
    height, width = absorption.shape
    insets = np.rint(rng.uniform(0, 0.09, 4) * (width, height, width, height)).astype(int)
    left, top, right, bottom = (insets * (rng.random() < 0.65)).tolist()
    field = left, top, width - left - right, height - top - bottom
    lead = np.float32(typical + 1.4 * contrast) * _marker(absorption.shape, field, rng)
    absorption = cv2.GaussianBlur(absorption + lead, (0, 0), rng.uniform(0.7, 1.3))
    # The beam is stronger on one side.
    lean = rng.normal(0, 0.1, 2) * contrast
    absorption += np.linspace(-lean[0], lean[0], width, dtype=np.float32)
    absorption += np.linspace(-lean[1], lean[1], height, dtype=np.float32)[:, None]
    # Hurter and Driffield: density is sigmoid in the logarithm of the exposure exp(-absorption).
    middle = typical + contrast * rng.normal(0.7, 0.15)
    steepness = rng.uniform(1.8, 2.4) / contrast
    image = 1 / (1 + np.exp(float(steepness) * (float(middle) - absorption)))
    noise = rng.standard_normal(image.shape, np.float32)
    image += rng.uniform(0.01, 0.03) * noise * np.sqrt(1.05 - image)
    low, high, outside = rng.uniform((0, 225, 0), (20, 255, 6)).tolist()
    image = low + (high - low) * image
    if field != (0, 0, width, height):
        middle = left + field[2] / 2, top + field[3] / 2
        corners = np.rint(cv2.boxPoints((middle, field[2:], rng.normal(0, 1.5)))).astype(int)
        lit = cv2.fillConvexPoly(np.zeros(image.shape, np.uint8), corners, 1)
        image[lit == 0] = outside
        field = cv2.boundingRect(lit)
    return np.clip(image, 0, 255).astype(np.uint8), field


def _marker(shape: tuple[int, int], field: _Box, rng) -> np.ndarray:
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


def _clip(box: _Box, field: _Box) -> _Box:
    """The part of `box` inside `field`; its width or height is 0 if there is none."""
    low = np.maximum(box[:2], field[:2])
    high = np.minimum(np.add(box[:2], box[2:]), np.add(field[:2], field[2:]))
    return (*low.tolist(), *np.maximum(high - low, 0).tolist())
