"""This project's decoder: a pyramid of ConvLSTMs that is guided by dense maps and looks at points.

Shape shorthand in this module:
    B: images in the batch   H, W: padded network input   h, w: grid of the masks
    h_l, w_l: grid of a level   C: classes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instance_seg_common.meta_arch import ImageSizes

from .. import attention
from ..attention import PointAttention
from ..conv_lstm import ConvLSTMCell, prepare_cells
from ..guide import MAPS, Guide, guide_loss, maps_of, vote_loss
from ..targets import Targets
from .parts import (
    Decoder,
    Prepared,
    Size,
    State,
    Step,
    convolve_enlarged,
    enlarge,
    inside_levels,
    maxima,
    norm_of,
    projection,
    skip_widths,
)

# Of the masks so far, one channel among a hundred: at its own size hardly heard for long.
MEMORY_GAIN = 8.0
COORDINATES = 2  # channels: x and y
GUIDE_CHANNELS = 32  # of the guide's hidden layer
# Weights of the losses that teach the guide. Classes that are a matter of the whole outline are
# learned by the votes.
GUIDE_WEIGHT = 1.0
VOTE_WEIGHT = 3.0
# Weight of the position loss, which alone teaches where to look.
POSITION_WEIGHT = 1.0


@dataclass(frozen=True)
class GuidedPrepared(Prepared):
    """What all steps of a :class:`GuidedDecoder` share, beside what every decoder's do.

    ``skips``: per level (B, c, h_l, w_l) projected features; ``guide``: of :class:`guide.Guide`;
    ``focus``: of :meth:`attention.PointAttention.prepare`.
    """

    skips: "list[Tensor]"
    guide: Tensor
    focus: Tensor


class GuidedDecoder(Decoder):
    """RSIS's pyramid of ConvLSTMs, told what was found, where objects are and where to look.

    - Every cell sees the union of the masks so far, x and y, and the maps of a :class:`guide.Guide`
      of the finest features: pixels that point to one centre are one object.
    - The finest cell sees the point with the highest score, and the pixels of its object
      (:class:`attention.PointAttention`); these are also where the mask starts from.
    - The class is read from the maxima of all states and from the features under the mask, and all
      pixels under the mask vote on it by the guide's classes.

    Source: the pyramid: :class:`rsis.RSISDecoder`; masks so far: RSIS's development branch, which
    shows the last mask only; coordinates: Liu et al. 2018 (CoordConv); features and votes under the
    mask: this project.

    Args:
        in_channels (list[int]): of the features, coarsest first; two levels at least.
        hidden_channels (list[int]): of the cells, coarsest first.
        num_classes (int): C.
        stride (int): of the finest level, pixels of the network input.
        norm (str): after the projections, a name that :func:`parts.norm_of` knows.
        unit (float): pixels of the network input that make an offset of 1.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        hidden_channels: Sequence[int],
        num_classes: int,
        *,
        stride: int,
        norm: str = "GN",
        unit: float = 16.0,
    ):
        super().__init__(num_classes, stride // 2)
        self.guide = Guide(
            in_channels[-1], GUIDE_CHANNELS, num_classes,
            stride=stride, norm=norm_of(norm, GUIDE_CHANNELS), unit=unit,
        )  # fmt: skip
        self.attention = PointAttention(hidden_channels[-2])
        skips = skip_widths(hidden_channels)
        self.project = nn.ModuleList(projection(a, b, norm) for a, b in zip(in_channels, skips))
        above = [0, *hidden_channels[:-1]]
        looked_at = [0] * len(above[1:]) + [attention.MAPS]
        self.cells = nn.ModuleList(
            ConvLSTMCell(skip + COORDINATES + MAPS, up + 1 + spot, d)
            for skip, up, spot, d in zip(skips, above, looked_at, hidden_channels)
        )
        self.mask = nn.Conv2d(hidden_channels[-1], 1, kernel_size=3, padding=1)
        self.classes = nn.Linear(sum(hidden_channels) + sum(skips), num_classes)
        self.stop = nn.Linear(sum(hidden_channels), 1)
        nn.init.zeros_(self.stop.bias)

    def prepare(
        self, features: Sequence[Tensor], image_sizes: ImageSizes, padded_size: Size
    ) -> GuidedPrepared:
        """As :meth:`parts.Decoder.prepare`."""
        skips = [project(x) for project, x in zip(self.project, features)]
        guide = self.guide(features[-1])
        positions = positions_of(skips[-1], image_sizes, padded_size)
        guiding = maps_of(guide, positions, sizes=image_sizes, unit=self.guide.unit)
        maps = torch.cat([positions, guiding], dim=1)
        gates = prepare_cells(self.cells, [_beside(skip, maps) for skip in skips])
        inside, mask_inside = inside_levels(
            skips, image_sizes, padded_size, mask_stride=self.mask_stride
        )
        focus = self.attention.prepare(guide, self.guide.stride, self.guide.unit)
        return GuidedPrepared(gates, inside, mask_inside, skips=skips, guide=guide, focus=focus)

    def forward(
        self,
        prepared: GuidedPrepared,
        state: Optional[State] = None,
        memory: Optional[Tensor] = None,
    ) -> "tuple[Step, State]":
        """As :meth:`parts.Decoder.forward`."""
        so_far = [_memory_at(memory, gates) for gates in prepared.gates]
        last = state or [None] * len(self.cells)
        states: State = []
        for level in range(len(self.cells) - 1):
            inputs = _inputs(states, so_far[level])
            states.append(self.cells[level](prepared.gates[level], inputs, last[level]))
        # The finest cell also sees where the step looks.
        inputs = _inputs(states, so_far[-1])
        scores, spot = self.attention(
            states[-1][0], prepared.focus, inside=prepared.inside[-1], memory=so_far[-1][:, 0]
        )
        inputs.append(spot.to(prepared.gates[-1].dtype) * attention.MAPS_GAIN)
        states.append(self.cells[-1](prepared.gates[-1], inputs, last[-1]))
        hidden = [h for h, _ in states]
        grid = prepared.mask_inside.shape[-2:]
        masks = convolve_enlarged(self.mask, hidden[-1], grid)
        masks = masks + self.attention.mask_logits(enlarge(spot[:, :1], grid)[:, 0])
        pooled = maxima(hidden, prepared.inside)
        classes = self._classes(prepared, masks, pooled)
        return Step(masks, classes, self.stop(pooled)[:, 0], scores), states

    def _classes(self, prepared: GuidedPrepared, masks: Tensor, pooled: Tensor) -> Tensor:
        """(B, C) logits from (B, h, w) mask logits, to which they teach nothing, and (B, D) maxima
        of the states."""
        own = torch.sigmoid(masks.detach()) * prepared.mask_inside
        classes = self.classes(torch.cat([pooled, _means_under(own, prepared.skips)], dim=1))
        return classes + _means_under(own, [prepared.guide[:, :-3]])

    def auxiliary_losses(self, prepared: GuidedPrepared, targets: Targets) -> "dict[str, Tensor]":
        """As :meth:`parts.Decoder.auxiliary_losses`: those of the guide."""
        stride, unit = self.guide.stride, self.guide.unit
        dense = guide_loss(prepared.guide, targets, stride=stride, unit=unit)
        votes = vote_loss(prepared.guide, targets, stride=stride)
        return {"loss_guide": GUIDE_WEIGHT * dense, "loss_vote": VOTE_WEIGHT * votes}


def positions_of(x: Tensor, image_sizes: ImageSizes, padded_size: Size) -> Tensor:
    """(B, 2, h_l, w_l): x and y of the cells of a (B, c, h_l, w_l) map, -1 to 1 over each image."""
    height, width = x.shape[-2:]
    rows = (torch.arange(height, device=x.device) + 0.5) * (padded_size[0] // height)
    columns = (torch.arange(width, device=x.device) + 0.5) * (padded_size[1] // width)
    sizes = torch.as_tensor(image_sizes, dtype=torch.float32, device=x.device)
    y = 2 * rows / sizes[:, :1] - 1
    x = 2 * columns / sizes[:, 1:] - 1
    return torch.stack(
        [x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=1
    )


def _inputs(states: State, memory: Tensor) -> "list[Tensor]":
    """What a cell reads at a step: the hidden state from above, if there is one, and the masks so
    far (B, 1, h_l, w_l) on its grid."""
    above = [enlarge(states[-1][0], memory.shape[-2:])] if states else []
    return [*above, memory * MEMORY_GAIN]


def _beside(skip: Tensor, maps: Tensor) -> Tensor:
    """(B, c, h_l, w_l) features and, beside them, finer maps brought to their grid."""
    return torch.cat([skip, _pooled(maps.to(skip.dtype), skip)], dim=1)


def _memory_at(memory: Optional[Tensor], like: Tensor) -> Tensor:
    """(B, 1, h_l, w_l): the masks so far (B, h, w) on a level's grid; None is empty."""
    if memory is None:
        return like.new_zeros(len(like), 1, *like.shape[-2:])
    return _pooled(memory[:, None].to(like.dtype), like)


def _pooled(x: Tensor, like: Tensor) -> Tensor:
    """(B, c, h, w) means in the cells of a map (B, c', h_l, w_l) that is a whole number of times
    coarser."""
    return F.avg_pool2d(x, (x.shape[-2] // like.shape[-2], x.shape[-1] // like.shape[-1]))


def _means_under(masks: Tensor, features: Sequence[Tensor]) -> Tensor:
    """(B, sum of c) means of every level's features weighted by (B, h, w) probabilities."""
    means = []
    for x in features:
        weights = _pooled(masks[:, None], x).flatten(1)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
        means.append(torch.einsum("bcp,bp->bc", x.flatten(2), weights.to(x.dtype)))
    return torch.cat(means, dim=1)
