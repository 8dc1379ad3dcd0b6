"""Networks of timm as backbones of Detectron2."""

from .backbone import TimmBackbone, build_timm_backbone, build_timm_fpn_backbone
from .config import add_timm_backbone_config

__all__ = [
    "TimmBackbone",
    "add_timm_backbone_config",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
]
