"""Fixtures of the embedding way."""

import math

import pytest
import torch
from tiny_embedding import TinyPyramid, tiny_head

from embedding_instance_seg import EmbeddingInstanceSeg
from embedding_instance_seg.inference import PixelGrouping


@pytest.fixture
def build_tiny():
    """build_tiny(num_classes, clustering, max_instances, agnostic, **head) -> the model."""

    def build(num_classes=2, clustering="mean_shift", max_instances=100, agnostic=False, **head):
        torch.manual_seed(0)
        learned = head.get("initial_bandwidth") is not None
        names = ("mask", "bandwidth", "seed")
        names = names if learned else ("variance", "distance", "regularization")
        if agnostic:
            names = ("class", *names)
        grouping = PixelGrouping(clustering, 0.5, 1, 20, 0.5, math.inf, ["probability"], agnostic)
        return EmbeddingInstanceSeg(
            backbone=TinyPyramid(),
            in_features=["p2", "p3"],
            head=tiny_head(num_classes=num_classes, **head),
            grouping=grouping,
            num_classes=num_classes,
            margins=(0.5, 1.5),
            loss_weights={f"loss_{name}": 1.0 for name in ("semantic", *names)},
            min_area=1,
            max_instances=max_instances,
            pixel_mean=[100.0] * 3,
            pixel_std=[50.0] * 3,
        )

    return build
