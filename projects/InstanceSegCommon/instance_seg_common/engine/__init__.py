"""Training, the same for all methods."""

from .trainer import InstanceSegTrainer

__all__ = ["InstanceSegTrainer"]
