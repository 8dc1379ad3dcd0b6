"""From the maps of the network to the instances of one image.

Shape shorthand in this module:
    C: classes without background   E: embedding channels
    H, W: network input without padding   h, w: the network's grid over it
    P: foreground pixels of one class   K: instances
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from instance_seg_common.errors import UserError

from .centers import assign, centers_of
from .clustering import hdbscan, mean_shift
from .config import NODE
from .maps import Maps, likeliest
from .peaks import HALF_WIDTH, local_maxima, without_repeats
from .segments import grid_cells, segment_mean

SCORE_FACTORS = ("probability", "compactness", "seed")
CLUSTERINGS = ("mean_shift", "hdbscan", "seeded")


@dataclass(frozen=True)
class InferenceSettings:
    """How pixels become instances; try another one with ``dataclasses.replace``.

    Attributes:
        clustering: one of ``CLUSTERINGS``; "seeded" needs a network with seeds and bandwidths.
        bandwidth: radius of a cluster, in units of the embedding; "seeded" reads it
            only for objects that fall between the cells of the grid.
        min_cluster_size: cells of the grid; smaller clusters of the other two are left over.
        seed_threshold: least value of the seed map at a centre of "seeded".
        reach: an instance takes pixels up to this many bandwidths away; inf: any distance.
        score: factors of the score, of ``SCORE_FACTORS``; none: all scores are 1. The factor "seed"
            is 1 unless clustering is "seeded".
        class_agnostic: cluster all classes together; the pixels of an instance vote on its class.
        min_area: pixels of the output; smaller instances are dropped.
        max_instances: the best of an image that are kept; None: all.

    Raises:
        UserError: an unknown clustering or factor.
    """

    clustering: str
    bandwidth: float
    min_cluster_size: int
    seed_threshold: float
    reach: float
    score: tuple[str, ...]
    class_agnostic: bool
    min_area: int
    max_instances: Optional[int]

    def __post_init__(self) -> None:
        _check_known("CLUSTERING", [self.clustering], CLUSTERINGS)
        _check_known("SCORE", self.score, SCORE_FACTORS)


@dataclass(frozen=True)
class Grouping:
    """Instances of one image, or of one class of it.

    Attributes:
        labels (Tensor): (H, W) int64, 0 is none, k + 1 is instance k.
        centers (Tensor): (K, E) float.
        classes (Tensor): (K,) int64.
        scores (Tensor): (K,) float in [0, 1].
    """

    labels: Tensor
    centers: Tensor
    classes: Tensor
    scores: Tensor


class Centers(NamedTuple):
    """Where instances are in the embedding.

    Attributes:
        points (Tensor): (K, E) float.
        radii (Tensor): (K,) float > 0, the bandwidth of each, in units of the embedding.
        seeds (Tensor): (K,) float in [0, 1], their factor of the score.
        classes (Tensor or None): (K,) int64; None: those that are clustered.
    """

    points: Tensor
    radii: Tensor
    seeds: Tensor
    classes: Optional[Tensor] = None


def group_pixels(
    maps: Maps, settings: InferenceSettings, truth: Optional[Centers] = None
) -> Grouping:
    """Instances of one image: clusters of its foreground, of one class at a time or all together.

    Clusters are sought on the network's grid, where there are fewer pixels; every pixel
    of the input then goes to the nearest of their centres.

    Args:
        maps (Maps)
        settings (InferenceSettings)
        truth (Centers or None): with classes; they take the place of the clusters' centres.

    Returns:
        Grouping: instances by class, in each class in the order of the clustering.

    Raises:
        UserError: the clustering needs seeds that the network does not predict.
    """
    if settings.clustering == "seeded" and maps.seed is None:
        raise UserError(
            "CLUSTERING seeded reads seeds and bandwidths, which this network does not predict: "
            f"set {NODE}.CLUSTERING to seeded and train, or choose mean_shift."
        )
    parts = []
    for foreground, classes in _areas(maps, settings.class_agnostic):
        if truth is None:
            centers = find_centers(maps, foreground, settings)
        else:
            centers = _of_classes(truth, classes)
        parts.append(_share_out(maps, foreground, centers, classes=classes, settings=settings))
    return concatenate(parts, maps.embedding_full)


def _areas(maps: Maps, class_agnostic: bool) -> "list[tuple[Tensor, list[int]]]":
    """What is clustered by itself: (H, W) bool pixels, of which some are True, and its classes."""
    background = len(maps.probabilities) - 1
    if class_agnostic:
        # Foreground is what is more likely some object than none, whichever the class.
        foreground = maps.probabilities[background] < 0.5
        return [(foreground, list(range(background)))] if foreground.any() else []
    semantic = likeliest(maps.probabilities)
    sizes = torch.bincount(semantic.flatten(), minlength=background)[:background]
    return [(semantic == c, [c]) for c in sizes.nonzero().flatten().tolist()]


def find_centers(maps: Maps, foreground: Tensor, settings: InferenceSettings) -> Centers:
    """The centres of the clusters of some pixels.

    Args:
        maps (Maps)
        foreground (Tensor): (H, W) bool, not all False.
        settings (InferenceSettings)

    Returns:
        Centers: the surest first if "seeded", else the largest.
    """
    cells = grid_cells(foreground, maps.stride)
    if not cells.any():  # nothing but objects that fall between the cells
        point = maps.embedding_full[:, foreground].mean(dim=1)[None]
        return Centers(point, point.new_full((1,), settings.bandwidth), point.new_ones(1))
    if settings.clustering == "seeded":
        return seed_centers(maps, cells, threshold=settings.seed_threshold)
    points = maps.embedding[:, cells].T
    if settings.clustering == "hdbscan":
        labels = hdbscan(points, min_size=settings.min_cluster_size)
    else:
        bandwidth, min_size = settings.bandwidth, settings.min_cluster_size
        labels = mean_shift(points, bandwidth=bandwidth, min_size=min_size)
    centers = centers_of(points, labels)
    count = len(centers)
    return Centers(centers, points.new_full((count,), settings.bandwidth), points.new_ones(count))


def seed_centers(maps: Maps, cells: Tensor, *, threshold: float) -> Centers:
    """The peaks of the seed map, each with the embedding and the bandwidth of its cell.

    Of two peaks of one object the lower lies where the Gaussian of the higher is above one half.

    Args:
        maps (Maps): with seed and bandwidth.
        cells (Tensor): (h, w) bool, where peaks may be.
        threshold (float): least value of the seed map at a peak.

    Returns:
        Centers: in the order of falling seed values; peaks of numbers that are not finite are none.

    Source: Goldsborough et al. 2024 (InstanSeg), seeds as local maxima; Neven et al. 2019, Eq. 5.
    Deviates: of two peaks the lower one goes, where InstanSeg merges the masks of both.
    """
    assert maps.seed is not None and maps.bandwidth is not None
    rows, columns = local_maxima(maps.seed, cells, threshold=threshold).unbind(dim=1)
    points = maps.embedding[:, rows, columns].T
    radii = HALF_WIDTH * maps.bandwidth[rows, columns]
    finite = (points.isfinite().all(dim=1) & radii.isfinite()).nonzero().squeeze(1)
    kept = finite[without_repeats(points[finite], radii[finite])]
    return Centers(points[kept], radii[kept], maps.seed[rows, columns][kept])


def _of_classes(truth: Centers, classes: Sequence[int]) -> Centers:
    """Those centres that are of these classes."""
    assert truth.classes is not None
    chosen = torch.isin(truth.classes, truth.classes.new_tensor(classes)).nonzero().squeeze(1)
    return Centers(truth.points[chosen], truth.radii[chosen], truth.seeds[chosen])


def _share_out(
    maps: Maps,
    foreground: Tensor,
    centers: Centers,
    *,
    classes: Sequence[int],
    settings: InferenceSettings,
) -> Grouping:
    """Instances of some classes: every pixel of their foreground (H, W) to its nearest centre."""
    points = maps.embedding_full[:, foreground].T
    labels, distances = assign(points, centers.points, centers.radii, reach=settings.reach)
    labels, kept = drop_empty(labels, len(centers.points))
    member = labels >= 0
    owners = labels[member]
    closeness = torch.exp2(-distances[member].square())
    probabilities = maps.probabilities[classes][:, foreground][:, member]
    best, probability = vote(probabilities, owners, len(kept))
    factors = {
        "probability": probability,
        "compactness": segment_mean(closeness, owners, len(kept)),
        "seed": centers.seeds[kept],
    }
    scores = centers.points.new_ones(len(kept))
    for name in settings.score:
        scores = scores * factors[name]
    label_map = torch.zeros_like(foreground, dtype=torch.int64)
    label_map[foreground] = labels + 1
    return Grouping(label_map, centers.points[kept], best.new_tensor(classes)[best], scores)


def vote(probabilities: Tensor, owners: Tensor, count: int) -> "tuple[Tensor, Tensor]":
    """The class of each instance, from the geometric mean of its pixels' probabilities.

    That mean is the softmax of the mean logits, which is what ``losses.instance_class_loss``
    trains.

    Args:
        probabilities (Tensor): (N, P) float, of N of the classes.
        owners (Tensor): (P,) int64, 0 to count - 1, the instance of each pixel.
        count (int): K.

    Returns:
        tuple[Tensor, Tensor]: (K,) int64 index of the class among the N; (K,) float its
        probability, times the mean probability that the pixels are of any of the N.
    """
    logs = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    among, best = segment_mean(logs.T, owners, count).softmax(dim=1).max(dim=1)
    return best, among * segment_mean(probabilities.sum(dim=0), owners, count)


def drop_empty(labels: Tensor, count: int) -> "tuple[Tensor, Tensor]":
    """Make labels consecutive.

    Args:
        labels (Tensor): (P,) int64, -1 to count - 1.
        count (int)

    Returns:
        tuple[Tensor, Tensor]: the new (P,) labels and, for each, (K,) int64 the old one.
    """
    sizes = torch.bincount(labels + 1, minlength=count + 1)[1:]
    kept = (sizes > 0).nonzero().squeeze(1)
    table = labels.new_full((count + 1,), -1)
    table[kept + 1] = torch.arange(len(kept), device=labels.device)
    return table[labels + 1], kept


def concatenate(groupings: Sequence[Grouping], embedding: Tensor) -> Grouping:
    """The groupings of several classes as one.

    Args:
        groupings (list[Grouping]): whose label maps do not overlap.
        embedding (Tensor): (E, H, W), whose size, type and device an empty result has.

    Returns:
        Grouping
    """
    labels = torch.zeros(embedding.shape[1:], dtype=torch.int64, device=embedding.device)
    count = 0
    for part in groupings:
        labels = torch.where(part.labels > 0, part.labels + count, labels)
        count += len(part.scores)
    none = embedding.new_zeros(0, len(embedding))
    return Grouping(
        labels,
        torch.cat([none, *(p.centers for p in groupings)]),
        torch.cat([labels.new_zeros(0), *(p.classes for p in groupings)]),
        torch.cat([none[:, 0], *(p.scores for p in groupings)]),
    )


def _check_known(key: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"{NODE}.{key} has {', '.join(map(repr, unknown))}; it knows {', '.join(known)}."
        )
