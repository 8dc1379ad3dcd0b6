"""Means over groups of pixels, which losses, clustering and inference share."""

import torch


def at_least_float32(x):
    """The tensor, in float32 where its precision is lower."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def segment_mean(values, segments, num_segments):
    """Mean of the values of each segment.

    Args:
        values (Tensor): (P,) or (P, E) float.
        segments (Tensor): (P,) int64, 0 to num_segments - 1.
        num_segments (int)

    Returns:
        Tensor: (num_segments,) or (num_segments, E); 0 for a segment without values.
    """
    counts = torch.bincount(segments, minlength=num_segments).clamp(min=1).to(values.dtype)
    index = segments if values.dim() == 1 else segments[:, None].expand(-1, values.shape[1])
    sums = values.new_zeros(num_segments, *values.shape[1:]).scatter_add(0, index, values)
    return sums / counts.reshape(-1, *[1] * (values.dim() - 1))
