"""From the maps of the network to the instances of one image.

Shape shorthand in this module:
    C: classes without background   E: embedding channels   s: output stride
    H, W: network input without padding   h, w: the grid of stride s over it
    P: foreground pixels of one class   K: instances
"""

from dataclasses import dataclass
from typing import Optional

import torch
from torch.nn import functional as F

from instance_seg_common.errors import UserError

from .clustering import (
    HALF_WIDTH,
    assign,
    centers_of,
    hdbscan,
    mean_shift,
    seeded,
    sklearn_mean_shift,
)
from .segments import segment_mean

SCORE_FACTORS = ("probability", "compactness", "seed")
CLUSTERINGS = ("mean_shift", "sklearn_mean_shift", "hdbscan", "seeded")


@dataclass(frozen=True)
class Maps:
    """What the network says about one image, without padding.

    Attributes:
        probabilities (Tensor): (C + 1, H, W) float, of classes and background (last).
        embedding (Tensor): (E, h, w) float.
        embedding_full (Tensor): (E, H, W) float, the same, interpolated.
        seed (Tensor or None): (h, w) float in [0, 1].
        bandwidth (Tensor or None): (h, w) float, in units of the embedding.
        stride (int): s.
    """

    probabilities: torch.Tensor
    embedding: torch.Tensor
    embedding_full: torch.Tensor
    seed: Optional[torch.Tensor]
    bandwidth: Optional[torch.Tensor]
    stride: int


@dataclass(frozen=True)
class Grouping:
    """Instances of one image, or of one class of it.

    Attributes:
        labels (Tensor): (H, W) int64, 0 is none, k + 1 is instance k.
        centers (Tensor): (K, E) float.
        classes (Tensor): (K,) int64.
        scores (Tensor): (K,) float in [0, 1].
    """

    labels: torch.Tensor
    centers: torch.Tensor
    classes: torch.Tensor
    scores: torch.Tensor


def likeliest(probabilities):
    """The class with the highest of (C + 1, H, W) probabilities: (H, W) int64."""
    return probabilities.max(dim=0).indices  # on a CPU many times faster than argmax(dim=0)


def image_maps(outputs, index, size, stride):
    """One image's part of the network's outputs, brought to the size of the network input.

    Args:
        outputs (dict[str, Tensor]): of :class:`~.head.EmbeddingHead`, for a padded batch.
        index (int): of the image in the batch.
        size (tuple[int, int]): (H, W), without padding.
        stride (int): s.

    Returns:
        Maps
    """
    height, width = size
    # The cells whose centre pixel lies in the image, which are those that training counts.
    rows, columns = (len(range(stride // 2, n, stride)) or 1 for n in size)
    cells = {name: x[index, ..., :rows, :columns] for name, x in outputs.items()}
    padded = tuple(n * stride for n in outputs["embedding"].shape[-2:])

    def enlarge(name):
        x = outputs[name][index][None]
        x = F.interpolate(x, size=padded, mode="bilinear", align_corners=False)
        return x[0, :, :height, :width]

    return Maps(
        probabilities=enlarge("semantic").softmax(dim=0),
        embedding=cells["embedding"],
        embedding_full=enlarge("embedding"),
        seed=cells["seed"].sigmoid() if "seed" in cells else None,
        bandwidth=cells["log_bandwidth"].exp() if "seed" in cells else None,
        stride=stride,
    )


class PixelGrouping:
    """Clusters the foreground of an image, one class at a time or all together.

    Clusters are found on the network's grid, where there are s^2 times fewer pixels; every pixel of
    the input then goes to the nearest of their centres.

    Args:
        clustering (str): one of ``CLUSTERINGS``.
        bandwidth (float): radius of a cluster, in units of the embedding; without use to "seeded",
            which reads it from the network.
        min_size (int): pixels of the grid; smaller clusters are left over.
        max_iterations (int): shifts of one mean.
        seed_threshold (float): least value of the seed map at a centre.
        reach (float): an instance takes pixels up to this many bandwidths away; inf: any distance.
        score (sequence[str]): factors of the score, of ``SCORE_FACTORS``.
        class_agnostic (bool): cluster all classes together; the pixels of an instance vote on its
            class.
        random_seed (int): of the order in which "mean_shift" visits pixels.

    Raises:
        UserError: an unknown clustering or factor.
    """

    def __init__(
        self, clustering, bandwidth, min_size, max_iterations, seed_threshold, reach, score,
        class_agnostic=False, random_seed=0,
    ):  # fmt: skip
        _check_known("CLUSTERING", [clustering], CLUSTERINGS)
        _check_known("SCORE", score, SCORE_FACTORS)
        self.clustering = clustering
        self.bandwidth = bandwidth
        self.min_size = min_size
        self.max_iterations = max_iterations
        self.seed_threshold = seed_threshold
        self.reach = reach
        self.score = tuple(score)
        self.class_agnostic = class_agnostic
        self.random_seed = random_seed

    @property
    def learns_bandwidth(self):
        """Whether bandwidths come from the network."""
        return self.clustering == "seeded"

    def quick(self):
        """Itself, or with "mean_shift" in place of a slow clustering of scikit-learn."""
        if self.clustering in ("mean_shift", "seeded"):
            return self
        return PixelGrouping(**dict(vars(self), clustering="mean_shift"))

    def __call__(self, maps, truth=None):
        """Instances of one image.

        Args:
            maps (Maps)
            truth (Grouping or None): instances whose centres take the place of the clusters'.

        Returns:
            Grouping: instances by class, in each class by descending size.
        """
        background = len(maps.probabilities) - 1
        if self.class_agnostic:
            # Foreground is what is more likely some object than none, whichever the class.
            foreground = maps.probabilities[background] < 0.5
            classes = list(range(background))
            parts = [self._group(maps, foreground, classes, truth)] if foreground.any() else []
        else:
            semantic = likeliest(maps.probabilities)
            present = torch.unique(semantic[semantic != background]).tolist()
            parts = [self._group(maps, semantic == c, [c], truth) for c in present]
        return concatenate(parts, maps.embedding_full)

    def _group(self, maps, foreground, classes, truth):
        """Instances of some classes (list[int]) on their foreground (H, W) bool, not empty."""
        if truth is None:
            centers, bandwidths, seeds = self._find_centers(maps, foreground)
        else:
            centers, bandwidths, seeds = self._true_centers(maps, truth, classes)
        points = maps.embedding_full[:, foreground].T
        labels, distances = assign(points, centers, bandwidths, self.reach)
        labels, kept = drop_empty(labels, len(centers))
        member = labels >= 0
        owners = labels[member]
        closeness = torch.exp2(-distances[member].square())
        probabilities = maps.probabilities[classes][:, foreground][:, member]
        best, probability = vote(probabilities, owners, len(kept))
        factors = {
            "probability": probability,
            "compactness": segment_mean(closeness, owners, len(kept)),
            "seed": seeds[kept],
        }
        scores = centers.new_ones(len(kept))
        for name in self.score:
            scores = scores * factors[name]
        label_map = torch.zeros_like(foreground, dtype=torch.int64)
        label_map[foreground] = labels + 1
        return Grouping(label_map, centers[kept], best.new_tensor(classes)[best], scores)

    def _find_centers(self, maps, foreground):
        """(K, E) centres, (K,) bandwidths and (K,) seed values of the clusters of one class."""
        s = maps.stride
        cells = foreground[s // 2 :: s, s // 2 :: s]
        if not cells.any():  # nothing but objects that fall between the cells
            point = maps.embedding_full[:, foreground].mean(dim=1)[None]
            return point, point.new_full((1,), self.bandwidth), point.new_ones(1)
        points = maps.embedding[:, cells].T
        seeds = points.new_ones(len(points)) if maps.seed is None else maps.seed[cells]
        widths = None if maps.bandwidth is None else maps.bandwidth[cells]
        labels = self.label(points, seeds, widths)
        centers = centers_of(points, labels)
        member = labels >= 0
        best = seeds.new_zeros(len(centers))
        best = best.scatter_reduce(0, labels[member], seeds[member], "amax")
        if self.learns_bandwidth:
            return centers, HALF_WIDTH * centers_of(widths[:, None], labels)[:, 0], best
        return centers, points.new_full((len(centers),), self.bandwidth), best

    def label(self, points, seeds=None, bandwidths=None):
        """Cluster the pixels of one class.

        Args:
            points (Tensor): (P, E) float.
            seeds (Tensor or None): (P,) float in [0, 1].
            bandwidths (Tensor or None): (P,) float, in units of the embedding.

        Returns:
            Tensor: (P,) int64, 0 to K - 1, -1 = left over.
        """
        if self.learns_bandwidth:
            return seeded(
                points, seeds, bandwidths,
                seed_threshold=self.seed_threshold, min_size=self.min_size,
            )  # fmt: skip
        if self.clustering == "sklearn_mean_shift":
            return sklearn_mean_shift(points, bandwidth=self.bandwidth, min_size=self.min_size)
        if self.clustering == "hdbscan":
            return hdbscan(points, min_size=self.min_size)
        return mean_shift(
            points, bandwidth=self.bandwidth, min_size=self.min_size,
            max_iterations=self.max_iterations, seed=self.random_seed,
        )  # fmt: skip

    def _true_centers(self, maps, truth, classes):
        chosen = torch.isin(truth.classes, truth.classes.new_tensor(classes)).nonzero().squeeze(1)
        centers = truth.centers[chosen]
        widths = centers.new_full((len(centers),), self.bandwidth)
        if self.learns_bandwidth:
            widths = HALF_WIDTH * true_bandwidths(maps, truth)[chosen]
        return centers, widths, centers.new_ones(len(centers))


def vote(probabilities, owners, count):
    """The class of each instance, from the geometric mean of its pixels' probabilities.

    That mean is the softmax of the mean logits, which is what ``semantics.instance_class_loss``
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


def drop_empty(labels, count):
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


def concatenate(groupings, embedding):
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


def true_grouping(maps, instance_ids, class_ids):
    """The ground truth with the centres that its pixels' embeddings have.

    Args:
        maps (Maps)
        instance_ids (Tensor): (H, W) int64, 0 is background, < 0 does not count.
        class_ids (Tensor): (H, W) int64, 0-based, -1 where there is no instance.

    Returns:
        Grouping: all scores 1; instances of which nothing is visible are left out.
    """
    counted = instance_ids.clamp(min=0)
    labels, kept = drop_empty(counted.flatten() - 1, int(counted.max()))
    labels = labels.reshape(instance_ids.shape)
    centers = centers_of(maps.embedding_full.flatten(1).T, labels.flatten())
    classes = class_ids.new_zeros(len(kept))
    classes[labels[labels >= 0]] = class_ids[labels >= 0]
    return Grouping(labels + 1, centers, classes, centers.new_ones(len(kept)))


def true_bandwidths(maps, truth):
    """Mean bandwidth of each true instance; the image's where it falls between the cells: (K,)."""
    s = maps.stride
    cells = truth.labels[s // 2 :: s, s // 2 :: s].flatten()
    values = maps.bandwidth.flatten()
    count = len(truth.classes) + 1
    seen = torch.bincount(cells, minlength=count)[1:] > 0
    return torch.where(seen, segment_mean(values, cells, count)[1:], values.mean())


def _check_known(key, names, known):
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"MODEL.EMBEDDING_INSTANCE_SEG.{key} has {', '.join(map(repr, unknown))}; it knows "
            f"{', '.join(known)}."
        )
