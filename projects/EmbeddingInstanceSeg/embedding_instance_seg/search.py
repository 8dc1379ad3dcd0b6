"""What is near a point: search structures over the pixels that are clustered.

Shapes: n pixels, E embedding channels, m pixels near a point.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

SEARCH_STEP = 256  # pixels looked at in one step for the next one without a cluster


def in_turn(order: Tensor, waiting: Tensor) -> Iterator[int]:
    """The first of the pixels that is still waiting, again and again until none is.

    Args:
        order (Tensor): (n,) int64 pixels.
        waiting (Tensor): (P,) bool; the caller changes it from one to the next.

    Yields:
        int: a pixel.
    """
    for block in order.split(SEARCH_STEP):
        left = waiting[block].nonzero()
        while len(left):
            yield int(block[left[0]])
            left = waiting[block].nonzero()


class PixelSearch:
    """The pixels around a point, among those that are not removed.

    Attributes:
        index (Tensor): (n,) int64, the number of each pixel among those that it began with.
        points (Tensor): (n, E) float; positions are those in here.
        count (int): how many are not removed.
    """

    def __init__(self, points: Tensor) -> None:
        self.index = torch.arange(len(points), device=points.device)
        self.points = points
        self.count = len(points)
        self._squares = points.square().sum(1)  # inf: removed, farther away than anything
        # Bound on the rounding error of |x|^2 - 2 x.c + |c|^2; too many candidates do no harm.
        largest = float(self._squares.max()) if self.count else 0.0
        self._slack = 8 * (points.shape[1] + 2) * torch.finfo(points.dtype).eps * largest

    def around(self, point: Tensor, radius: float) -> "tuple[Tensor, Tensor, Tensor]":
        """One matrix-vector product over all pixels.

        Returns:
            tuple[Tensor, Tensor, Tensor]: (m,) int64 positions of all pixels within the radius
            and a few more; (m, E) from the point to them; (m,) its square, without cancellation.
        """
        limit = radius**2 + self._slack - point.dot(point)
        squares = torch.addmv(self._squares, self.points, point, alpha=-2)
        near = (squares <= limit).nonzero().squeeze(1)
        offsets = self.points.index_select(0, near) - point
        return near, offsets, offsets.square().sum(1)

    def remove(self, positions: Tensor) -> None:
        """Leave these out from now on; once half of all are, forget them."""
        self._squares[positions] = math.inf
        self.count -= len(positions)
        if 2 * self.count < len(self.index):
            kept = (self._squares != math.inf).nonzero().squeeze(1)
            self.index, self._squares = self.index[kept], self._squares[kept]
            self.points = self.points.index_select(0, kept)
