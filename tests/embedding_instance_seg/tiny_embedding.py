"""A network of a few thousand parameters, built from parts as any user can."""

import math

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.structures import BitMasks, Instances
from torch import nn

from embedding_instance_seg.grouping import InferenceSettings
from embedding_instance_seg.head import EmbeddingHead, PyramidDecoder


class TinyPyramid(Backbone):
    """Two levels of stride 4 and 8."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 4, stride=4)
        self.second = nn.Conv2d(8, 8, 2, stride=2)

    def forward(self, x):
        first = self.first(x)
        return {"p2": first, "p3": self.second(first.relu())}

    def output_shape(self):
        return {name: ShapeSpec(channels=8, stride=s) for name, s in (("p2", 4), ("p3", 8))}

    @property
    def size_divisibility(self):
        return 8


def tiny_head(stride=2, num_classes=2, coordinates=False, position_unit=None, seeds=False, norm=""):
    decoder = PyramidDecoder(
        [8, 8],
        channels=8,
        widths={s: 8 for s in (4, 2, 1) if s >= stride},
        image_channels=3,
        coordinates=coordinates,
        norm=norm,
    )
    return EmbeddingHead(
        decoder,
        num_classes=num_classes,
        embedding_dim=4,
        position_unit=position_unit,
        seeds=seeds,
    )


def settings_of(**changes):
    """How pixels become instances, where a test says nothing else."""
    settings = {
        "clustering": "mean_shift",
        "bandwidth": 0.5,
        "min_cluster_size": 1,
        "seed_threshold": 0.5,
        "reach": math.inf,
        "score": (),
        "class_agnostic": False,
        "min_area": 1,
        "max_instances": None,
    }
    return InferenceSettings(**{**settings, **changes})


def item(height=30, width=44, boxes=((2, 3, 12, 14), (15, 5, 28, 30)), classes=(0, 1), **extra):
    """One input dict: noise with a grey level for each box, and the boxes as instances."""
    generator = torch.Generator().manual_seed(height + width)
    image = torch.randint(0, 60, (3, height, width), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (top, left, bottom, right), level in zip(masks, boxes, range(90, 256, 40)):
        mask[top:bottom, left:right] = True
        image[:, top:bottom, left:right] += level
    instances = Instances((height, width))
    if len(boxes):
        instances.gt_masks = BitMasks(masks)
    instances.gt_classes = torch.tensor(classes[: len(boxes)], dtype=torch.int64)
    return {"image": image, "instances": instances, **extra}
