"""Decoders against themselves with one convolution of all inputs at every step.

Shape shorthand in this module:
    B: images in the batch   H, W: network input
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from recurrent_instance_seg.decoders import Decoder, RSISDecoder
from recurrent_instance_seg.rollout import unroll

from .models import plain_model
from .references import WholeCell

DECODER_STEPS = 10
# Widths of RSIS's released decoder, stride 32 to stride 2. Source: its code.
RELEASED_CHANNELS = (128, 64, 32, 16, 8)
# () -> a decoder and the channels of its features, coarsest first
MakeDecoder = Callable[[], "tuple[Decoder, Sequence[int]]"]


class Unrolled(nn.Module):
    """A decoder from features to the end of a fixed number of steps, without gradients.

    Args:
        decoder (Decoder)
        steps (int)
    """

    def __init__(self, decoder: Decoder, steps: int = DECODER_STEPS) -> None:
        super().__init__()
        self.decoder, self.steps = decoder.eval(), steps

    @torch.no_grad()
    def forward(self, *features: Tensor) -> Tensor:
        """
        Args:
            *features (Tensor): (B, C, H / stride, W / stride) float, coarsest first.

        Returns:
            Tensor: masks, classes and stop scores, flat.
        """
        stride = 2 * self.decoder.mask_stride
        size = tuple(stride * n for n in features[-1].shape[-2:])
        prepared = self.decoder.prepare(list(features), [size] * len(features[0]), size)
        steps = unroll(self.decoder, prepared, self.steps)
        return torch.cat([steps.masks.flatten(), steps.classes.flatten(), steps.stop.flatten()])


def strides_of(levels: int) -> "list[int]":
    """Of a pyramid, coarsest first: 32, 16, ..."""
    return [32 >> level for level in range(levels)]


def configured_decoder() -> "tuple[Decoder, Sequence[int]]":
    """(decoder, channels of its features) of configs/methods/recurrent.yaml."""
    cfg, model = plain_model()
    return model.decoder, [cfg.MODEL.FPN.OUT_CHANNELS] * len(model.in_features)


def released_decoder(num_classes: int = 21) -> "tuple[Decoder, Sequence[int]]":
    """(decoder, channels of its features) with the widths of RSIS's released code, five levels.

    The features are narrow as those of the light backbone; the cells are what is compared.

    Args:
        num_classes (int): 21 for Pascal VOC, the released code's end of sequence among them.
    """
    channels = [64] * len(RELEASED_CHANNELS)
    stride = strides_of(len(channels))[-1]
    return RSISDecoder(channels, RELEASED_CHANNELS, num_classes, stride=stride), channels


def decoder_pair(
    make: MakeDecoder, *, size: int = 256, images: int = 2, seed: int = 0
) -> "tuple[Unrolled, Unrolled, tuple[Tensor, ...]]":
    """A decoder, the same with every cell whole, and features for both.

    Args:
        make (callable): :func:`configured_decoder` or :func:`released_decoder`.
        size (int): of the network input, pixels.
        images (int)
        seed (int): of weights and features.

    Returns:
        tuple[Unrolled, Unrolled, tuple[Tensor, ...]]
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder, channels = make()
        features = tuple(
            torch.randn(images, c, size // stride, size // stride)
            for c, stride in zip(channels, strides_of(len(channels)))
        )
    whole = copy.deepcopy(decoder)
    whole.cells = nn.ModuleList(WholeCell(cell) for cell in decoder.cells)
    return Unrolled(decoder), Unrolled(whole), features
