"""Synthetic images with exact instance masks: textured shapes that occlude, thin sticks that cross.

Objects are drawn one over the other in the order of their ids: a mask is what remains visible.
Only numpy is used to draw, so an image depends on (parameters, index) and on nothing else.
"""

from .dataset import load_synthetic, register_synthetic_dataset
from .parameters import NAMED_SETS, resolve_parameters
from .rendering import render

__all__ = [
    "NAMED_SETS",
    "load_synthetic",
    "register_synthetic_dataset",
    "render",
    "resolve_parameters",
]
