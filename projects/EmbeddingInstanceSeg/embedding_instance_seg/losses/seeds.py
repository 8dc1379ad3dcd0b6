"""Seeds: how far inside of its object a pixel lies.

Shape shorthand in this module:
    B: images   h, w: output grid
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..segments import at_least_float32, segment_mean


def seed_targets(instance_ids: Tensor) -> Tensor:
    """Distance of every cell to the outline of its object, as a fraction of the object's largest.

    Each object, however small or thin, has 1 somewhere in its middle, and the value does not depend
    on the embedding.

    Source: Goldsborough et al. 2024 (InstanSeg), the seed map.

    Args:
        instance_ids (Tensor): (B, h, w) int64; 0 is background, < 0 does not count.

    Returns:
        Tensor: (B, h, w) float32 in [0, 1], 0 outside of objects, on the device of the ids.
    """
    maps = instance_ids.clamp(min=0).cpu().numpy()
    return torch.from_numpy(np.stack([_depths(ids) for ids in maps])).to(instance_ids.device)


def _depths(ids: np.ndarray) -> np.ndarray:
    """Of one image: (h, w) int64 -> (h, w) float32."""
    result = np.zeros(ids.shape, dtype=np.float32)
    present, ranks = np.unique(ids, return_inverse=True)
    ranks = ranks.reshape(ids.shape) + int(present[0] > 0)  # from 1, and 0 is background
    for rank, window in enumerate(ndimage.find_objects(ranks), start=1):
        if window is None:
            continue
        mask = ranks[window] == rank
        # Around the window there are other pixels, or the edge of the map, which counts as such.
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        result[window][mask] = depth[mask] / depth.max()
    return result


def seed_loss(logits: Tensor, instance_ids: Tensor) -> Tensor:
    """Absolute error of the seed map: its mean over instances, so that small ones count, plus its
    mean over the background.

    Args:
        logits (Tensor): (B, h, w) float.
        instance_ids (Tensor): (B, h, w) int64; 0 is background, < 0 does not count.

    Returns:
        Tensor: scalar, mean over the B images.
    """
    errors = (torch.sigmoid(at_least_float32(logits)) - seed_targets(instance_ids)).abs()
    return torch.stack([_image_loss(*image) for image in zip(errors, instance_ids)]).mean()


def _image_loss(errors: Tensor, ids: Tensor) -> Tensor:
    """Of one image: (h, w), (h, w) -> scalar."""
    present, owners = torch.unique(ids[ids > 0], return_inverse=True)
    objects = segment_mean(errors[ids > 0], owners, len(present)).sum() / max(len(present), 1)
    outside = ids == 0
    return objects + errors[outside].sum() / outside.sum().clamp(min=1)
