"""What is looked at: figures about the clusters for TensorBoard, and the insides for pictures.

Shape shorthand in this module:
    E: embedding channels   K: clusters
    H, W: network input without padding   h, w: the network's grid over it
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from instance_seg_common.meta_arch import current_iteration, put_scalars

from .centers import centers_of
from .grouping import Grouping, InferenceSettings, group_pixels
from .maps import Maps, image_maps, likeliest
from .segments import grid_cells

PERIOD = 20  # iterations, that of Detectron2's writers


@torch.no_grad()
def put_cluster_statistics(
    outputs: Mapping[str, Tensor],
    instance_ids: Tensor,
    size: "tuple[int, int]",
    *,
    settings: InferenceSettings,
) -> None:
    """Every few iterations, hand the trainer :func:`cluster_statistics` of a batch's first image.

    Args:
        outputs (dict[str, Tensor]): of ``EmbeddingHead``, for the padded batch.
        instance_ids (Tensor): int64, of the first image with its padding.
        size (tuple[int, int]): (H, W) of the first image.
        settings (InferenceSettings)
    """
    iteration = current_iteration()
    if iteration is None or iteration % PERIOD:
        return
    stride = instance_ids.shape[-1] // outputs["embedding"].shape[-1]
    maps = image_maps(outputs, 0, size, stride=stride)
    statistics = cluster_statistics(maps, settings, grid_cells(instance_ids, stride))
    scalars = {f"embedding/{name}": value for name, value in statistics.items()}
    put_scalars(scalars, smoothing_hint=False)


def cluster_statistics(
    maps: Maps, settings: InferenceSettings, instance_ids: Tensor
) -> "dict[str, float]":
    """How far the embedding of one image is from well separated clusters.

    Args:
        maps (Maps): of the image.
        settings (InferenceSettings): with "mean_shift" in place of "hdbscan", which is too slow
            for every few iterations.
        instance_ids (Tensor): int64, (h, w) or with the padding of its batch; 0 is background,
            < 0 does not count.

    Returns:
        dict[str, float]: ``num_clusters`` and ``num_instances``, how many there are; and of the
        instances ``distance_within``, the mean distance of a pixel to its mean,
        ``distance_between``, the mean distance of two means, in units of the embedding, where they
        exist.
    """
    if settings.clustering == "hdbscan":
        settings = replace(settings, clustering="mean_shift")
    statistics = {"num_clusters": float(len(group_pixels(maps, settings).scores))}
    height, width = maps.embedding.shape[1:]
    ids = instance_ids[:height, :width]
    kept, groups = torch.unique(ids[ids > 0], return_inverse=True)
    statistics["num_instances"] = float(len(kept))
    points = maps.embedding[:, ids > 0].T
    centers = centers_of(points, groups)
    if len(kept):
        statistics["distance_within"] = float((points - centers[groups]).norm(dim=1).mean())
    if len(kept) > 1:
        statistics["distance_between"] = float(torch.pdist(centers).mean())
    return statistics


def image_internals(maps: Maps, grouping: Grouping) -> "dict[str, Tensor]":
    """What the picture of the insides of one image is drawn from.

    Args:
        maps (Maps)
        grouping (Grouping): of these maps.

    Returns:
        dict[str, Tensor]: ``embedding`` (E, H, W); ``semantic`` (H, W) int64, NUM_CLASSES is
        background; ``foreground_mask`` (H, W) bool, where it is not; ``foreground`` (H, W),
        probability of not background; ``clusters`` (H, W) int64, 0 is none; ``centers`` (K, E);
        with CLUSTERING seeded also ``seeds`` and ``bandwidth`` (H, W).
    """
    semantic = likeliest(maps.probabilities)
    internals = {
        "embedding": maps.embedding_full,
        "semantic": semantic,
        "foreground_mask": semantic != len(maps.probabilities) - 1,
        "foreground": 1 - maps.probabilities[-1],
        "clusters": grouping.labels,
        "centers": grouping.centers,
    }
    if maps.seed is not None and maps.bandwidth is not None:
        cells = torch.stack([maps.seed, maps.bandwidth])[None]
        size = grouping.labels.shape
        internals["seeds"], internals["bandwidth"] = F.interpolate(cells, size)[0]
    return internals
