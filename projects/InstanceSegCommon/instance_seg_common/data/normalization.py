"""The range of values of an image: its own percentiles brought to 0 and 255.

Shape shorthand in this module:
    H, W: an image   C: its channels
"""

from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode

from ..errors import UserError

FIXED, PERCENTILE = "fixed", "percentile"
COUNTED = 2**22  # pixels that are counted at once


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

    Args:
        pixels: (H, W, C) of any integer or float dtype, finite; the whole image, for a part of it
            has other percentiles.
        percentiles: two numbers, 0 to 100.

    Returns:
        (H, W, C) float32, not clipped; a channel of one value is 0.
    """
    return stretched_between(pixels, limits_of(pixels, percentiles))


def limits_of(pixels: np.ndarray, percentiles: Sequence[float]) -> "list[tuple[float, float]]":
    """What becomes 0 and 255 of each channel: two of its percentiles.

    Source: CSBDeep's ``normalize`` (Weigert et al. 2018), which StarDist uses with 1 and 99.8, to 0
    and 1. Deviates: to 0 and 255, the unit of ``MODEL.PIXEL_MEAN``; where both percentiles are the
    same value, as with a few bright pixels on a ground of 0, the extremes stand in for them.

    Args:
        pixels, percentiles: of :func:`stretched`.
    """
    limits = []
    for index in range(pixels.shape[2]):
        channel = pixels[:, :, index]
        low, high = _percentiles_of(channel, percentiles)
        if low == high:
            low, high = float(channel.min()), float(channel.max())
        limits.append((float(low), float(high)))
    return limits


def stretched_between(pixels: np.ndarray, limits: "Sequence[tuple[float, float]]") -> np.ndarray:
    """Bring the limits of each channel to 0 and 255.

    Args:
        pixels: (h, w, C), of which any part of an image will do.
        limits: of :func:`limits_of` of the whole image.

    Returns:
        (h, w, C) float32, not clipped; a channel whose limits are one value is 0.
    """
    result = np.zeros(pixels.shape, np.float32)
    for index, (low, high) in enumerate(limits):
        if low < high:
            channel = pixels[:, :, index].astype(np.float64)
            result[:, :, index] = (channel - low) * (255 / (high - low))
    return result


def _percentiles_of(channel: np.ndarray, percentiles: Sequence[float]) -> np.ndarray:
    """As ``np.percentile``; values of 8 and 16 bits are counted, which takes no copy of them."""
    if channel.dtype not in (np.uint8, np.uint16) or not channel.size:
        return np.percentile(channel, percentiles)
    counts = np.zeros(np.iinfo(channel.dtype).max + 1, np.int64)
    rows = max(1, COUNTED // channel.shape[1])
    for top in range(0, len(channel), rows):
        counts += np.bincount(channel[top : top + rows].ravel(), minlength=len(counts))
    places = np.asarray(percentiles, float) / 100 * (channel.size - 1)
    below = np.floor(places).astype(np.int64)
    ends = np.cumsum(counts)
    lower = np.searchsorted(ends, below, side="right")
    upper = np.searchsorted(ends, np.minimum(below + 1, channel.size - 1), side="right")
    return lower + (upper - lower) * (places - below)
