"""The losses of a pixel embedding, and which of them a model is trained with."""

from .bandwidth import bandwidth_losses, lovasz_hinge
from .criterion import Criterion
from .discriminative import discriminative_loss, instance_moments
from .seeds import seed_loss, seed_targets
from .semantic import IGNORE, instance_class_loss, semantic_loss, semantic_targets

__all__ = [
    "IGNORE",
    "Criterion",
    "bandwidth_losses",
    "discriminative_loss",
    "instance_class_loss",
    "instance_moments",
    "lovasz_hinge",
    "seed_loss",
    "seed_targets",
    "semantic_loss",
    "semantic_targets",
]
