"""What one image tells of a setting: objects found, pixels claimed by several instances.

Shape shorthand in this module:
    G: true objects of an image   N: predicted instances   H, W: image
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from detectron2.config import CfgNode
from detectron2.structures import Instances

from instance_seg_analysis.annotations import (
    Encoded,
    encoded_iou,
    encoded_objects,
    ground_truth_boxes,
)
from instance_seg_analysis.limits.matching import found_boxes, found_objects
from instance_seg_common.evaluation.ground_truth import GroundTruth
from instance_seg_common.evaluation.label_map import predicted_label_map
from instance_seg_common.evaluation.restriction import restrict_instances, supplied_foreground
from instance_seg_common.masks import CutMasks


class Counts(NamedTuple):
    """One image under one setting.

    found, found_boxes: (G,) bool, found by mask and by box; predictions: above the score threshold;
    count, true_count: objects in the predicted and in the true label map.
    """

    found: np.ndarray
    found_boxes: np.ndarray
    predictions: int
    count: int
    true_count: int


class Claims(NamedTuple):
    """Pixels claimed by one or more instances, by two or more, and by instances that stand for
    different objects."""

    claimed: int
    twice: int
    disputed: int

    def __add__(self, other: "Claims") -> "Claims":
        return Claims(*(a + b for a, b in zip(self, other)))


class _Truth(NamedTuple):
    """Ground truth of one image: label map and ignored region (H, W), objects and boxes (G, 4)."""

    image_id: Any
    labels: np.ndarray
    ignore: np.ndarray
    objects: list[Encoded]
    boxes: np.ndarray


class ImageScorer:
    """Compares predictions with the ground truth of their image.

    Args:
        cfg (CfgNode): ``TEST.*``.
        ground_truth (GroundTruth)
    """

    def __init__(self, cfg: CfgNode, ground_truth: GroundTruth):
        self.score_threshold = cfg.TEST.LABEL_MAP_SCORE_THRESHOLD
        self.min_area = cfg.TEST.LABEL_MAP_MIN_AREA
        self.foreground_given = cfg.TEST.FOREGROUND_GIVEN
        self.ground_truth = ground_truth
        self._last: Optional[_Truth] = None  # of the last image, which all settings share

    def _truth_of(self, record: Mapping[str, Any]) -> _Truth:
        if self._last is None or self._last.image_id != record["image_id"]:
            labels, ignore = self.ground_truth(record["image_id"])
            objects, boxes = encoded_objects(record), ground_truth_boxes(record)
            self._last = _Truth(record["image_id"], labels, ignore, objects=objects, boxes=boxes)
        return self._last

    def evaluated(self, record: Mapping[str, Any], instances: Instances) -> Instances:
        """Only what lies in the supplied foreground, where the config wants that."""
        if not self.foreground_given:
            return instances
        return restrict_instances(instances, supplied_foreground(record))

    def counts(self, record: Mapping[str, Any], instances: Instances) -> Counts:
        """What of one image was found."""
        truth, threshold = self._truth_of(record), self.score_threshold
        found, predictions = found_objects(
            instances, record, score_threshold=threshold, objects=truth.objects
        )
        labels = predicted_label_map(
            instances, truth.labels, truth.ignore,
            score_threshold=threshold, min_area=self.min_area,
        )  # fmt: skip
        boxes = found_boxes(instances, truth.boxes, score_threshold=threshold)
        count, true_count = int(labels.max()), int(truth.labels.max())
        return Counts(found, boxes, predictions, count=count, true_count=true_count)

    def claims(self, record: Mapping[str, Any], instances: Instances) -> Claims:
        """The Claims of one image."""
        masks = CutMasks.of(instances.pred_masks[instances.scores >= self.score_threshold])
        objects = self._truth_of(record).objects
        return pixel_claims(masks, stands_for(encoded_iou(masks.run_lengths(), objects)))


def stands_for(iou: np.ndarray) -> np.ndarray:
    """The object that each prediction overlaps best.

    Args:
        iou (ndarray): (N, G) float.

    Returns:
        ndarray: (N,) int64, -1 where it overlaps none.
    """
    if not iou.shape[1]:
        return np.full(len(iou), -1, dtype=np.int64)
    return np.where(iou.max(axis=1, initial=0) > 0, iou.argmax(axis=1), -1)


def pixel_claims(masks: Union[np.ndarray, CutMasks], owners: np.ndarray) -> Claims:
    """Count pixels that several instances claim.

    Args:
        masks (ndarray or CutMasks): (N, H, W) bool, free to overlap.
        owners (ndarray): (N,) int64, the object each instance stands for, of
            :func:`stands_for`; two that stand for the same object do not disagree.
    """
    if not len(masks):
        return Claims(0, 0, 0)
    number = np.zeros(masks.shape[1:], dtype=np.int64)
    low = np.full(masks.shape[1:], np.iinfo(np.int64).max)
    high = np.full(masks.shape[1:], -2)
    for mask, owner in zip(map(np.asarray, masks), owners):
        number += mask
        low[mask] = np.minimum(low[mask], owner)
        high[mask] = np.maximum(high[mask], owner)
    twice = number > 1
    return Claims(int((number > 0).sum()), int(twice.sum()), int((twice & (low != high)).sum()))
