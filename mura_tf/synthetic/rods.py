"""The rods, in mm, of which bodies, lesions and implants are made. x is right, y down, z nearer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Rod:
    """A round rod of varying radius, of which all anatomy here is made."""

    start: np.ndarray  # float (3,)
    end: np.ndarray
    radii: np.ndarray  # float (n,), evenly spaced from start to end
    cortex: float  # thickness of the compact shell
    bow: float  # how far the middle lies beside the line from start to end
    depth: float  # relative to the width; air if negative
    blunt: float  # how flat the caps are; 1 is a half ball
    # of (along, across): the part that is there
    keep: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def moved(self, matrix: np.ndarray, shift: ArrayLike = 0.0) -> "Rod":
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
class Bone:
    """Rods that grew together. The first may have a lesion, between the two shares of `site`."""

    rods: tuple[Rod, ...]
    site: tuple[float, float] | None = None


@dataclass(frozen=True)
class Body:
    bones: tuple[Bone, ...] = ()
    flesh: tuple[Rod, ...] = ()

    def __add__(self, other: "Body") -> "Body":
        return Body(self.bones + other.bones, self.flesh + other.flesh)

    def moved(self, matrix: np.ndarray, shift: ArrayLike = 0.0) -> "Body":
        bones = [replace(b, rods=tuple(r.moved(matrix, shift) for r in b.rods)) for b in self.bones]
        return Body(tuple(bones), tuple(rod.moved(matrix, shift) for rod in self.flesh))

    def with_sites(self, sites: dict[int, tuple[float, float]]) -> "Body":
        bones = [replace(bone, site=sites.get(i)) for i, bone in enumerate(self.bones)]
        return replace(self, bones=tuple(bones))


def rotation(axis: str, degrees: float) -> np.ndarray:
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(np.deg2rad(degrees))
    matrix[j, i] = np.sin(np.deg2rad(degrees))
    matrix[i, j] = -matrix[j, i]
    return matrix


def rod(
    start: Iterable[float],
    end: Iterable[float],
    radii: ArrayLike,
    cortex: float = 0.0,
    *,
    bow: float = 0.0,
    depth: float = 1.0,
    blunt: float = 1.7,
) -> Rod:
    near, far = (np.array([*point, 0.0][:3], float) for point in (start, end))
    return Rod(near, far, np.array(radii, float), cortex, bow, depth, blunt)


def ball(start: Iterable[float], end: Iterable[float], radii: ArrayLike, cortex: float) -> Rod:
    return rod(start, end, radii, cortex, blunt=1.0)
