"""The objects of synthetic images before they are drawn: which, where, and of what outline.

Coordinates are x to the right and y down, in pixels, pixel centres at integers; h x w is
a window of the image.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .parameters import KINDS, Parameters, ShapesParameters, SticksParameters

# (x, y) arrays relative to the centre of an object -> signed distance to it, < 0 inside.
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Outline(NamedTuple):
    """One object before it is drawn.

    Args:
        category: 0-based class.
        centre: (x, y) in pixels.
        reach: radius of a circle around the centre that contains the object, pixels.
        distance: to its outline.
    """

    category: int
    centre: tuple[float, float]
    reach: float
    distance: Distance


class Window(NamedTuple):
    """The h x w pixels of an image around one object.

    Args:
        where: rows and columns of the image.
        distance: (h, w) to the outline.
        x, y: (1, w) and (h, 1) relative to the centre.
    """

    where: tuple[slice, slice]
    distance: np.ndarray
    x: np.ndarray
    y: np.ndarray


def window_of(outline: Outline, image_size: int) -> Window:
    """The window that contains an object, cropped to the image."""
    low = np.floor(np.array(outline.centre) - outline.reach - 1).astype(int)
    high = np.ceil(np.array(outline.centre) + outline.reach + 2).astype(int)
    (x0, y0), (x1, y1) = np.clip(low, 0, image_size), np.clip(high, 0, image_size)
    x = np.arange(x0, x1)[None, :] - outline.centre[0]
    y = np.arange(y0, y1)[:, None] - outline.centre[1]
    return Window((slice(y0, y1), slice(x0, x1)), outline.distance(x, y), x, y)


def sample_objects(rng: np.random.Generator, parameters: Parameters) -> "list[Outline]":
    """The next objects of an image: a shape, a stick, or a pair of sticks."""
    if isinstance(parameters, SticksParameters):
        return _sample_sticks(rng, parameters)
    return _sample_shape(rng, parameters)


def _sample_shape(rng: np.random.Generator, p: ShapesParameters) -> "list[Outline]":
    radius = 0.5 * rng.uniform(*p.size) * p.image_size
    x, y = rng.uniform(0.03, 0.97, 2) * p.image_size
    turn = rng.uniform(0, 2 * np.pi)
    category = int(rng.integers(len(KINDS["shapes"].thing_classes)))
    aspect = rng.uniform(*p.aspect)
    if category == 0:
        # A disc covers the most of its circle: smaller, so that sizes do not give classes away.
        distance = disc_distance(0.85 * radius)
    elif category == 1:
        distance = box_distance(radius * np.array([1, aspect]) / np.hypot(1, aspect), turn)
    else:
        tips, inner = (3, 0.5) if category == 2 else (5, 0.45)
        distance = star_distance(radius, tips, inner=inner, turn=turn)
    return [Outline(category, (x, y), radius, distance)]


def _sample_sticks(rng: np.random.Generator, p: SticksParameters) -> "list[Outline]":
    """One stick, or two that cross as mirror images, whose boxes are therefore almost the same."""
    half = 0.5 * p.image_size * np.array([rng.uniform(*p.size), rng.uniform(*p.width)])
    centre = rng.uniform(0.12, 0.88, 2) * p.image_size
    if rng.uniform() >= p.paired:
        return [_stick(centre, half, rng.uniform(0, np.pi))]
    tilt = np.deg2rad(rng.uniform(*p.tilt)) * rng.choice([-1, 1])
    shift, turn, stretch = p.jitter * rng.standard_normal((3, 2))
    partner_half = half * [1 + stretch[0], rng.uniform(0.85, 1.15)]
    partner = _stick(centre + shift * 2 * half[0], partner_half, turn[0] - tilt)
    return [_stick(centre, half, tilt), partner]


def _stick(centre: np.ndarray, half: np.ndarray, angle: float) -> Outline:
    x, y = centre
    return Outline(0, (x, y), float(np.hypot(*half)), box_distance(half, angle))


def disc_distance(radius: float) -> Distance:
    """Signed distance to a circle."""
    return lambda x, y: np.hypot(x, y) - radius


def box_distance(half: np.ndarray, turn: float) -> Distance:
    """Signed distance to a rotated rectangle with half sides ``half`` (2,); exact at its sides."""
    cos, sin = np.cos(turn), np.sin(turn)

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        along, across = cos * x + sin * y, cos * y - sin * x
        return np.maximum(np.abs(along) - half[0], np.abs(across) - half[1])

    return distance


def star_distance(radius: float, tips: int, *, inner: float, turn: float) -> Distance:
    """Signed distance to a star; with three tips and ``inner`` 0.5 it is a triangle.

    By symmetry one side of one tip is enough: the edge from the tip (radius at angle 0) to the
    notch (inner * radius at angle pi / tips).
    """
    notch = inner * radius * np.array([np.cos(np.pi / tips), np.sin(np.pi / tips)])
    normal = np.array([notch[1], radius - notch[0]]) / np.hypot(notch[1], radius - notch[0])

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        sector = 2 * np.pi / tips
        folded = np.abs((np.arctan2(y, x) - turn) % sector - sector / 2)
        angle, length = sector / 2 - folded, np.hypot(x, y)
        return (length * np.cos(angle) - radius) * normal[0] + length * np.sin(angle) * normal[1]

    return distance
