"""What losses, clustering and grouping share: precision, cells of the grid, means over groups."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def without_autocast(function: Function) -> Function:
    """The function of embeddings, without gradients and in the precision of its own choice."""

    @functools.wraps(function)
    def wrapped(embeddings: Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
            return function(embeddings, *args, **kwargs)

    return cast(Function, wrapped)


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor, in float32 where its precision is lower."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def grid_cells(pixels: Tensor, stride: int) -> Tensor:
    """The pixels of (..., H, W) at the centres of the cells of the network's grid: (..., h, w)."""
    return pixels[..., stride // 2 :: stride, stride // 2 :: stride]


def segment_mean(values: Tensor, segments: Tensor, num_segments: int) -> Tensor:
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
