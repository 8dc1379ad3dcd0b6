"""Backbones with fewer parameters than Detectron2's smallest, made of its own parts."""

from .config import add_light_backbone_config
from .narrow_resnet import build_narrow_resnet_backbone, build_narrow_resnet_fpn_backbone

__all__ = [
    "add_light_backbone_config",
    "build_narrow_resnet_backbone",
    "build_narrow_resnet_fpn_backbone",
]
