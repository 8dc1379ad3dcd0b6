"""Config keys of light backbones."""

from detectron2.config import CfgNode


def add_light_backbone_config(cfg: CfgNode) -> None:
    """Register ``MODEL.NARROW_RESNET`` on ``cfg``; a second call changes nothing.

    Args:
        cfg: not frozen; the root.
    """
    if "NARROW_RESNET" not in cfg.MODEL:
        # Channels of res2 to res5; all else is MODEL.RESNETS, STEM_OUT_CHANNELS among it.
        cfg.MODEL.NARROW_RESNET = CfgNode({"WIDTHS": [32, 64, 128, 256]})
