"""Instance segmentation one object at a time: importing registers ``RecurrentInstanceSeg``."""

from .arch import RecurrentInstanceSeg
from .config import add_recurrent_instance_seg_config

__all__ = ["RecurrentInstanceSeg", "add_recurrent_instance_seg_config"]
