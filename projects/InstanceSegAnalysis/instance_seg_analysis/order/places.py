"""Where the objects lie that are found first, second, third.

Shape shorthand in this module:
    P: points
"""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from instance_seg_analysis.order.objects import FoundObjects
from instance_seg_analysis.order.tau import NULL_QUANTILE

DISCOVERIES = 3  # of which a map is drawn: first, second, third
Point = tuple[float, float]


class Place(NamedTuple):
    """Where objects of one rank lie. objects: how many; mean: x and y as shares of width and
    height; expected: the same, if the same images' orders were random; null: half the widths of
    the intervals around it in which the mean lies for 99 % of random orders."""

    objects: int
    mean: Point
    expected: Point
    null: Point


def discovery_centers(images: Sequence[FoundObjects], rank: Optional[int]) -> np.ndarray:
    """Where the objects of one rank lie.

    Args:
        images (list[FoundObjects])
        rank (int or None): 0 for the objects found first; None for all.

    Returns:
        ndarray: (P, 2) float64, x and y as shares of width and height.
    """
    chosen = [f.centers if rank is None else f.centers[rank : rank + 1] for f in images]
    return np.concatenate([np.zeros((0, 2)), *chosen])


def discovery_places(
    images: Sequence[FoundObjects], *, discoveries: int = DISCOVERIES
) -> "list[Place]":
    """Where the objects found first, second, ... lie on average.

    Args:
        images (list[FoundObjects])
        discoveries (int): how many ranks.

    Returns:
        list[Place]: by rank; ends at the first that no image has.
    """
    places = []
    for rank in range(discoveries):
        longer = [found.centers for found in images if len(found.centers) > rank]
        if not longer:
            break
        # In a random order, every object of an image is the one of this rank equally often.
        expected = np.mean([centers.mean(axis=0) for centers in longer], axis=0)
        deviation = np.sqrt(np.sum([c.var(axis=0) for c in longer], axis=0)) / len(longer)
        mean = discovery_centers(images, rank).mean(axis=0)
        rows = (mean, expected, NULL_QUANTILE * deviation)
        places.append(Place(len(longer), *(tuple(row.tolist()) for row in rows)))
    return places


def density_map(points: np.ndarray, *, size: int = 60, sigma: Optional[float] = None) -> np.ndarray:
    """How densely points lie in the unit square, Gaussian kernels of which nothing gets outside.

    Args:
        points (ndarray): (P, 2) float, x and y in [0, 1].
        size (int): cells a side.
        sigma (float or None): of the kernel, a share of the square's side; None: narrower the
            more points there are.

    Returns:
        ndarray: (size, size) float64, row 0 at y = 0; mean 1, or all 0 without points.
    """
    if sigma is None:
        sigma = 0.2 * max(len(points), 1) ** (-1 / 6)  # the exponent of Scott's rule
    grid = (np.arange(size) + 0.5) / size
    kernels = np.exp(-((grid[None, :, None] - points[:, None, :]) ** 2) / (2 * sigma**2))
    kernels /= kernels.mean(axis=1, keepdims=True)
    total = np.einsum("pi,pj->ij", kernels[..., 1], kernels[..., 0])
    return total / max(len(points), 1)
