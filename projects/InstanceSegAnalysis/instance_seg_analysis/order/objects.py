"""The objects that a model finds in an image, in the order of its steps: place, size, activation.

An activation is the mean over a mask's area and all channels, as they are (after the ReLU of a
ResNet's blocks, signed elsewhere).

Shape shorthand in this module:
    N: objects of an image in the order of their steps   C: channels
    h, w: grid of the masks   H', W': grid of the features
"""

from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.nn import functional as F


class FoundObjects(NamedTuple):
    """One image. centers (N, 2) float64: x, y as shares of width and height; areas (N,) float64:
    shares of the image; classes (N,) int64, 0-based."""

    centers: np.ndarray
    areas: np.ndarray
    classes: np.ndarray


def describe_masks(masks: Tensor, classes: Tensor) -> FoundObjects:
    """Place and size of the objects.

    Args:
        masks (Tensor): (N, h, w) bool, none empty, in the order of the steps.
        classes (Tensor): (N,) int64.

    Returns:
        FoundObjects: a centre is the centre of mass, which may lie outside of its mask.
    """
    height, width = masks.shape[1:]
    rows, columns = (masks.sum(dim=dim).double().cpu().numpy() for dim in (2, 1))
    areas = rows.sum(axis=1)
    y = rows @ ((np.arange(height) + 0.5) / height) / areas
    x = columns @ ((np.arange(width) + 0.5) / width) / areas
    return FoundObjects(np.stack([x, y], axis=1), areas / (height * width), classes.cpu().numpy())


def covered_shares(
    masks: Tensor, padded_size: "tuple[int, int]", grid: "tuple[int, int]"
) -> Tensor:
    """Masks on a coarser grid.

    Args:
        masks (Tensor): (N, h, w) bool, on the network input without padding.
        padded_size (tuple[int, int]): of the network input; (h, w) or more.
        grid (tuple[int, int]): (H', W') of features of the padded network input.

    Returns:
        Tensor: (N, H', W') float, the share of each cell that a mask covers.
    """
    height, width = padded_size
    padding = (0, width - masks.shape[2], 0, height - masks.shape[1])
    return F.adaptive_avg_pool2d(F.pad(masks.float(), padding)[:, None], grid)[:, 0]


def mask_activations(features: Tensor, shares: Tensor) -> np.ndarray:
    """Mean activation of each object, over its area and all channels.

    Args:
        features (Tensor): (C, H', W') float.
        shares (Tensor): (N, H', W') float of :func:`covered_shares`, none all 0; with them as
            weights an object smaller than a cell has an activation, too.

    Returns:
        ndarray: (N,) float64.
    """
    means, shares = features.double().mean(dim=0).flatten(), shares.double().flatten(1)
    return (shares @ means / shares.sum(dim=1)).cpu().numpy()
