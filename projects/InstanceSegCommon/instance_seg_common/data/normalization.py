"""The range of values of an image: its own percentiles brought to 0 and 255.

Shape shorthand in this module:
    H, W: an image   C: its channels
"""

from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode

from ..errors import UserError

FIXED, PERCENTILE = "fixed", "percentile"


def check_normalization(cfg: CfgNode) -> None:
    """Raise a UserError unless ``INPUT.NORMALIZATION`` and ``INPUT.PERCENTILES`` can be used."""
    node = cfg.INPUT
    if node.NORMALIZATION not in (FIXED, PERCENTILE):
        raise UserError(
            f"INPUT.NORMALIZATION is {node.NORMALIZATION!r}; use {FIXED} or {PERCENTILE}."
        )
    limits = list(node.PERCENTILES)
    if len(limits) != 2 or not 0 <= limits[0] < limits[1] <= 100:
        raise UserError(
            f"INPUT.PERCENTILES is {limits}; give two numbers from 0 to 100, the lower one first."
        )


def stretched(pixels: np.ndarray, percentiles: Sequence[float]) -> np.ndarray:
    """Bring two percentiles of each channel to 0 and 255.

    Source: CSBDeep's ``normalize`` (Weigert et al. 2018), which StarDist uses with 1 and 99.8, to 0
    and 1. Deviates: to 0 and 255, the unit of ``MODEL.PIXEL_MEAN``; where both percentiles are the
    same value, as with a few bright pixels on a ground of 0, the extremes stand in for them.

    Args:
        pixels: (H, W, C) of any integer or float dtype, finite; the whole image, for a part of it
            has other percentiles.
        percentiles: two numbers, 0 to 100.

    Returns:
        (H, W, C) float32, not clipped; a channel of one value is 0.
    """
    result = np.zeros(pixels.shape, np.float32)
    for index in range(pixels.shape[2]):
        channel = pixels[:, :, index]
        low, high = np.percentile(channel, percentiles)
        if low == high:
            low, high = float(channel.min()), float(channel.max())
        if low < high:
            result[:, :, index] = (channel.astype(np.float64) - low) * (255 / (high - low))
    return result
