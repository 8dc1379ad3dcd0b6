"""TensorFlow's SAME padding where it is a constant.

Shape shorthand in this module:
    B: images in the batch   C: channels   h, w: a grid
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F


class SameConv2d(nn.Conv2d):
    """A convolution with SAME padding of grids that its stride divides.

    timm computes the padding from the size of each image; exporters that leave sizes open do not
    get through that. Of n strides it is kernel - stride, more of it right and below.

    Args:
        conv: that this one replaces, with the same parameters; padding is its own affair.

    Source: TensorFlow's documentation of ``tf.nn.convolution``.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        kernel, stride, dilation = (
            cast("tuple[int, int]", pair) for pair in (conv.kernel_size, conv.stride, conv.dilation)
        )
        super().__init__(
            conv.in_channels, conv.out_channels, kernel, stride,
            dilation=dilation, groups=conv.groups, bias=conv.bias is not None, device="meta",
        )  # fmt: skip
        self.weight, self.bias = conv.weight, conv.bias
        height, width = (max(d * (k - 1) + 1 - s, 0) for d, k, s in zip(dilation, kernel, stride))
        self._sides = (width // 2, width - width // 2, height // 2, height - height // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) float to (B, C', h / stride, w / stride)."""
        return super().forward(F.pad(x, self._sides))


def make_padding_constant(net: nn.Module) -> None:
    """Replace timm's convolutions with SAME padding; names and values of parameters stay.

    Args:
        net: for images whose sizes all strides divide; changed in place.
    """
    from timm.layers.conv2d_same import Conv2dSame

    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and isinstance(child, Conv2dSame):
                parent.add_module(name, SameConv2d(child))
