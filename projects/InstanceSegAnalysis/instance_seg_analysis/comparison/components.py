"""Semantic segmentation as a baseline: connected components of a model's own semantic output.

Shape shorthand in this module:
    h, w: network input without padding   K: components
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from instance_seg_common.masks import instances_from_labels
from instance_seg_common.meta_arch import wanted_size


class SemanticComponents(nn.Module):
    """Connected components of a model's own semantic output: objects that touch are one.

    Args:
        model (nn.Module): with ``internals`` that have ``semantic`` and ``foreground``.
        num_classes (int): the value of ``semantic`` that is background.
    """

    def __init__(self, model: nn.Module, num_classes: int):
        super().__init__()
        self.model, self.num_classes = model, num_classes
        self.min_area = getattr(getattr(model, "inference", None), "min_area", 1)

    def forward(
        self, batched_inputs: "Sequence[Mapping[str, Any]]"
    ) -> "list[dict[str, Instances]]":
        """As any model; the seconds that ``internals`` takes for clustering are not its own."""
        return [
            {"instances": self.instances(item, internals)}
            for item, internals in zip(batched_inputs, self.model.internals(batched_inputs))
        ]

    def instances(self, item: Mapping[str, Any], internals: Mapping[str, Tensor]) -> Instances:
        """Instances (height, width) of one image from its internals."""
        semantic = internals["semantic"].cpu().numpy()
        labels, classes = connected_components(semantic, self.num_classes)
        foreground = internals["foreground"].cpu().numpy().ravel()
        counts = np.maximum(np.bincount(labels.ravel(), minlength=len(classes) + 1)[1:], 1)
        sums = np.bincount(labels.ravel(), foreground, minlength=len(classes) + 1)[1:]
        return instances_from_labels(
            torch.from_numpy(labels), torch.as_tensor(sums / counts, dtype=torch.float32),
            torch.as_tensor(classes), output_size=wanted_size(item, labels.shape),
            min_area=self.min_area,
        )  # fmt: skip


def connected_components(semantic: np.ndarray, background: int) -> "tuple[np.ndarray, np.ndarray]":
    """Connected components of each class; pixels are neighbours along rows and columns.

    Args:
        semantic (ndarray): (h, w) int, classes.
        background (int): the class that is not labelled.

    Returns:
        tuple: labels (h, w) int64, 0 is background, 1..K; classes (K,) int64.
    """
    from scipy import ndimage

    labels, classes = np.zeros(semantic.shape, dtype=np.int64), []
    for category in np.unique(semantic):
        if category == background:
            continue
        components, count = ndimage.label(semantic == category)
        labels = np.where(components > 0, components + len(classes), labels)
        classes += [int(category)] * count
    return labels, np.array(classes, dtype=np.int64)
