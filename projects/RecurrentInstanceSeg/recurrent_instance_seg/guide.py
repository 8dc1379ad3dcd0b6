"""Dense maps that help to tell objects apart: classes, and where the own object's centre is.

They give the encoder a signal at every pixel from the first iteration on, long before the masks of
single steps do, and the ConvLSTMs read them: pixels that point to one centre are one object.

Source: Ren & Zemel 2017 (End-to-End Instance Segmentation with Recurrent Attention), whose
recurrent network reads foreground and angles towards the objects' centres, learned likewise.
Deviates: offsets in place of angles, classes in place of foreground, learned together.

Shape shorthand in this module:
    B: images in the batch   C: classes without background   h, w: the guide's grid
"""

from typing import Optional

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.nn import functional as F

from instance_seg_common.meta_arch import ImageSizes

from .targets import Targets, centers_of_mass

MAPS = 5  # channels of `maps_of`


class Guide(nn.Module):
    """Class logits and offsets from a feature map.

    Args:
        in_channels (int): of the feature map.
        channels (int): of the hidden layer.
        num_classes (int): C.
        stride (int): of the feature map, pixels of the network input.
        norm (nn.Module or None): of the hidden layer.
        unit (float): pixels of the network input that make an offset of 1.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_classes: int,
        *,
        stride: int,
        norm: Optional[nn.Module],
        unit: float,
    ):
        super().__init__()
        self.stride = stride
        self.unit = unit
        self.hidden = Conv2d(
            in_channels, channels, kernel_size=3, padding=1, bias=norm is None, norm=norm,
            activation=F.relu,
        )  # fmt: skip
        self.last = nn.Conv2d(channels, num_classes + 1 + 2, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, C + 3, h, w) float: logits of the classes and, after them,
        of background; offsets x and y to the centre of the own object, in units."""
        return self.last(self.hidden(features))


def foreground_of(raw: Tensor) -> Tensor:
    """(B, C + 3, h, w) of :class:`Guide` -> (B, 1, h, w): probability of an object of any class."""
    return 1 - raw[:, :-2].softmax(dim=1)[:, -1:]


def maps_of(raw: Tensor, positions: Tensor, *, sizes: ImageSizes, unit: float) -> Tensor:
    """What the ConvLSTMs read.

    Args:
        raw (Tensor): (B, C + 3, h, w) of :class:`Guide`; no gradient flows back.
        positions (Tensor): (B, 2, h, w) x and y of the cells, -1 to 1 over each image.
        sizes: height and width of each image, pixels.
        unit (float): pixels of an offset of 1.

    Returns:
        Tensor: (B, MAPS, h, w): probability of an object, its offsets, and its centre in the
        units of ``positions``; all but the first 0 on background.
    """
    raw = raw.detach()
    foreground = foreground_of(raw)
    offsets = raw[:, -2:]
    extent = torch.as_tensor(sizes, dtype=raw.dtype, device=raw.device).flip(1)
    centers = positions + 2 * unit * offsets / extent[:, :, None, None]
    return torch.cat([foreground, foreground * offsets, foreground * centers], dim=1)


def guide_loss(raw: Tensor, targets: Targets, *, stride: int, unit: float) -> Tensor:
    """Cross-entropy of the classes, and distance of the offsets.

    Args:
        raw (Tensor): (B, C + 3, h, w) of :class:`Guide`.
        targets (Targets): at stride 1.
        stride (int): of the guide's grid.
        unit (float): pixels of the network input that make an offset of 1.

    Returns:
        Tensor: scalar: mean cross-entropy over the valid cells plus mean smooth L1 distance over
        the cells of objects.
    """
    level = targets.at(stride)
    classes, offsets = guide_targets(level, raw.shape[1] - 3)
    entropy = F.cross_entropy(raw[:, :-2].float(), classes, reduction="none") * level.valid
    distance = F.smooth_l1_loss(raw[:, -2:].float(), offsets * (stride / unit), reduction="none")
    owned = level.valid & (classes < raw.shape[1] - 3)
    return entropy.sum() / level.valid.sum().clamp(min=1) + (
        distance.sum(dim=1) * owned
    ).sum() / owned.sum().clamp(min=1)


def vote_loss(raw: Tensor, targets: Targets, *, stride: int) -> Tensor:
    """Cross-entropy of the classes that all cells of an instance vote together.

    A class that is a matter of the whole outline is hardly learned cell by cell.

    Args:
        raw, targets, stride: as in :func:`guide_loss`.

    Returns:
        Tensor: scalar, mean over the instances; 0, still in the graph, without any.
    """
    level = targets.at(stride)
    logits = raw[:, :-3].float().flatten(2)
    weights = (level.masks * level.valid[:, None]).flatten(2)
    area = weights.sum(dim=2)
    exists = area > 0
    if not exists.any():
        return logits.sum() * 0
    votes = torch.einsum("bcp,bkp->bkc", logits, weights)[exists] / area[exists][:, None]
    return F.cross_entropy(votes, level.classes[exists])


def guide_targets(level: Targets, num_classes: int) -> "tuple[Tensor, Tensor]":
    """Class of every cell, and offset to the centre of mass of its instance.

    Args:
        level (Targets): on the guide's grid.
        num_classes (int): C, the class of background.

    Returns:
        tuple[Tensor, Tensor]: (B, h, w) int64; (B, 2, h, w) float, x and y in cells, 0 on
        background.
    """
    masks = level.masks
    batch, count, height, width = masks.shape
    if count == 0:
        shape = (batch, height, width)
        classes = torch.full(shape, num_classes, device=masks.device)
        return classes, masks.new_zeros(batch, 2, height, width)
    share, owner = masks.max(dim=1)
    owned = share >= 0.5
    centers = centers_of_mass(masks).transpose(1, 2)  # (B, 2, K)
    y, x = (torch.arange(n, device=masks.device).to(masks) for n in (height, width))
    index = owner.flatten(1)[:, None].expand(-1, 2, -1)
    own = centers.gather(2, index).unflatten(2, (height, width))
    here = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    classes = level.classes.gather(1, owner.flatten(1)).unflatten(1, (height, width))
    return torch.where(owned, classes, num_classes), (own - here) * owned[:, None]
