"""RSIS: a ConvLSTM at every level of a pyramid, as its paper and released code have it.

Shape shorthand in this module:
    B: images in the batch   L: levels of the pyramid, coarsest first   C: classes
"""

from collections.abc import Sequence
from typing import Optional

from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.nn import functional as F

from instance_seg_common.meta_arch import ImageSizes

from ..conv_lstm import ConvLSTMCell, prepare_cells
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


class RSISDecoder(Decoder):
    """A ConvLSTM at every level of a pyramid, coarse to fine.

    Every cell reads the upsampled hidden state of the coarser cell and the projected features of
    its level. The finest hidden state, twice enlarged, gives the mask; the global maxima of all
    hidden states give class and stop scores. The states alone remember what was found.

    Source: Salvador et al. 2018 (Recurrent Neural Networks for Semantic Instance Segmentation),
    section 3.1; the form of its released code (3 x 3 mask convolution, no box head).
    Deviates: as many levels as there are features; no class for "end of sequence", which the loss
    never asks for; padding takes no part in the maxima; larger initial weights in the cells;
    bilinear enlargement without aligned corners.

    Args:
        in_channels (list[int]): of the features, coarsest first.
        hidden_channels (list[int]): of the cells, coarsest first.
        num_classes (int): C.
        stride (int): of the finest level, pixels of the network input.
        norm (str): after the projections, a name that :func:`parts.norm_of` knows.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        hidden_channels: Sequence[int],
        num_classes: int,
        *,
        stride: int,
        norm: str = "BN",
    ):
        super().__init__(num_classes, stride // 2)
        skips, above = skip_widths(hidden_channels), [0, *hidden_channels[:-1]]
        self.project = nn.ModuleList(projection(a, b, norm) for a, b in zip(in_channels, skips))
        self.cells = nn.ModuleList(map(ConvLSTMCell, skips, above, hidden_channels))
        self.mask = nn.Conv2d(hidden_channels[-1], 1, kernel_size=3, padding=1)
        self.classes = nn.Linear(sum(hidden_channels), num_classes)
        self.stop = nn.Linear(sum(hidden_channels), 1)
        nn.init.zeros_(self.stop.bias)

    def prepare(
        self, features: Sequence[Tensor], image_sizes: ImageSizes, padded_size: Size
    ) -> Prepared:
        """As :meth:`parts.Decoder.prepare`."""
        skips = [project(x) for project, x in zip(self.project, features)]
        inside = inside_levels(skips, image_sizes, padded_size, mask_stride=self.mask_stride)
        return Prepared(prepare_cells(self.cells, skips), *inside)

    def forward(
        self, prepared: Prepared, state: Optional[State] = None, memory: Optional[Tensor] = None
    ) -> "tuple[Step, State]":
        """As :meth:`parts.Decoder.forward`; ``memory`` is not read."""
        states = []
        for level, (cell, gates) in enumerate(zip(self.cells, prepared.gates)):
            inputs = [enlarge(states[-1][0], gates.shape[-2:])] if states else []
            states.append(cell(gates, inputs, state[level] if state else None))
        hidden = [h for h, _ in states]
        masks = convolve_enlarged(self.mask, hidden[-1], prepared.mask_inside.shape[-2:])
        pooled = maxima(hidden, prepared.inside)
        return Step(masks, self.classes(pooled), self.stop(pooled)[:, 0]), states


def detail_level(in_channels: int, channels: int, norm: str) -> Conv2d:
    """One convolution from the image to a level of stride 2.

    It stands in for the first convolution of a ResNet, which RSIS's released code reads:
    Detectron2 gives its result out only after pooling.

    Args:
        in_channels (int): of the image.
        channels (int): of the level.
        norm (str): a name that :func:`parts.norm_of` knows.
    """
    return Conv2d(
        in_channels, channels, kernel_size=7, stride=2, padding=3, bias=not norm,
        norm=norm_of(norm, channels), activation=F.relu,
    )  # fmt: skip
