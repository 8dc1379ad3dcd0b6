"""Predictions and annotations as label maps.

Shape shorthand in this module:
    H, W: an image   N: predicted instances
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances

from .cut_masks import CutMasks
from .run_lengths import boxes_of, decode_segmentation, decode_window, to_run_lengths


def instances_to_label_map(
    instances: Instances, score_threshold: float = 0.0, min_area: int = 0
) -> np.ndarray:
    """Predicted instances as one label map: the highest score wins a pixel, classes together.

    Args:
        instances: with ``pred_masks`` (N, H, W) bool and ``scores`` (N,).
        score_threshold: instances with a lower score are left out.
        min_area: an instance left with fewer pixels is dropped; its pixels are background.

    Returns:
        (H, W) int64; 0 is background, 1.. are the instances by descending score,
        consecutive although some have lost all their pixels to better ones.
    """
    order = _by_score(instances)
    order = order[instances.scores.detach().cpu().numpy()[order] >= score_threshold]
    return drop_small(_painted(instances, order, range(1, len(order) + 1)), min_area)


def owners_of_pixels(instances: Instances) -> np.ndarray:
    """Which instance has each pixel in a label map of all: the highest score, then the first.

    Args:
        instances: with ``pred_masks`` (N, H, W) bool and ``scores`` (N,).

    Returns:
        (H, W) int64, i + 1 where it is instance i, 0 where there is none.
    """
    order = _by_score(instances)
    return _painted(instances, order, (order + 1).tolist())


def _by_score(instances: Instances) -> np.ndarray:
    scores = instances.scores.detach().cpu()
    return torch.argsort(scores, descending=True, stable=True).numpy()


def _painted(instances: Instances, order: np.ndarray, labels: "Iterable[int]") -> np.ndarray:
    """(H, W) int64: the labels of these instances, the first of them on top."""
    label_of = dict(zip(order.tolist(), labels))
    windows = list(CutMasks.of(instances.pred_masks).windows())
    painted = np.zeros(instances.image_size, dtype=np.int64)
    for index in reversed(order.tolist()):
        (x0, y0, x1, y1), pixels = windows[index]
        painted[y0:y1, x0:x1][pixels] = label_of[index]
    return painted


def drop_small(labels: np.ndarray, min_area: int = 0) -> np.ndarray:
    """A label map without its small instances, ids made consecutive in their order.

    Args:
        labels: (H, W) int64, 0 is background.
        min_area: instances with fewer pixels become background.

    Returns:
        (H, W) int64.
    """
    kept = np.bincount(labels.ravel(), minlength=1) >= max(min_area, 1)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0)[labels]


def annotations_to_label_map(
    annotations: "Sequence[Mapping[str, Any]]", height: int, width: int
) -> "tuple[np.ndarray, np.ndarray]":
    """The annotations of a data set dict as one label map.

    Args:
        annotations: in Detectron2's format: ``segmentation`` an RLE dict or polygons, ``iscrowd``
            optional.
        height, width: pixels.

    Returns:
        (height, width) int64: 0 is background, i + 1 the i-th annotation that is not a crowd; where
        objects overlap the smaller one is on top. (height, width) bool: crowd regions.
    """
    crowd = np.zeros((height, width), dtype=bool)
    for annotation in annotations:
        if annotation.get("iscrowd", 0):
            crowd |= decode_segmentation(annotation["segmentation"], height, width)
    objects = [a["segmentation"] for a in annotations if not a.get("iscrowd", 0)]
    rles = [to_run_lengths(segmentation, height, width) for segmentation in objects]
    boxes = boxes_of(rles)
    windows = [decode_window(rle, box) for rle, box in zip(rles, boxes)]
    areas = np.array([np.count_nonzero(window) for window in windows], dtype=np.int64)
    labels = np.zeros((height, width), dtype=np.int64)
    for index in np.argsort(-areas, kind="stable").tolist():
        x0, y0, x1, y1 = boxes[index]
        labels[y0:y1, x0:x1][windows[index]] = index + 1
    return labels, crowd
