"""Fixtures of the embedding method."""

import pytest
import torch
from tiny_embedding import TinyPyramid, settings_of, tiny_head

from embedding_instance_seg import EmbeddingInstanceSeg
from embedding_instance_seg.losses import Criterion


@pytest.fixture
def build_tiny():
    """build_tiny(num_classes, inference, **head) -> the model; inference: changed settings."""

    def build(num_classes=2, inference=None, **head):
        torch.manual_seed(0)
        names = ("mask", "bandwidth", "seed")
        names = names if head.get("seeds") else ("variance", "distance", "regularization")
        settings = settings_of(
            **{"score": ("probability",), "max_instances": 100, **(inference or {})}
        )
        if settings.class_agnostic:
            names = ("class", *names)
        weights = {f"loss_{name}": 1.0 for name in ("semantic", *names)}
        return EmbeddingInstanceSeg(
            backbone=TinyPyramid(),
            in_features=["p2", "p3"],
            head=tiny_head(num_classes=num_classes, **head),
            criterion=Criterion(num_classes, weights, delta_var=0.5, delta_dist=1.5),
            inference=settings,
            pixel_mean=[100.0] * 3,
            pixel_std=[50.0] * 3,
        )

    return build
