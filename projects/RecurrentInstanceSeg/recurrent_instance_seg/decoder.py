"""Decoders: features of an image in, at every step a mask, class scores and a stop score out.

Both have the same two methods: ``prepare`` computes once an image what all steps share, ``forward``
makes one step.

Shape shorthand in this module:
    B: images in the batch   L: levels of the pyramid, coarsest first   H, W: padded network input
    h, w: grid of the masks   C: classes
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Optional

import torch
from detectron2.layers import Conv2d, get_norm
from torch import nn
from torch.nn import functional as F

from . import attention as point_attention
from .attention import PointAttention
from .conv_lstm import ConvLSTMCell
from .guide import MAPS, Guide, maps_of
from .inhibition import SpatialInhibition

# Of the masks so far, one channel among a hundred: at its own size hardly heard for long.
MEMORY_GAIN = 8.0


class Step(NamedTuple):
    """What a decoder says at one step, all float.

    ``masks`` (B, h, w) logits; ``classes`` (B, C) logits; ``stop`` (B,) logits, above 0 there is an
    object at this step; ``coarse``: auxiliary mask logits (B, h_l, w_l), coarsest first;
    ``boxes`` (B, 4) or None: corners x, y, x, y as fractions of the padded input; ``attention``
    (B, h_l, w_l) or None: scores of the points that the step could look at.
    """

    masks: torch.Tensor
    classes: torch.Tensor
    stop: torch.Tensor
    coarse: tuple = ()
    boxes: Optional[torch.Tensor] = None
    attention: Optional[torch.Tensor] = None


@dataclass(frozen=True)
class Prepared:
    """What all steps share.

    ``gates``: per cell the constant part of its gates; ``skips``: per level (B, c, h_l, w_l)
    projected features; ``inside``: per level (B, h_l, w_l) bool, not padding; ``mask_inside``: the
    same on the grid of the masks; ``guide``: of :class:`Guide`, or None; ``focus``: of
    :meth:`PointAttention.prepare`, or None.
    """

    gates: list
    skips: list
    inside: list
    mask_inside: torch.Tensor
    guide: Optional[torch.Tensor] = None
    focus: Optional[torch.Tensor] = None


class RSISDecoder(nn.Module):
    """A ConvLSTM at every level of a pyramid, coarse to fine.

    Every cell reads the upsampled hidden state of the coarser cell and the projected features of
    its level. The finest hidden state, twice enlarged, gives the mask; the global maxima of all
    hidden states give class and stop scores.

    Source: Salvador et al. 2018 (Recurrent Neural Networks for Semantic Instance Segmentation),
    section 3.1; the form of its released code (3 x 3 mask convolution, no box head).
    Deviates: as many levels as there are features; no class for "end of sequence", which the loss
    never asks for; padding takes no part in the maxima; larger initial weights in the cells.
    Options beyond the paper are off by default.

    Args:
        in_channels (list[int]): of the features, coarsest first.
        hidden_channels (list[int]): of the cells, coarsest first.
        num_classes (int): C.
        stride (int): of the finest level, pixels of the network input.
        norm (str): after the projections, a name that :func:`norm_of` knows.
        kernel_size (int): of the cells.
        forget_bias (float): of the cells' forget gates before training.
        inhibition_bias (float or None): of a :class:`SpatialInhibition` on the mask; None: none.
        return_inhibition, inhibition_gain (float): of the same; with a handicap above 0 it reads
            the masks so far.
        feedback (bool): every cell sees the masks so far.
        coordinates (bool): every cell sees x and y, -1 to 1 over the image.
        coarse_masks (bool): auxiliary masks from all cells but the finest.
        mask_pooling (bool): classes also see the features' mean under the mask.
        box_head (bool): predict boxes from the maxima, as the paper's later versions.
        stop_bias (float): of the stop score before training.
        guide_unit (float or None): learn dense maps of classes and centres, which every cell sees,
            offsets in units of so many pixels of the network input; None: none.
        votes (bool): add the guide's mean class logits under the mask to the step's, with
            ``mask_pooling``.
        attention (bool): a :class:`PointAttention` at the finest cell, with a guide; takes
            ``return_inhibition`` and ``inhibition_gain``, too.
    """

    def __init__(
        self, in_channels, hidden_channels, num_classes, stride, norm="BN", kernel_size=3,
        forget_bias=0.0, inhibition_bias=None, return_inhibition=0.0, inhibition_gain=1.0,
        feedback=False,
        coordinates=False, coarse_masks=False, mask_pooling=False, box_head=False, stop_bias=0.0,
        guide_unit=None, votes=False, attention=False,
    ):  # fmt: skip
        super().__init__()
        self.mask_stride = stride // 2
        self.feedback = feedback
        self.coordinates = coordinates
        self.mask_pooling = mask_pooling
        self.guide = _guide(in_channels[-1], num_classes, stride, norm, guide_unit)
        self.votes = votes and mask_pooling and self.guide is not None
        self.attention = None
        if attention:
            self.attention = PointAttention(hidden_channels[-2], return_inhibition, inhibition_gain)
        extra = 2 * coordinates + MAPS * (self.guide is not None)
        # A level's features are as wide as the hidden state that comes from above.
        skip_channels = [hidden_channels[0], *hidden_channels[:-1]]
        self.project = nn.ModuleList(
            _projection(a, b, norm) for a, b in zip(in_channels, skip_channels)
        )
        above = [0, *hidden_channels[:-1]]
        lit = [0] * len(above[1:]) + [point_attention.MAPS * attention]
        self.cells = nn.ModuleList(
            ConvLSTMCell(skip + extra, up + feedback + spot, d, kernel_size, (0, forget_bias, 0))
            for skip, up, spot, d in zip(skip_channels, above, lit, hidden_channels)
        )
        self.mask = nn.Conv2d(hidden_channels[-1], 1, kernel_size=3, padding=1)
        self.inhibition = None
        if inhibition_bias is not None:
            self.inhibition = SpatialInhibition(inhibition_bias, return_inhibition, inhibition_gain)
        self.coarse = nn.ModuleList(
            nn.Conv2d(d, 1, kernel_size=1) for d in hidden_channels[:-1] if coarse_masks
        )
        pooled = sum(hidden_channels)
        self.classes = nn.Linear(pooled + mask_pooling * sum(skip_channels), num_classes)
        self.stop = nn.Linear(pooled, 1)
        nn.init.constant_(self.stop.bias, stop_bias)
        self.boxes = nn.Linear(pooled, 4) if box_head else None

    def prepare(self, features, image_sizes, padded_size):
        """
        Args:
            features (list[Tensor]): (B, C_l, h_l, w_l) float, coarsest first.
            image_sizes (list[tuple[int, int]]): height and width of each image without padding.
            padded_size (tuple[int, int]): (H, W).

        Returns:
            Prepared
        """
        skips = [project(x) for project, x in zip(self.project, features)]
        sizes = [x.shape[-2:] for x in skips]
        inside = [inside_image(image_sizes, padded_size, size, skips[0].device) for size in sizes]
        guide = None if self.guide is None else self.guide(features[-1])
        extra = self._extra(skips[-1], guide, image_sizes, padded_size)
        constant = [_beside(skip, extra) for skip in skips]
        gates = [cell.prepare(x) for cell, x in zip(self.cells, constant)]
        grid = [n // self.mask_stride for n in padded_size]
        mask_inside = inside_image(image_sizes, padded_size, grid, skips[0].device)
        focus = None
        if self.attention is not None:
            focus = self.attention.prepare(guide, self.guide.stride, self.guide.unit)
        return Prepared(gates, skips, inside, mask_inside, guide, focus)

    def _extra(self, like, guide, image_sizes, padded_size):
        """(B, c, h, w) maps beside the features on the finest grid, or None."""
        position = _positions(like, image_sizes, padded_size)
        maps = [position] if self.coordinates else []
        if guide is not None:
            maps.append(maps_of(guide, position, image_sizes, self.guide.unit))
        return torch.cat(maps, dim=1) if maps else None

    def forward(self, prepared, state=None, memory=None):
        """
        Args:
            prepared (Prepared)
            state (list[tuple[Tensor, Tensor]] or None): hidden state and cell of each level; None
                before the first step.
            memory (Tensor or None): (B, h, w) float in [0, 1], the union of the masks so far; None
                is empty. Read only with ``feedback``, ``return_inhibition`` or ``attention``.

        Returns:
            tuple[Step, list]: the step, and the new state.
        """
        states, scores, spot = [], None, None
        for level, (cell, gates) in enumerate(zip(self.cells, prepared.gates)):
            size = gates.shape[-2:]
            inputs = [_enlarge(states[-1][0], size)] if states else []
            looks = prepared.focus is not None and level == len(self.cells) - 1
            found = _memory_at(memory, gates) if self.feedback or looks else None
            if self.feedback:
                inputs.append(found * MEMORY_GAIN)
            if looks:
                scores, spot = self.attention(
                    states[-1][0], prepared.focus, prepared.inside[-1], found[:, 0]
                )
                inputs.append(spot.to(gates.dtype) * point_attention.GAIN)
            states.append(cell(gates, inputs, state[level] if state else None))
        hidden = [h for h, _ in states]
        grid = prepared.mask_inside.shape[-2:]
        masks = convolve_enlarged(self.mask, hidden[-1], grid)
        if spot is not None:
            masks = masks + self.attention.mask_logits(_enlarge(spot[:, :1], grid)[:, 0])
        if self.inhibition is not None:
            masks = self.inhibition(masks, prepared.mask_inside, memory)
        maxima = torch.cat([_maximum(h, i) for h, i in zip(hidden, prepared.inside)], dim=1)
        step = Step(
            masks,
            _classes(self, prepared, masks, maxima),
            self.stop(maxima)[:, 0],
            tuple(conv(h)[:, 0] for conv, h in zip(self.coarse, hidden)),
            None if self.boxes is None else torch.sigmoid(self.boxes(maxima)),
            scores,
        )
        return step, states


class RISDecoder(nn.Module):
    """A stack of ConvLSTMs on one feature map, spatial inhibition, and a confidence.

    Source: Romera-Paredes & Torr 2016 (Recurrent Instance Segmentation), section 3; widths, biases
    and the pooled confidence as in its released code.
    Deviates: class scores beside the confidence, so that it is not a model of one class.

    Args:
        in_channels (int): of the feature map.
        hidden_channels (list[int]): of the cells, first to last.
        num_classes (int): C.
        stride (int): of the feature map, pixels of the network input.
        norm (str): after the projection, a name that :func:`norm_of` knows.
        kernel_size (int): of the cells.
        gate_bias (float): of input, forget and output gates before training.
        inhibition_bias (float): before training.
        inhibition_gain (float): of the logits that compete.
        stop_bias (float): before training.
        mask_pooling (bool): classes also see the features' mean under the mask.
        guide_unit (float or None), votes (bool): as in :class:`RSISDecoder`; the first cell sees
            the maps.
    """

    def __init__(
        self, in_channels, hidden_channels, num_classes, stride, norm="", kernel_size=3,
        gate_bias=1.0, inhibition_bias=1.0, inhibition_gain=1.0, stop_bias=10.0,
        mask_pooling=False, guide_unit=None, votes=False,
    ):  # fmt: skip
        super().__init__()
        self.mask_stride = stride
        self.guide = _guide(in_channels, num_classes, stride, norm, guide_unit)
        self.votes = votes and mask_pooling and self.guide is not None
        self.project = _projection(in_channels, hidden_channels[0], norm)
        first = hidden_channels[0] + MAPS * (self.guide is not None)
        constant = [first] + [0] * len(hidden_channels[1:])
        below = [0, *hidden_channels[:-1]]
        self.cells = nn.ModuleList(
            ConvLSTMCell(*channels, kernel_size, (gate_bias,) * 3)
            for channels in zip(constant, below, hidden_channels)
        )
        self.mask = nn.Conv2d(hidden_channels[-1], 1, kernel_size=1)
        self.inhibition = SpatialInhibition(inhibition_bias, gain=inhibition_gain)
        self.mask_pooling = mask_pooling
        described = 4 * hidden_channels[-1] + mask_pooling * hidden_channels[0]
        self.classes = nn.Linear(described, num_classes)
        self.stop = nn.Linear(4 * hidden_channels[-1], 1)
        nn.init.constant_(self.stop.bias, stop_bias)

    def prepare(self, features, image_sizes, padded_size):
        """As :meth:`RSISDecoder.prepare`, of one feature map."""
        skip = F.relu(self.project(features[0]))
        inside = inside_image(image_sizes, padded_size, skip.shape[-2:], skip.device)
        guide = extra = None
        if self.guide is not None:
            guide = self.guide(features[0])
            position = _positions(skip, image_sizes, padded_size)
            extra = maps_of(guide, position, image_sizes, self.guide.unit)
        gates = [self.cells[0].prepare(_beside(skip, extra))] + [None] * len(self.cells[1:])
        return Prepared(gates, [skip], [inside], inside, guide)

    def forward(self, prepared, state=None, memory=None):
        """As :meth:`RSISDecoder.forward`; ``memory`` is not read."""
        states = []
        for layer, (cell, gates) in enumerate(zip(self.cells, prepared.gates)):
            inputs = [states[-1][0]] if states else []
            states.append(cell(gates, inputs, state[layer] if state else None))
        hidden = states[-1][0]
        masks = self.inhibition(self.mask(hidden)[:, 0], prepared.mask_inside)
        pooled = torch.stack(
            [_quarters(x, inside) for x, inside in zip(hidden, prepared.mask_inside)]
        )
        classes = _classes(self, prepared, masks, pooled)
        return Step(masks, classes, self.stop(pooled)[:, 0]), states


def convolve_enlarged(conv, x, size):
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
    taps = F.pad(_enlarge(F.conv2d(x, kernel), size), (1, 1, 1, 1))
    height, width = size
    shifted = [
        taps[:, 3 * dy + dx, dy : dy + height, dx : dx + width]
        for dy in range(3)
        for dx in range(3)
    ]
    return sum(shifted) + conv.bias


def norm_of(name, channels):
    """A normalisation that fits few channels.

    Args:
        name (str): of ``detectron2.layers.get_norm``; "GN" has a group for 8 channels here (more,
            where 8 does not divide), stock has 32 groups whatever the number of channels.
        channels (int)

    Returns:
        nn.Module or None
    """
    if name == "GN":
        return nn.GroupNorm(math.gcd(max(channels // 8, 1), channels), channels)
    return get_norm(name, channels)


def inside_image(image_sizes, padded_size, size, device=None):
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
    for axis in (0, 1):
        start = torch.arange(size[axis], device=device) * (padded_size[axis] / size[axis])
        extent = torch.tensor([s[axis] for s in image_sizes], device=device)
        axes.append(start < extent[:, None])
    return axes[0][:, :, None] & axes[1][:, None, :]


def _positions(x, image_sizes, padded_size):
    """(B, 2, h, w): x and y of the cells of a (B, c, h, w) map, -1 to 1 over each image."""
    height, width = x.shape[-2:]
    rows = (torch.arange(height, device=x.device) + 0.5) * (padded_size[0] / height)
    columns = (torch.arange(width, device=x.device) + 0.5) * (padded_size[1] / width)
    sizes = torch.tensor(image_sizes, dtype=torch.float32, device=x.device)
    y = 2 * rows / sizes[:, :1] - 1
    x = 2 * columns / sizes[:, 1:] - 1
    return torch.stack(
        [x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=1
    )


def _memory_at(memory, like):
    """(B, 1, h_l, w_l): the masks so far on a level's grid."""
    size = like.shape[-2:]
    if memory is None:
        return like.new_zeros(len(like), 1, *size)
    return F.adaptive_avg_pool2d(memory[:, None].to(like.dtype), size)


def _maximum(hidden, inside):
    """(B, D) global maxima over the cells on the image."""
    return hidden.masked_fill(~inside[:, None], -torch.inf).flatten(2).amax(dim=2)


def _quarters(hidden, inside):
    """(4 D,) maxima over the quarters of one image, without its padding."""
    height, width = int(inside.any(1).sum()), int(inside.any(0).sum())
    return F.adaptive_max_pool2d(hidden[:, :height, :width], 2).flatten()


def _own(masks, prepared):
    """(B, h, w) probabilities of a step's mask on the image, through which nothing is learned."""
    return torch.sigmoid(masks.detach()) * prepared.mask_inside


def _means_under(masks, features):
    """(B, sum of c) means of every level's features weighted by (B, h, w) probabilities."""
    means = []
    for x in features:
        weights = F.adaptive_avg_pool2d(masks[:, None], x.shape[-2:]).flatten(1)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
        means.append(torch.einsum("bcp,bp->bc", x.flatten(2), weights.to(x.dtype)))
    return torch.cat(means, dim=1)


def _classes(decoder, prepared, masks, pooled):
    """(B, C) logits of a step from (B, D) pooled states and, with ``mask_pooling``, its mask."""
    if not decoder.mask_pooling:
        return decoder.classes(pooled)
    own = _own(masks, prepared)
    under = _means_under(own, prepared.skips)
    classes = decoder.classes(torch.cat([pooled, under], dim=1))
    if decoder.votes:
        classes = classes + _means_under(own, [prepared.guide[:, :-3]])
    return classes


def _guide(in_channels, num_classes, stride, norm, unit):
    """A :class:`Guide` with 32 hidden channels, or None without a unit."""
    if unit is None:
        return None
    return Guide(in_channels, 32, num_classes, stride, norm_of(norm, 32), unit)


def _beside(skip, extra):
    """(B, c, h, w) features and, beside them, further maps brought to their grid; None: none."""
    if extra is None:
        return skip
    extra = F.adaptive_avg_pool2d(extra.to(skip.dtype), skip.shape[-2:])
    return torch.cat([skip, extra], dim=1)


def _projection(in_channels, out_channels, norm):
    """3 x 3 convolution and normalisation, linear."""
    return Conv2d(
        in_channels, out_channels, kernel_size=3, padding=1, bias=not norm,
        norm=norm_of(norm, out_channels),
    )  # fmt: skip


def _enlarge(x, size):
    if x.shape[-2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
