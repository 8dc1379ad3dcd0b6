"""From the pyramid of a backbone to semantic logits and embeddings.

Shape shorthand in this module:
    B: images in the batch   C: classes without background   E: embedding channels
    H, W: padded network input   s: output stride   h, w: H / s, W / s
"""

import functools
import math
from collections.abc import Sequence
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
    branch of Panoptic FPN). A shallow branch from the image adds what the finest level of an FPN,
    stride 4, has lost.

    Source: Kirillov et al. 2019 (Panoptic Feature Pyramid Networks), section 3.1.
    Deviates: one convolution and one upsampling a level; the branch from the image.

    Args:
        in_channels (list[int]): of each level, finest first.
        channels (int): of the sum of the levels.
        out_channels (int): of the result.
        output_stride (int): a power of two.
        detail_channels (int): of the image, for the branch from it; 0: without that branch.
        coordinates (bool): with two more channels that tell the position in the image.
        norm (str): of every convolution, a name that ``detectron2.layers.get_norm`` knows.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int,
        out_channels: int,
        output_stride: int,
        detail_channels: int,
        coordinates: bool,
        norm: str,
    ) -> None:
        super().__init__()
        self.output_stride = output_stride
        self.coordinates = coordinates
        self.levels = nn.ModuleList(_conv(c, channels, norm) for c in in_channels)
        self.fuse = _conv(channels + 2 * coordinates, out_channels, norm)
        self.detail = None
        if detail_channels:
            widths = [detail_channels] + [out_channels] * int(math.log2(output_stride))
            self.detail = nn.Sequential(
                *(_conv(a, b, norm, stride=2) for a, b in zip(widths, widths[1:]))
            )

    def forward(
        self, features: Sequence[Tensor], images: Tensor, image_sizes: ImageSizes
    ) -> Tensor:
        """
        Args:
            features (list[Tensor]): (B, C_l, H_l, W_l) float, finest first.
            images (Tensor): (B, detail_channels, H, W) float, normalised.
            image_sizes: height and width of each image without padding.

        Returns:
            Tensor: (B, out_channels, h, w) float.
        """
        height, width = features[0].shape[-2:]
        levels = (_resize(conv(x), (height, width)) for conv, x in zip(self.levels, features))
        fused = functools.reduce(torch.add, levels)
        if self.coordinates:
            stride = images.shape[-1] // width
            grid = relative_positions(
                image_sizes, height=height, width=width, stride=stride, device=fused.device
            )
            fused = torch.cat([fused, grid.to(fused.dtype)], dim=1)
        size = [n // self.output_stride for n in images.shape[-2:]]
        fused = _resize(self.fuse(fused), size)
        return fused if self.detail is None else fused + self.detail(images)


class EmbeddingHead(nn.Module):
    """A decoder and its branches: semantic logits, embeddings, and optionally seeds and bandwidths.

    Args:
        decoder (PyramidDecoder)
        channels (int): of the decoder's result.
        num_classes (int): C.
        embedding_dim (int): E.
        norm (str): of the branches' convolutions.
        position_unit (float or None): pixels of the network input that make 1 in the embedding;
            None: a plain embedding. Source: Novotny et al. 2018 (Semi-convolutional operators),
            Eq. 3: the position is added to the first two channels.
        seeds (bool): predict seeds and bandwidths, too. Source: Neven et al. 2019.
    """

    def __init__(
        self,
        decoder: PyramidDecoder,
        *,
        channels: int,
        num_classes: int,
        embedding_dim: int,
        norm: str,
        position_unit: Optional[float] = None,
        seeds: bool = False,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.position_unit = position_unit
        self.semantic = _branch(channels, num_classes + 1, norm)
        self.embedding = _branch(channels, embedding_dim, norm)
        self.instance = _seed_branch(channels, norm) if seeds else None

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
        x = self.decoder(features, images, image_sizes)
        outputs = {"semantic": self.semantic(x).float(), "embedding": self.embedding(x).float()}
        if self.position_unit is not None:
            outputs["embedding"] = self._add_positions(outputs["embedding"], self.position_unit)
        if self.instance is not None:
            seed, log_bandwidth = self.instance(x).float().unbind(dim=1)
            outputs["seed"] = seed
            outputs["log_bandwidth"] = log_bandwidth.clamp(*LOG_BANDWIDTH_RANGE)
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


def _branch(channels: int, out_channels: int, norm: str) -> nn.Sequential:
    """One more convolution, then a linear layer for each pixel."""
    last = nn.Conv2d(channels, out_channels, kernel_size=1)
    weight, bias = last.parameters()
    nn.init.normal_(weight, std=channels**-0.5)
    nn.init.zeros_(bias)
    return nn.Sequential(_conv(channels, channels, norm), last)


def _seed_branch(channels: int, norm: str) -> nn.Sequential:
    """Logit of the seed and logarithm of the bandwidth; all bandwidths start equal."""
    branch = _branch(channels, 2, norm)
    weight, bias = branch[-1].parameters()
    nn.init.normal_(weight, std=0.001)  # the layer starts near its bias
    with torch.no_grad():
        bias.copy_(torch.tensor([0.0, math.log(INITIAL_BANDWIDTH)]))
    return branch


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if x.shape[-2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
