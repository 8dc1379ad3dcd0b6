"""From the pyramid of a backbone to semantic logits and embeddings.

Shape shorthand in this module:
    B: images in the batch   C: classes without background   E: embedding channels
    H, W: padded network input   s: output stride   h, w: H / s, W / s
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Optional

import torch
from detectron2.layers import Conv2d, get_norm
from torch import Tensor, nn
from torch.nn import functional as F

from instance_seg_common.meta_arch import ImageSizes

# exp of these bounds the learned bandwidth, in units of the embedding.
LOG_BANDWIDTH_RANGE = (-6.0, 4.0)
INITIAL_BANDWIDTH = 0.5  # of every pixel before training, in units of the embedding


class PyramidDecoder(nn.Module):
    """Fuses the levels of a pyramid into one map at the output stride.

    Every level passes a convolution, is brought to the finest level's size and added (the semantic
    branch of Panoptic FPN). Below stride 4 the map is refined, stride by stride, with features that
    a shallow branch takes from the image.

    Source: Kirillov et al. 2019 (Panoptic Feature Pyramid Networks), section 3.1; Ronneberger et
    al. 2015 (U-Net) for the refinement.
    Deviates: one convolution and one upsampling a level.

    Args:
        in_channels (list[int]): of each level, finest first; the finest has stride 4.
        channels (int): of the sum of the levels.
        widths (dict[int, int]): channels at stride 4 and, where the output stride is lower, at
            strides 2 and 1.
        image_channels (int): of the image.
        coordinates (bool): with two more channels that tell the position in the image.
        norm (str): of every convolution, a name that ``detectron2.layers.get_norm`` knows.

    Attributes:
        output_stride (int): 4, 2 or 1, the lowest of ``widths``.
        out_channels (int): of the result.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int,
        widths: Mapping[int, int],
        image_channels: int,
        coordinates: bool,
        norm: str,
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.output_stride = min(widths)
        self.out_channels = widths[self.output_stride]
        self.levels = nn.ModuleList(_conv(c, channels, norm) for c in in_channels)
        self.fuse = _conv(channels + 2 * coordinates, widths[4], norm)
        fine = sorted(stride for stride in widths if stride < 4)
        inputs = [image_channels, *(widths[stride] for stride in fine)]
        self.details = nn.ModuleList(
            _conv(c, widths[stride], norm, stride=min(stride, 2)) for c, stride in zip(inputs, fine)
        )
        self.refinements = nn.ModuleList(
            _Refinement(widths[2 * stride], widths[stride], norm) for stride in reversed(fine)
        )

    def forward(
        self, features: Sequence[Tensor], images: Tensor, image_sizes: ImageSizes
    ) -> Tensor:
        """
        Args:
            features (list[Tensor]): (B, C_l, H_l, W_l) float, finest first.
            images (Tensor): (B, image_channels, H, W) float, normalised.
            image_sizes: height and width of each image without padding.

        Returns:
            Tensor: (B, out_channels, h, w) float.
        """
        height, width = features[0].shape[-2:]
        levels = (_resize(conv(x), (height, width)) for conv, x in zip(self.levels, features))
        x = functools.reduce(torch.add, levels)
        if self.coordinates:
            stride = images.shape[-1] // width
            grid = relative_positions(
                image_sizes, height=height, width=width, stride=stride, device=x.device
            )
            x = torch.cat([x, grid.to(x.dtype)], dim=1)
        x = self.fuse(x)
        details = list(itertools.accumulate(self.details, lambda x, f: f(x), initial=images))[1:]
        for refine, detail in zip(self.refinements, reversed(details)):
            x = refine(x, detail)
        return x


class _Refinement(nn.Module):
    """From one stride to half of it, with features of the image at that stride."""

    def __init__(self, in_channels: int, channels: int, norm: str) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, channels, kernel_size=1)
        nn.init.dirac_(self.project.weight)  # begins as what it is given, as far as that fits
        self.fuse = _conv(channels, channels, norm)

    def forward(self, x: Tensor, detail: Tensor) -> Tensor:
        # Projected before it is enlarged: the same result by a quarter of the work.
        return self.fuse(_resize(self.project(x), detail.shape[-2:]) + detail)


class EmbeddingHead(nn.Module):
    """A decoder and what is read from it: semantic logits, embeddings, and optionally seeds and
    bandwidths.

    Args:
        decoder (PyramidDecoder)
        num_classes (int): C.
        embedding_dim (int): E.
        position_unit (float or None): pixels of the network input that make 1 in the embedding;
            None: a plain embedding. Source: Novotny et al. 2018 (Semi-convolutional operators),
            Eq. 3: the position is added to the first two channels.
        seeds (bool): predict seeds and bandwidths, too. Source: Neven et al. 2019.
    """

    def __init__(
        self,
        decoder: PyramidDecoder,
        *,
        num_classes: int,
        embedding_dim: int,
        position_unit: Optional[float] = None,
        seeds: bool = False,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.position_unit = position_unit
        self.channels = {"semantic": num_classes + 1, "embedding": embedding_dim}
        if seeds:
            self.channels |= {"seed": 1, "log_bandwidth": 1}
        self.predict = _linear(decoder.out_channels, list(self.channels.values()), seeds=seeds)

    def forward(
        self, features: Sequence[Tensor], images: Tensor, image_sizes: ImageSizes
    ) -> "dict[str, Tensor]":
        """
        Args:
            features, images, image_sizes: of :meth:`PyramidDecoder.forward`.

        Returns:
            dict[str, Tensor]: ``semantic`` (B, C + 1, h, w), the last channel background, and
            ``embedding`` (B, E, h, w); with seeds also ``seed`` (B, h, w) logits and
            ``log_bandwidth`` (B, h, w). All float32.
        """
        x = self.predict(self.decoder(features, images, image_sizes))
        parts = x.float().split(list(self.channels.values()), dim=1)
        outputs = dict(zip(self.channels, parts))
        if self.position_unit is not None:
            outputs["embedding"] = self._add_positions(outputs["embedding"], self.position_unit)
        if "seed" in outputs:
            outputs["seed"] = outputs["seed"].squeeze(1)
            logs = outputs["log_bandwidth"].squeeze(1)
            outputs["log_bandwidth"] = logs.clamp(*LOG_BANDWIDTH_RANGE)
        return outputs

    def _add_positions(self, embedding: Tensor, unit: float) -> Tensor:
        height, width = embedding.shape[-2:]
        grid = positions(height, width, self.decoder.output_stride, device=embedding.device)
        located = embedding[:, :2] + grid / unit
        return torch.cat([located, embedding[:, 2:]], dim=1)


def positions(
    height: int, width: int, stride: int, *, device: Optional[torch.device] = None
) -> Tensor:
    """Centres of the cells of a grid.

    Args:
        height, width (int): cells.
        stride (int): pixels of the network input between two cells.
        device (torch.device or None)

    Returns:
        Tensor: (2, height, width) float32: x and y in pixels of the network input.
    """
    y = (torch.arange(height, device=device) + 0.5) * stride
    x = (torch.arange(width, device=device) + 0.5) * stride
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])


def relative_positions(
    image_sizes: ImageSizes,
    *,
    height: int,
    width: int,
    stride: int,
    device: Optional[torch.device] = None,
) -> Tensor:
    """The cells' centres as a fraction of each image, whatever the padding of its batch.

    Args:
        image_sizes: height and width of each image without padding.
        height, width (int): cells of the padded grid.
        stride (int): pixels of the network input between two cells.
        device (torch.device or None)

    Returns:
        Tensor: (B, 2, height, width) float32: x and y, -1 to 1 over the image, more on padding.
    """
    grid = positions(height, width, stride, device=device)
    sizes = torch.as_tensor(image_sizes, dtype=grid.dtype, device=device).flip(1)
    return 2 * grid / sizes[:, :, None, None] - 1


def _conv(in_channels: int, out_channels: int, norm: str, *, stride: int = 1) -> nn.Module:
    """3 x 3 convolution, normalisation, ReLU."""
    layer = Conv2d(
        in_channels,
        out_channels,
        kernel_size=3,
        stride=stride,
        padding=1,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=F.relu,
    )
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _linear(channels: int, parts: "list[int]", *, seeds: bool) -> nn.Conv2d:
    """A linear layer for each pixel; with seeds the last two outputs are the seed's logit and the
    logarithm of the bandwidth, which start equal everywhere."""
    layer = nn.Conv2d(channels, sum(parts), kernel_size=1)
    weight, bias = layer.parameters()
    nn.init.normal_(weight, std=channels**-0.5)
    nn.init.zeros_(bias)
    if seeds:
        nn.init.normal_(weight[-2:], std=0.001)  # the layer starts near its bias
        nn.init.constant_(bias[-1:], math.log(INITIAL_BANDWIDTH))
    return layer


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if x.shape[-2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
