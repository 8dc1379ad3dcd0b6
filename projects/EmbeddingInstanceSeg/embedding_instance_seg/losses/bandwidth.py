"""Losses for learned bandwidths: every instance a Gaussian around its mean embedding.

Shape shorthand in this module:
    B: images   E: embedding channels   h, w: output grid   K: instances of one image
    P: pixels of one image that count   M: pairs of an instance and a pixel
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..segments import at_least_float32, segment_mean

# A pixel whose membership in a foreign instance is below this takes no part in that instance's
# loss: its hinge error, twice the membership, is as small, and most pairs are of this kind.
NEGLIGIBLE = 1e-3
# Distances computed at once when the pairs are chosen.
CHUNK = 1 << 22
PAIRS = 1 << 21  # of which the hinge is computed at once: about 400 MB


class _Pairs(NamedTuple):
    """``instances``, ``pixels``: (M,) int64; of ``count`` instances from ``first`` on."""

    instances: Tensor
    pixels: Tensor
    first: int
    count: int


def bandwidth_losses(
    embeddings: Tensor, log_bandwidths: Tensor, *, instance_ids: Tensor
) -> "dict[str, Tensor]":
    """Pull, push and size of the instances in one: the Lovasz hinge on their Gaussians.

    Instance k with mean embedding C_k and bandwidth s_k, the geometric mean over its pixels,
    contains pixel i with membership exp(-||e_i - C_k||^2 / (2 s_k^2)).

    Source: Neven et al. 2019 (Instance Segmentation by Jointly Optimizing Spatial Embeddings and
    Clustering Bandwidth), Eq. 5 to 11.
    Deviates: any number of embedding channels; the bandwidth's variance is taken of its logarithm.

    Args:
        embeddings (Tensor): (B, E, h, w) float.
        log_bandwidths (Tensor): (B, h, w) float, natural logarithm, in units of the embedding.
        instance_ids (Tensor): (B, h, w) int64; 0 is background, < 0 does not count.

    Returns:
        dict[str, Tensor]: ``loss_mask``, ``loss_bandwidth``: unweighted scalars, means over the B
        images, of which one without instances has 0.
    """
    # Half precision has too few digits for distances between positions far from the origin.
    with torch.autocast(embeddings.device.type, enabled=False):
        maps = [at_least_float32(x).flatten(-2) for x in (embeddings, log_bandwidths)]
        terms = [_image_losses(*image) for image in zip(*maps, instance_ids.flatten(1))]
    names = ("loss_mask", "loss_bandwidth")
    return {name: torch.stack(values).mean() for name, values in zip(names, zip(*terms))}


def _image_losses(
    embeddings: Tensor, log_bandwidths: Tensor, instance_ids: Tensor
) -> "tuple[Tensor, Tensor]":
    """Mask and bandwidth loss of one image: (E, P), (P,), (P,) -> two scalars."""
    counted = (instance_ids >= 0).nonzero().squeeze(1)
    ids, groups = torch.unique(instance_ids[counted], return_inverse=True)
    has_background = int((ids[:1] == 0).any())
    groups = groups - has_background  # -1 is background
    num_instances = len(ids) - has_background
    if num_instances == 0:
        # All parts stay in the graph: distributed training waits for every parameter.
        zero = 0 * (embeddings.sum() + log_bandwidths.sum())
        return zero, zero
    points = embeddings[:, counted].T
    members = (groups >= 0).nonzero().squeeze(1)
    owners = groups[members]
    centers = segment_mean(points[members], owners, num_instances)
    member_logs = log_bandwidths[counted][members]
    logs = segment_mean(member_logs, owners, num_instances)
    spread = segment_mean((member_logs - logs[owners]) ** 2, owners, num_instances).mean()
    return _mask_loss(points, groups, centers, log_bandwidths=logs), spread


def _membership(points: Tensor, centers: Tensor, log_bandwidths: Tensor) -> Tensor:
    """exp(-d^2 / (2 s^2)) of paired points and centres: (M, E), (M, E), (M,) -> (M,)."""
    squared = (points - centers).square().sum(dim=1)
    return torch.exp(-0.5 * squared * torch.exp(-2 * log_bandwidths))


def _mask_loss(
    points: Tensor, groups: Tensor, centers: Tensor, *, log_bandwidths: Tensor
) -> Tensor:
    """Mean over the instances of the Lovasz hinge of their membership maps."""
    hinges = [
        _hinges(points, groups, centers, log_bandwidths=log_bandwidths, pairs=pairs)
        for pairs in _relevant_pairs(points, groups, centers, log_bandwidths=log_bandwidths)
    ]
    return torch.cat(hinges).mean()


def _hinges(
    points: Tensor, groups: Tensor, centers: Tensor, *, log_bandwidths: Tensor, pairs: _Pairs
) -> Tensor:
    """(n,) the Lovasz hinge of each instance of some pairs."""
    instances, pixels = pairs.instances, pairs.pixels
    # The points of all pairs are gathered again for the backward, not kept: there may be many.
    membership = checkpoint(
        lambda x, c, b: _membership(x[pixels], c[instances], b[instances]),
        *(points, centers, log_bandwidths),
        use_reentrant=False,
        preserve_rng_state=False,
    )
    labels = groups[pixels] == instances
    segments = instances - pairs.first
    return lovasz_hinge(2 * membership - 1, labels, segments, num_segments=pairs.count)


@torch.no_grad()
def _relevant_pairs(
    points: Tensor, groups: Tensor, centers: Tensor, *, log_bandwidths: Tensor
) -> "list[_Pairs]":
    """All pairs of an instance and a pixel that belongs, or seems to belong, to it.

    Returns:
        In the order of the instances, few enough pairs at a time for what is computed of them.
    """
    reach = -2 * math.log(NEGLIGIBLE) * torch.exp(2 * log_bandwidths)  # squared distance
    belongs = _Belongs(points, groups, centers)
    result: list[_Pairs] = []
    parts: list[tuple[Tensor, Tensor]] = []
    first = 0
    for start in range(0, len(centers), belongs.step):
        stop = min(start + belongs.step, len(centers))
        instances, pixels = belongs.table(start, stop, reach=reach).nonzero().unbind(dim=1)
        parts.append((instances + start, pixels))
        if stop == len(centers) or sum(len(pixels) for _, pixels in parts) > PAIRS:
            joined = [torch.cat(part) for part in zip(*parts)]
            result.append(_Pairs(joined[0], joined[1], first, stop - first))
            parts, first = [], stop
    return result


class _Belongs:
    """Which pixels belong, or seem to belong, to some instances; the tables share their memory.

    Tables of their own, with what is kept of each in between, would leave gaps that add up.
    """

    def __init__(self, points: Tensor, groups: Tensor, centers: Tensor) -> None:
        middle = centers.mean(dim=0)  # small numbers, small rounding errors
        self.points, self.centers = points - middle, centers - middle
        self.norms = self.points.square().sum(dim=1)
        members = (groups >= 0).nonzero().squeeze(1)
        owners, order = groups[members].sort(stable=True)
        self.owners, self.members = owners, members[order]
        self.step = max(CHUNK // max(len(points), 1), 1)
        self._squared = points.new_empty(self.step, len(points))
        self._table = torch.empty_like(self._squared, dtype=torch.bool)

    def table(self, start: int, stop: int, *, reach: Tensor) -> Tensor:
        """(stop - start, P) bool of these instances; ``reach`` (K,) squared distance of all."""
        squared, table = self._squared[: stop - start], self._table[: stop - start]
        torch.addmm(self.norms, self.centers[start:stop], self.points.T, alpha=-2, out=squared)
        squared += self.centers[start:stop].square().sum(dim=1, keepdim=True)
        torch.lt(squared, reach[start:stop, None], out=table)
        ends = self.owners.new_tensor([start, stop])
        begin, end = torch.searchsorted(self.owners, ends).tolist()
        table[self.owners[begin:end] - start, self.members[begin:end]] = True
        return table


def lovasz_hinge(logits: Tensor, labels: Tensor, segments: Tensor, *, num_segments: int) -> Tensor:
    """Lovasz extension of the Jaccard loss, of many binary problems at once.

    Source: Berman et al. 2018 (The Lovasz-Softmax loss), Eq. 8 and 9, Algorithm 1.

    Args:
        logits (Tensor): (M,) float, positive means the label is predicted true.
        labels (Tensor): (M,) bool.
        segments (Tensor): (M,) int64, the problem an entry belongs to, 0 to num_segments - 1;
            every problem has at least one true label.
        num_segments (int)

    Returns:
        Tensor: (num_segments,) float, each at least 0.
    """
    errors = 1 - torch.where(labels, logits, -logits)
    order = torch.argsort(errors.detach(), descending=True)
    order = order[torch.argsort(segments[order], stable=True)]
    weights = _jaccard_steps(labels[order], segments[order], num_segments).to(errors.dtype)
    terms = torch.relu(errors[order]) * weights
    return logits.new_zeros(num_segments).scatter_add(0, segments[order], terms)


def _jaccard_steps(labels: Tensor, segments: Tensor, num_segments: int) -> Tensor:
    """By how much each entry, in descending order of error, raises its problem's Jaccard loss."""
    sizes = torch.bincount(segments, minlength=num_segments)
    starts = sizes.cumsum(0) - sizes
    rank = torch.arange(len(segments), device=segments.device) - starts[segments]
    seen = labels.long().cumsum(0)
    # Exclusive prefix sums at the problems' first entries, so that each counts from its own start.
    before = torch.cat([seen.new_zeros(1), seen])[starts]
    seen = seen - before[segments]
    total = torch.zeros_like(sizes).scatter_add(0, segments, labels.long())[segments]
    intersection = total - seen
    union = total + (rank + 1 - seen)
    loss = 1 - intersection.double() / union.clamp(min=1)
    previous = torch.cat([loss.new_zeros(1), loss[:-1]])
    return loss - torch.where(rank == 0, torch.zeros_like(loss), previous)
