"""Figures about the clusters, for TensorBoard."""

import torch

from .clustering import centers_of


def cluster_statistics(maps, grouping, instance_ids):
    """How far the embedding of one image is from well separated clusters.

    Args:
        maps (Maps): of the image.
        grouping (PixelGrouping)
        instance_ids (Tensor): (h, w) int64 on the network's grid; 0 is background, < 0 does not
            count.

    Returns:
        dict[str, float]: ``num_clusters`` found, ``num_instances`` there; and of the instances
        ``distance_within``, the mean distance of a pixel to its mean, ``distance_between``, the
        mean distance of two means, in units of the embedding, where they exist.
    """
    found = {"num_clusters": float(len(grouping(maps).scores))}
    height, width = maps.embedding.shape[1:]
    ids = instance_ids[:height, :width]
    kept, groups = torch.unique(ids[ids > 0], return_inverse=True)
    found["num_instances"] = float(len(kept))
    points = maps.embedding[:, ids > 0].T
    centers = centers_of(points, groups)
    if len(kept):
        found["distance_within"] = float((points - centers[groups]).norm(dim=1).mean())
    if len(kept) > 1:
        found["distance_between"] = float(torch.pdist(centers).mean())
    return found
