"""ResNet-18 and 34 of any widths; Detectron2's own have 64, 128, 256 and 512 channels."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet

from instance_seg_common.errors import UserError
from instance_seg_common.meta_arch import feature_pyramid

# Blocks of res2 to res5. Source: He et al. 2016, Table 1.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
GROUPS = 32  # of Detectron2's group norm
STAGES = ("res2", "res3", "res4", "res5")


@BACKBONE_REGISTRY.register()
def build_narrow_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """A ResNet of basic blocks with the widths ``MODEL.NARROW_RESNET.WIDTHS``.

    Args:
        cfg: also ``MODEL.RESNETS`` (DEPTH, STEM_OUT_CHANNELS, NORM, OUT_FEATURES) and
            ``MODEL.BACKBONE.FREEZE_AT``, which mean what they mean for Detectron2's.
        input_shape: with the channels of the images.

    Returns:
        res2 to res5 have strides 4 to 32, as far as OUT_FEATURES has them.

    Raises:
        UserError: values that do not fit.
    """
    node, widths = cfg.MODEL.RESNETS, cfg.MODEL.NARROW_RESNET.WIDTHS
    _check(node, widths)
    stem = BasicStem(
        in_channels=input_shape.channels, out_channels=node.STEM_OUT_CHANNELS, norm=node.NORM
    )
    stages = [
        ResNet.make_stage(
            BasicBlock,
            blocks,
            stride_per_block=[1 if level == 0 else 2, *[1] * (blocks - 1)],
            in_channels=[node.STEM_OUT_CHANNELS, *widths][level],
            out_channels=widths[level],
            norm=node.NORM,
        )
        for level, blocks in enumerate(BLOCKS[node.DEPTH])
    ]
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    return ResNet(stem, stages, out_features=node.OUT_FEATURES, freeze_at=freeze_at)


@BACKBONE_REGISTRY.register()
def build_narrow_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Detectron2's feature pyramid (p2 to p6) on a narrow ResNet.

    Args, Raises: see :func:`build_narrow_resnet_backbone`; ``MODEL.FPN``.
    """
    return feature_pyramid(cfg, build_narrow_resnet_backbone(cfg, input_shape))


def _check(node, widths):
    """Raise a sentence on values that Detectron2's parts would take or fail at without one."""
    channels = (node.STEM_OUT_CHANNELS, *widths)
    uneven = [n for n in channels if n % GROUPS] if node.NORM == "GN" else []
    absent = [name for name in node.OUT_FEATURES if name not in ("stem", *STAGES)]
    checks = (
        (node.DEPTH in BLOCKS, f"DEPTH is {node.DEPTH}; narrow ResNets have 18 or 34"),
        (node.RES5_DILATION == 1, f"RES5_DILATION is {node.RES5_DILATION}; basic blocks have 1"),
        (not absent, f"OUT_FEATURES has {', '.join(absent)}; there are stem, {', '.join(STAGES)}"),
        (not uneven, f"NORM is GN, for which {uneven} channels are no multiple of {GROUPS}"),
    )
    for fits, problem in checks:
        if not fits:
            raise UserError(f"MODEL.RESNETS.{problem}.")
    if len(widths) != len(STAGES) or min(channels) < 1:
        raise UserError(
            f"MODEL.NARROW_RESNET.WIDTHS is {list(widths)}; it has the channels of "
            f"{', '.join(STAGES)}, a number of at least 1 each."
        )
