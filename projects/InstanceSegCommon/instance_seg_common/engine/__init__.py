"""Training of all ways."""

from .trainer import InstanceSegTrainer

__all__ = ["InstanceSegTrainer"]
