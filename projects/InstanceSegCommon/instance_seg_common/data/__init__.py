"""Data sets in Detectron2's catalogs: label maps, COCO JSON, Cityscapes, synthetic images."""

from .builtin import register_builtin_datasets
from .cityscapes import register_cityscapes_dataset
from .coco import register_coco_dataset
from .from_config import register_from_config
from .label_map import register_label_map_dataset
from .synthetic import register_synthetic_dataset

__all__ = [
    "register_builtin_datasets",
    "register_cityscapes_dataset",
    "register_coco_dataset",
    "register_from_config",
    "register_label_map_dataset",
    "register_synthetic_dataset",
]
