"""A network of timm behind the interface of Detectron2's backbones.

Shape shorthand in this module:
    B: images in the batch   C: their channels   H, W: padded network input
    C_l, H_l, W_l: channels and grid of level l
"""

from collections.abc import Collection, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from torch import Tensor, nn

from instance_seg_common.errors import UserError
from instance_seg_common.meta_arch import feature_pyramid

from .networks import Level, Networks
from .padding import make_padding_constant

BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


class TimmBackbone(Backbone):
    """A network that gives levels.

    Args:
        net: image (B, C, H, W) to a list of outputs; with timm's ``output_fmt`` NHWC, these have
            their channels last.
        levels: of the outputs, by name, in their order.
        out_features: names of those that :meth:`forward` returns.
    """

    def __init__(
        self, net: nn.Module, levels: "dict[str, Level]", out_features: Sequence[str]
    ) -> None:
        super().__init__()
        self.net = net
        self._names = list(levels)
        self._channels_last = str(getattr(net, "output_fmt", "")).endswith("NHWC")
        self._out_features = list(out_features)
        self._out_feature_channels = {name: level.channels for name, level in levels.items()}
        self._out_feature_strides = {name: level.stride for name, level in levels.items()}

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride: every level then has exactly H / stride times W / stride cells."""
        return max(self._out_feature_strides.values())

    def forward(self, image: Tensor) -> "dict[str, Tensor]":
        """The levels of a batch.

        Args:
            image: (B, C, H, W) float, normalised; H and W multiples of ``size_divisibility``.

        Returns:
            (B, C_l, H_l, W_l) float each, by name.
        """
        levels = self.all_levels(image)
        return {name: levels[name] for name in self._out_features}

    def all_levels(self, image: Tensor) -> "dict[str, Tensor]":
        """As :meth:`forward`, with levels that are not returned there."""
        outputs = self.net(image)
        if self._channels_last:
            outputs = [x.permute(0, 3, 1, 2) for x in outputs]
        return dict(zip(self._names, outputs))

    def parameters_behind(self, names: Sequence[str], channels: int) -> "set[nn.Parameter]":
        """The parameters that levels depend on, found by a backward pass of a black image.

        Args:
            names: of levels.
            channels: C.

        Raises:
            UserError: the network cannot take images of any size, or has other levels than it says.
        """
        side, training = 2 * self.size_divisibility, self.training
        parameters = [p for p in self.parameters() if p.requires_grad]
        try:
            with torch.enable_grad():
                levels = self.eval().all_levels(torch.zeros(1, channels, side, side))
                self._check_shapes(levels, side)
                total = sum((levels[name].sum() for name in names), torch.zeros(()))
                gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"The network of MODEL.TIMM cannot take an image of {side} x {side} pixels "
                f"({error}). A network for one size needs an argument that frees it, such as "
                "MODEL.TIMM.ARGUMENTS [['strict_img_size', False]] (Swin) or "
                "[['dynamic_img_size', True]] (ViT), or cannot be a backbone."
            ) from error
        finally:
            self.train(training)
        return {p for p, gradient in zip(parameters, gradients) if gradient is not None}

    def _check_shapes(self, levels, side):
        for name, x in levels.items():
            cells = side // self._out_feature_strides[name]
            expected = (1, self._out_feature_channels[name], cells, cells)
            if tuple(x.shape) != expected:
                raise ValueError(f"{name} has shape {tuple(x.shape)}, not {expected}")


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """The levels ``MODEL.TIMM.OUT_FEATURES`` of a network of timm.

    Args:
        cfg: ``MODEL.TIMM``, ``MODEL.BACKBONE.FREEZE_AT``, ``MODEL.WEIGHTS``.
        input_shape: with the channels of the images.

    Raises:
        UserError: timm or weights are not installed, or have no such network or levels.
    """
    wanted = cfg.MODEL.TIMM.OUT_FEATURES
    return _network(cfg, input_shape.channels, wanted, key="MODEL.TIMM.OUT_FEATURES")


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Detectron2's feature pyramid (p2 to p6) on the levels ``MODEL.FPN.IN_FEATURES``.

    Args, Raises: see :func:`build_timm_backbone`; ``MODEL.FPN``.
    """
    wanted = cfg.MODEL.FPN.IN_FEATURES
    network = _network(cfg, input_shape.channels, wanted, key="MODEL.FPN.IN_FEATURES")
    return feature_pyramid(cfg, network)


def _network(cfg, channels, wanted, *, key):
    """The network with the levels that a key names, frozen as the config asks."""
    node, freeze_at = cfg.MODEL.TIMM, cfg.MODEL.BACKBONE.FREEZE_AT
    networks = Networks(node.NAME, channels, dict(node.ARGUMENTS))
    frozen = [f"res{freeze_at}"] if freeze_at > 0 else []
    _check_levels(networks, wanted, f"{key} is {list(wanted)}")
    _check_levels(networks, frozen, f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}")
    levels = {n: x for n, x in networks.levels.items() if n in (*wanted, *frozen)}
    # Weights of a checkpoint replace all others, which then need not be there.
    pretrained = "" if cfg.MODEL.WEIGHTS else node.PRETRAINED
    net = networks.build([level.index for level in levels.values()], pretrained)
    make_padding_constant(net)
    backbone = TimmBackbone(net, levels, wanted)
    # Of layers that no level depends on; distributed training would wait for their gradients.
    behind = backbone.parameters_behind(wanted, channels)
    freeze(net, set(net.parameters()) - behind)
    freeze(net, backbone.parameters_behind(frozen, channels) if frozen else set())
    return freeze_norms(backbone) if node.FREEZE_NORM else backbone


def _check_levels(networks, names, what):
    absent = [name for name in names if name not in networks.levels]
    if absent:
        raise UserError(
            f"{what}, and {networks.name} has no {' or '.join(absent)} (resN: stride 2**N), only "
            f"{', '.join(networks.levels)}. Choose among these."
        )


def freeze(net: nn.Module, parameters: "Collection[nn.Parameter]") -> None:
    """Let parameters learn no more; batch norms that they belong to keep their statistics, too.

    Args:
        net: changed in place.
        parameters: of it.
    """
    for parameter in parameters:
        parameter.requires_grad_(False)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BATCH_NORMS) and child.weight in parameters:
                parent.add_module(name, freeze_norms(child))


def freeze_norms(module: nn.Module) -> nn.Module:
    """All batch norms with the statistics and factors that they have, as constants.

    Detectron2's own conversion would lose the activation that timm's batch norms have inside.

    Returns:
        ``module`` itself, changed; another one if it is a batch norm.
    """
    from timm.layers.norm_act import freeze_batch_norm_2d

    return freeze_batch_norm_2d(module)
