"""Where the next object lies, of pairs of consecutive objects.

Shape shorthand in this module:
    N: objects of an image in the order of their steps   K: classes
"""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from instance_seg_analysis.order.objects import FoundObjects
from instance_seg_analysis.order.tau import NULL_QUANTILE

# How the second object of a pair lies from the first.
DIRECTIONS = ("left", "right", "up", "down")
PAIR_EXTENT = 0.15  # share of the image's width or height from which on a pair has a direction
MIN_PAIRS = 20  # of two categories, for their percentages


class PairShares(NamedTuple):
    """Consecutive pairs. first, second: 0-based classes, or None for all; pairs: how many;
    expected: how many random orders have on average; shares, expected_shares: by direction."""

    first: Optional[int]
    second: Optional[int]
    pairs: int
    expected: float
    shares: dict[str, float]
    expected_shares: dict[str, float]

    def null(self, direction: str) -> float:
        """Half the width of the 99 % interval of a share in random orders, pairs independent."""
        share = self.expected_shares[direction]
        return NULL_QUANTILE * np.sqrt(share * (1 - share) / self.pairs) if self.pairs else np.nan

    def excess(self, direction: str) -> float:
        """How many times :meth:`null` a share is above that of random orders; below it negative."""
        more, null = self.shares[direction] - self.expected_shares[direction], self.null(direction)
        return more / null if null > 0 else 0.0


def pair_shares(
    images: Sequence[FoundObjects],
    num_classes: int,
    *,
    extent: float = PAIR_EXTENT,
    min_pairs: int = MIN_PAIRS,
) -> "list[PairShares]":
    """Where the next object lies, of all pairs and by the classes of the two.

    Args:
        images (list[FoundObjects])
        num_classes (int): K.
        extent (float): share of width or height; nearer pairs have no direction on that axis.
        min_pairs (int): classes with fewer pairs are left out.

    Returns:
        list[PairShares]: all pairs, then ordered pairs of classes, the most frequent first; with
        objects of one class, all pairs alone.
    """
    observed = np.zeros((len(DIRECTIONS) + 1, num_classes, num_classes))
    expected = np.zeros_like(observed)
    for found in images:
        if len(found.classes):
            counts = _pairs_of_image(found, num_classes, extent)
            observed += counts[0]
            expected += counts[1]
    rows = [_pair_row(None, observed.sum(axis=(1, 2)), expected.sum(axis=(1, 2)))]
    if len({c for found in images for c in found.classes}) < 2:
        return rows
    enough = np.argwhere(observed[-1] >= max(min_pairs, 1)).tolist()
    for a, b in sorted(enough, key=lambda pair: -observed[-1][tuple(pair)]):
        rows.append(_pair_row((a, b), observed[:, a, b], expected[:, a, b]))
    return rows


def _pairs_of_image(found: FoundObjects, num_classes: int, extent: float) -> "list[np.ndarray]":
    """Two (5, K, K): pairs by direction, and at the end all, as found and in a random order."""
    n = len(found.classes)
    step = found.centers[None] - found.centers[:, None]  # from the row's object to the column's
    x, y = step[..., 0], step[..., 1]
    flags = np.stack([x < -extent, x > extent, y < -extent, y > extent, np.ones((n, n))])
    member = np.eye(num_classes)[found.classes]
    # Each of the n (n - 1) ordered pairs is one of the n - 1 consecutive ones equally often.
    weights = np.eye(n, k=1), (1 - np.eye(n)) / n
    return [np.einsum("ia,dij,jb->dab", member, flags * w, member, optimize=True) for w in weights]


def _pair_row(
    classes: "Optional[tuple[int, int]]", observed: np.ndarray, expected: np.ndarray
) -> PairShares:
    *counts, total = observed
    *expected_counts, expected_total = expected

    def by_direction(values: Sequence[float], whole: float) -> "dict[str, float]":
        return {name: float(v / whole) if whole else np.nan for name, v in zip(DIRECTIONS, values)}

    first, second = classes or (None, None)
    return PairShares(
        first, second, int(total),
        expected=float(expected_total), shares=by_direction(counts, total),
        expected_shares=by_direction(expected_counts, expected_total),
    )  # fmt: skip
