"""The centres of clusters, and the nearest of them to every pixel.

Shapes: P pixels, E embedding channels, K clusters. Labels are (P,) int64, 0..K-1, -1 = left over.
Everything runs on the device of its input and, where that is half precision, in float32.
"""

import math

import torch
from torch import Tensor

from .segments import at_least_float32, segment_mean, without_autocast

BLOCK_NUMBERS = 2**19  # distances held at a time: 2 MiB in float32, which caches hold


@without_autocast
def centers_of(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Mean embedding of every cluster.

    Args:
        embeddings (Tensor): (P, E) float.
        labels (Tensor): (P,) int64, 0..K-1, < 0 = left over.

    Returns:
        Tensor: (K, E) float; K is the largest label + 1.
    """
    members = (labels >= 0).nonzero().squeeze(1)
    owners = labels[members]
    count = int(owners.max()) + 1 if len(owners) else 0
    return segment_mean(at_least_float32(embeddings[members]), owners, count)


@without_autocast
def assign(
    embeddings: Tensor, centers: Tensor, bandwidths: Tensor, *, reach: float
) -> "tuple[Tensor, Tensor]":
    """The nearest centre of every pixel, counted in bandwidths of that centre.

    Args:
        embeddings (Tensor): (P, E) float.
        centers (Tensor): (K, E) float.
        bandwidths (Tensor): (K,) float > 0, in units of the embedding.
        reach (float): pixels farther than this many bandwidths from every centre are left over;
            inf: none is, unless there is no centre.

    Returns:
        tuple[Tensor, Tensor]: (P,) int64 labels, 0..K-1, of equally near centres the first,
        -1 = left over; (P,) float distances in bandwidths of the nearest centre, inf for K = 0.
    """
    centers = centers.to(torch.promote_types(embeddings.dtype, torch.float32))
    bandwidths = bandwidths.to(centers)
    labels = torch.full((len(embeddings),), -1, device=embeddings.device)
    distances = centers.new_full((len(embeddings),), math.inf)
    rows = max(BLOCK_NUMBERS // max(centers.shape), 1)
    for begin in range(0, len(embeddings) if len(centers) else 0, rows):
        block = slice(begin, begin + rows)
        points = embeddings[block].to(centers.dtype)
        labels[block] = nearest = _nearest(points, centers, bandwidths)
        squares = (points - centers[nearest]).square().sum(1)  # on a CPU norm is slow along rows
        distances[block] = squares.sqrt() / bandwidths[nearest]
    labels[~(distances <= reach)] = -1
    return labels, distances


def _nearest(points: Tensor, centers: Tensor, bandwidths: Tensor) -> Tensor:
    """(n,) int64: the centre with the least distance over bandwidth."""
    middle = centers.mean(0)  # small numbers make small rounding errors
    points, centers = points - middle, centers - middle
    squares = torch.addmm(centers.square().sum(1), points, centers.T, alpha=-2)
    squares.add_(points.square().sum(1, keepdim=True)).mul_(bandwidths.pow(-2))
    return squares.min(1).indices  # on a CPU faster than argmin
