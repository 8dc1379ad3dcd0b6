"""RIS: a stack of ConvLSTMs on one feature map, as its paper and released code have it.

Shape shorthand in this module:
    B: images in the batch   h, w: grid of the feature map and of the masks   C: classes
    D: channels of the last hidden state
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instance_seg_common.meta_arch import ImageSizes

from ..conv_lstm import ConvLSTMCell, prepare_cells
from ..inhibition import SpatialInhibition
from .parts import Decoder, Prepared, Size, State, Step, inside_image, projection

# Before training, as released: of input, forget and output gates, and of the confidence, so that
# sequences begin by going on.
GATE_BIAS = 1.0
STOP_BIAS = 10.0


class RISDecoder(Decoder):
    """A stack of ConvLSTMs on one feature map, spatial inhibition, and a confidence.

    Source: Romera-Paredes & Torr 2016 (Recurrent Instance Segmentation), section 3; widths, biases
    and the pooled confidence as in its released code.
    Deviates: class scores beside the confidence, so that it is not a model of one class; padding
    takes no part in competition and maxima; optionally a gain of the logits that compete.

    Args:
        in_channels (int): of the feature map.
        hidden_channels (list[int]): of the cells, first to last.
        num_classes (int): C.
        stride (int): of the feature map, pixels of the network input.
        norm (str): after the projection, a name that :func:`parts.norm_of` knows.
        inhibition_bias (float): before training.
        inhibition_gain (float): of the logits that compete.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: Sequence[int],
        num_classes: int,
        *,
        stride: int,
        norm: str = "",
        inhibition_bias: float = 1.0,
        inhibition_gain: float = 1.0,
    ):
        super().__init__(num_classes, stride)
        self.project = projection(in_channels, hidden_channels[0], norm)
        constant = [hidden_channels[0]] + [0] * len(hidden_channels[1:])
        below = [0, *hidden_channels[:-1]]
        self.cells = nn.ModuleList(
            ConvLSTMCell(*channels, biases=(GATE_BIAS,) * 3)
            for channels in zip(constant, below, hidden_channels)
        )
        self.mask = nn.Conv2d(hidden_channels[-1], 1, kernel_size=1)
        self.inhibition = SpatialInhibition(inhibition_bias, gain=inhibition_gain)
        self.classes = nn.Linear(4 * hidden_channels[-1], num_classes)
        self.stop = nn.Linear(4 * hidden_channels[-1], 1)
        nn.init.constant_(self.stop.bias, STOP_BIAS)

    def prepare(
        self, features: Sequence[Tensor], image_sizes: ImageSizes, padded_size: Size
    ) -> Prepared:
        """As :meth:`parts.Decoder.prepare`, of one feature map."""
        skip = F.relu(self.project(features[0]))
        inside = inside_image(image_sizes, padded_size, skip.shape[-2:], device=skip.device)
        return Prepared(prepare_cells(self.cells, [skip]), [inside], inside)

    def forward(
        self, prepared: Prepared, state: Optional[State] = None, memory: Optional[Tensor] = None
    ) -> "tuple[Step, State]":
        """As :meth:`parts.Decoder.forward`; ``memory`` is not read."""
        states = []
        # Only the first cell reads the features.
        for layer, (cell, gates) in enumerate(zip_longest(self.cells, prepared.gates)):
            inputs = [states[-1][0]] if states else []
            states.append(cell(gates, inputs, state[layer] if state else None))
        hidden = states[-1][0]
        masks = self.inhibition(self.mask(hidden)[:, 0], prepared.mask_inside)
        pooled = torch.stack(
            [_quarters(x, inside) for x, inside in zip(hidden, prepared.mask_inside)]
        )
        return Step(masks, self.classes(pooled), self.stop(pooled)[:, 0]), states


def _quarters(hidden: Tensor, inside: Tensor) -> Tensor:
    """(4 D,) maxima over the quarters of one image (D, h, w), without its padding."""
    height, width = int(inside.any(1).sum()), int(inside.any(0).sum())
    return F.adaptive_max_pool2d(hidden[:, :height, :width], 2).flatten()
