"""Centres of instances from the seed map: its local maxima, without those that repeat another.

Shape shorthand in this module:
    h, w: the network's grid   E: embedding channels   K: peaks
"""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional as F

from .segments import at_least_float32, without_autocast

HALF_WIDTH = math.sqrt(2 * math.log(2))  # sigmas at which a Gaussian is one half
NEIGHBOURHOOD = 5  # cells, height and width of the square in which a peak is the highest


@torch.no_grad()
def local_maxima(values: Tensor, among: Tensor, *, threshold: float) -> Tensor:
    """Cells that are as high as any in the square around them.

    Args:
        values (Tensor): (h, w) float.
        among (Tensor): (h, w) bool, the cells that may be chosen.
        threshold (float): least value.

    Returns:
        Tensor: (K, 2) int64, row and column, in the order of falling values; all of a plateau.
    """
    around = F.max_pool2d(values[None, None], NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2)[0, 0]
    cells = ((values == around) & (values >= threshold) & among).nonzero()
    order = values[cells[:, 0], cells[:, 1]].argsort(descending=True, stable=True)
    return cells[order]


@without_autocast
def without_repeats(embeddings: Tensor, radii: Tensor) -> Tensor:
    """The points that no point before them, which is kept itself, has within its radius.

    Args:
        embeddings (Tensor): (K, E) float, finite, the best first.
        radii (Tensor): (K,) float > 0, in units of the embedding.

    Returns:
        Tensor: (n,) int64, ascending.
    """
    points, reach = (at_least_float32(x).detach().cpu().numpy() for x in (embeddings, radii))
    tree = cKDTree(points)
    repeats = np.zeros(len(points), dtype=bool)
    for number, (point, radius) in enumerate(zip(points, reach)):
        # Only around those that are kept: a plateau would have all pairs of its cells.
        if not repeats[number]:
            near = np.asarray(tree.query_ball_point(point, radius), dtype=np.int64)
            repeats[near[near > number]] = True
    return torch.from_numpy(np.flatnonzero(~repeats)).to(embeddings.device)
