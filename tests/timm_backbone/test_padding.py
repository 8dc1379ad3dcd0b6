"""Constant SAME padding is timm's wherever strides divide the grid, and can be exported."""

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame

from timm_backbone.padding import SameConv2d, make_padding_constant


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 4), (2, 7)])
def test_the_padding_is_that_of_timm(kernel, stride, dilation):
    torch.manual_seed(0)
    theirs = Conv2dSame(4, 6, kernel, stride, dilation=dilation, groups=2, bias=dilation == 1)
    net = torch.nn.Sequential(theirs)
    x, names = torch.randn(2, 4, 16, 24), list(net.state_dict())
    expected = net(x)
    make_padding_constant(net)
    assert isinstance(net[0], SameConv2d) and list(net.state_dict()) == names
    assert torch.equal(net(x), expected)


def test_a_network_is_exported_with_its_sizes_open():
    net = torch.nn.Sequential(Conv2dSame(3, 4, 3, 2), torch.nn.ReLU(), Conv2dSame(4, 4, 5, 2))
    make_padding_constant(net)
    height, width = torch.export.Dim("h", min=2, max=64), torch.export.Dim("w", min=2, max=64)
    shapes = ({2: 4 * height, 3: 4 * width},)
    program = torch.export.export(net, (torch.zeros(1, 3, 16, 24),), dynamic_shapes=shapes)
    x = torch.randn(1, 3, 32, 8)
    assert torch.allclose(program.module()(x), net(x), atol=1e-6)
