"""What the decoders share: their interface, and the parts that more than one of them has.

Shape shorthand in this module:
    B: images in the batch   L: levels that are read, coarsest first   H, W: padded network input
    h, w: grid of the masks   C: classes   D: hidden channels
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

import torch
from detectron2.layers import Conv2d, get_norm
from torch import Tensor, nn
from torch.nn import functional as F

from instance_seg_common.meta_arch import ImageSizes

from ..targets import Targets

State = list[tuple[Tensor, Tensor]]  # hidden state and cell of every ConvLSTM
Size = tuple[int, int]  # height and width


class Step(NamedTuple):
    """What a decoder says at one step, all float.

    ``masks`` (B, h, w) logits; ``classes`` (B, C) logits; ``stop`` (B,) logits, above 0 there is an
    object at this step; ``attention`` (B, h_l, w_l) or None: scores of the points that the step
    could look at.
    """

    masks: Tensor
    classes: Tensor
    stop: Tensor
    attention: Optional[Tensor] = None


@dataclass(frozen=True)
class Prepared:
    """What all steps share.

    ``gates``: the constant part of the gates of each cell that has one, the first cells;
    ``inside``: per level (B, h_l, w_l) bool, not padding; ``mask_inside``: the same on the grid of
    the masks.
    """

    gates: "list[Tensor]"
    inside: "list[Tensor]"
    mask_inside: Tensor


class Decoder(nn.Module):
    """The interface of the decoders: features of an image in, at every step an object out.

    Args:
        num_classes (int): C.
        mask_stride (int): of the grid of the masks, pixels of the network input.
    """

    def __init__(self, num_classes: int, mask_stride: int):
        super().__init__()
        self.num_classes = num_classes
        self.mask_stride = mask_stride

    def prepare(
        self, features: Sequence[Tensor], image_sizes: ImageSizes, padded_size: Size
    ) -> Prepared:
        """Compute once an image what all steps share.

        Args:
            features (list[Tensor]): (B, C_l, h_l, w_l) float, coarsest first.
            image_sizes (list[tuple[int, int]]): height and width of each image without padding.
            padded_size (tuple[int, int]): (H, W).
        """
        raise NotImplementedError

    def forward(
        self, prepared: Prepared, state: Optional[State] = None, memory: Optional[Tensor] = None
    ) -> "tuple[Step, State]":
        """Make one step.

        Args:
            prepared (Prepared): of :meth:`prepare`.
            state (list[tuple[Tensor, Tensor]] or None): hidden state and cell of each ConvLSTM;
                None before the first step.
            memory (Tensor or None): (B, h, w) float in [0, 1], the union of the masks so far; None
                is empty. Not every decoder reads it.

        Returns:
            tuple[Step, list]: the step, and the new state.
        """
        raise NotImplementedError

    def auxiliary_losses(self, prepared: Prepared, targets: Targets) -> "dict[str, Tensor]":
        """Losses of what was prepared, in training.

        Args:
            prepared (Prepared): of :meth:`prepare`.
            targets (Targets): all instances, at stride 1.

        Returns:
            dict[str, Tensor]: weighted scalars by name; empty for a decoder that has none.
        """
        return {}


def projection(in_channels: int, out_channels: int, norm: str) -> Conv2d:
    """3 x 3 convolution and normalisation, linear; ``norm`` as in :func:`norm_of`."""
    return Conv2d(
        in_channels, out_channels, kernel_size=3, padding=1, bias=not norm,
        norm=norm_of(norm, out_channels),
    )  # fmt: skip


def skip_widths(hidden_channels: Sequence[int]) -> "list[int]":
    """Channels of the projected features of each level of a pyramid of ConvLSTMs.

    A level's features are as wide as the hidden state that comes from above.

    Args:
        hidden_channels (sequence[int]): of the cells, coarsest first.
    """
    return [hidden_channels[0], *hidden_channels[:-1]]


def norm_of(name: str, channels: int) -> Optional[nn.Module]:
    """A normalisation that fits few channels.

    Args:
        name (str): of ``detectron2.layers.get_norm``; "GN" has a group for 8 channels here (more,
            where 8 does not divide), stock has 32 groups whatever the number of channels.
        channels (int)
    """
    if name == "GN":
        return nn.GroupNorm(math.gcd(max(channels // 8, 1), channels), channels)
    return get_norm(name, channels)


def enlarge(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, c, h, w) bilinearly at another size, (B, c, *size)."""
    if x.shape[-2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def convolve_enlarged(conv: nn.Conv2d, x: Tensor, size: Sequence[int]) -> Tensor:
    """``conv(enlarged x)`` of one output channel, without convolving at the large size.

    Every tap of the kernel weights channels, which commutes with the enlargement: the taps are
    computed on the small map, enlarged, shifted and added.

    Args:
        conv (nn.Conv2d): D to 1 channels, 3 x 3, padding 1.
        x (Tensor): (B, D, h, w) float.
        size (tuple[int, int]): to which x is enlarged (bilinear) before the convolution.

    Returns:
        Tensor: (B, *size) float.
    """
    kernel = conv.weight[0].flatten(1).t()[:, :, None, None]  # (9, D, 1, 1), rows first
    taps = F.pad(enlarge(F.conv2d(x, kernel), size), (1, 1, 1, 1))
    height, width = size
    shifted = [
        taps[:, 3 * dy + dx, dy : dy + height, dx : dx + width]
        for dy in range(3)
        for dx in range(3)
    ]
    return sum(shifted) + conv.get_parameter("bias")


def inside_image(
    image_sizes: ImageSizes,
    padded_size: Size,
    size: Sequence[int],
    *,
    device: Optional[torch.device] = None,
) -> Tensor:
    """Cells of a grid over the padded input that lie on the image.

    Args:
        image_sizes (list[tuple[int, int]]): height and width of each image without padding.
        padded_size (tuple[int, int]): (H, W).
        size (tuple[int, int]): cells of the grid.
        device (torch.device or None)

    Returns:
        Tensor: (B, *size) bool: at least a part of the cell is on the image.
    """
    axes = []
    extent = torch.as_tensor(image_sizes, device=device)
    for axis in (0, 1):
        # In integers: a cell begins at its number times padded_size / size.
        start = torch.arange(size[axis], device=device) * padded_size[axis]
        axes.append(start < extent[:, axis, None] * size[axis])
    return axes[0][:, :, None] & axes[1][:, None, :]


def inside_levels(
    maps: Sequence[Tensor],
    image_sizes: ImageSizes,
    padded_size: Size,
    *,
    mask_stride: int,
) -> "tuple[list[Tensor], Tensor]":
    """:func:`inside_image` for the grids of maps and for that of the masks.

    Args:
        maps (sequence[Tensor]): (B, c, h_l, w_l) of each level.
        image_sizes, padded_size: of :meth:`Decoder.prepare`.
        mask_stride (int)

    Returns:
        tuple[list[Tensor], Tensor]: ``inside`` and ``mask_inside`` of :class:`Prepared`.
    """
    device = maps[0].device
    grid = [n // mask_stride for n in padded_size]
    *inside, mask_inside = (
        inside_image(image_sizes, padded_size, size, device=device)
        for size in (*(x.shape[-2:] for x in maps), grid)
    )
    return inside, mask_inside


def maxima(hidden: Sequence[Tensor], inside: Sequence[Tensor]) -> Tensor:
    """Global maxima of the hidden states over the cells on the image.

    Args:
        hidden (sequence[Tensor]): (B, D_l, h_l, w_l) float of each level.
        inside (sequence[Tensor]): (B, h_l, w_l) bool of each level.

    Returns:
        Tensor: (B, sum of D_l) float.
    """
    pooled = [
        x.masked_fill(~own[:, None], -torch.inf).flatten(2).amax(dim=2)
        for x, own in zip(hidden, inside)
    ]
    return torch.cat(pooled, dim=1)
