"""Boxes and masks of the annotated objects of an image.

Shape shorthand in this module:
    G: annotations that are no crowd   N, M: masks   H, W: image
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from instance_seg_common.masks import to_run_lengths

# COCO's compressed encoding of a mask: "size" and "counts".
Encoded = dict[str, Any]


def objects_of(record: Mapping[str, Any]) -> "list[dict[str, Any]]":
    """The G annotations of a data set dict that are no crowd."""
    return [a for a in record["annotations"] if not a.get("iscrowd", 0)]


def ground_truth_boxes(record: Mapping[str, Any]) -> np.ndarray:
    """(G, 4) float32 XYXY in pixels of the annotations that are no crowd."""
    boxes = [
        BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in objects_of(record)
    ]
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def encoded_objects(record: Mapping[str, Any]) -> "list[Encoded]":
    """The masks of the G annotations that are no crowd, encoded.

    Args:
        record (dict): with ``annotations``, ``height`` and ``width``.
    """
    size = record["height"], record["width"]
    return [to_run_lengths(a["segmentation"], *size) for a in objects_of(record)]


def encoded_iou(masks: Sequence[Encoded], others: Sequence[Encoded]) -> np.ndarray:
    """IoU of every one of N masks with every one of M others: (N, M) float64."""
    if not (masks and others):
        return np.zeros((len(masks), len(others)))
    return mask_util.iou(masks, others, [0] * len(others))
