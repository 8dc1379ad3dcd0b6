"""Which objects of an image are found, one to one, classes aside.

Shape shorthand in this module:
    H, W: image   G: ground-truth objects   N: predicted instances
"""

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor

from instance_seg_analysis.annotations import Encoded, encoded_iou, encoded_objects
from instance_seg_common.evaluation.checks import check_prediction
from instance_seg_common.masks import CutMasks

IOU = 0.5  # of masks or boxes: from this value on a prediction finds an object
TIE = 1e-6  # of box IoU: a detection fits objects of one and the same box alike


def neighbour_box_iou(boxes: "Union[Tensor, np.ndarray, list[list[float]]]") -> np.ndarray:
    """Box IoU of each object with its nearest neighbour, the one whose box overlaps it most.

    Args:
        boxes (array_like or Tensor): (G, 4) XYXY in pixels, of one image.

    Returns:
        ndarray: (G,) float64 in [0, 1]; 0 for an object alone in its image.
    """
    boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float64).reshape(-1, 4))
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    return pairwise_iou(boxes, boxes).fill_diagonal_(0).amax(dim=1).numpy()


def match_by_score(
    iou: np.ndarray, scores: "Union[np.ndarray, Sequence[float]]", *, iou_threshold: float = IOU
) -> np.ndarray:
    """Give objects to predictions as COCO does: the best score chooses first.

    Args:
        iou (ndarray): (N, G) float.
        scores (ndarray): (N,) float.
        iou_threshold (float): a pair may match where its IoU is greater or equal.

    Returns:
        ndarray: (N,) int64, the object of each prediction or -1.
    """
    matches = np.full(len(scores), -1, dtype=np.int64)
    left = np.where(iou >= iou_threshold, iou, 0.0)
    if not left.size:
        return matches
    for n in np.argsort(-np.asarray(scores), kind="stable"):
        best = left[n].argmax()
        if left[n, best] > 0:
            matches[n] = best
            left[:, best] = 0
    return matches


def found_objects(
    instances: Instances,
    record: Mapping[str, Any],
    *,
    score_threshold: float,
    objects: Optional[Sequence[Encoded]] = None,
) -> "tuple[np.ndarray, int]":
    """The objects of one image whose masks a model found.

    Args:
        instances (Instances): ``pred_masks`` (N, H, W) bool, ``scores`` (N,).
        record (dict): of the data set, with annotations.
        score_threshold (float): instances with a lower score are left out.
        objects (list[dict] or None): ``encoded_objects`` of the record, if they are known already.

    Returns:
        tuple: (G,) bool, the i-th is the i-th annotation that is not a crowd; the number of
        instances that were not left out.

    Raises:
        UserError: predictions that cannot be compared with the ground truth.
    """
    instances = instances.to("cpu")
    check_prediction(record, instances)
    instances = instances[instances.scores >= score_threshold]
    objects = encoded_objects(record) if objects is None else objects
    found = np.zeros(len(objects), dtype=bool)
    if len(instances):
        iou = encoded_iou(CutMasks.of(instances.pred_masks).run_lengths(), objects)
        matches = match_by_score(iou, instances.scores.numpy())
        found[matches[matches >= 0]] = True
    return found, len(instances)


def found_boxes(
    instances: Instances, gt_boxes: Union[Tensor, np.ndarray], *, score_threshold: float
) -> np.ndarray:
    """The objects whose box was found, whatever the mask.

    A detection counts for the object that its box fits best, so that a second one of an object does
    not pass for the neighbour that shares the box.

    Args:
        instances (Instances): ``pred_boxes`` (N, 4) XYXY in pixels, ``scores`` (N,).
        gt_boxes (array_like or Tensor): (G, 4) XYXY in the same pixels.
        score_threshold (float): instances with a lower score are left out.

    Returns:
        ndarray: (G,) bool.
    """
    instances = instances[instances.scores >= score_threshold]
    iou = pairwise_iou(
        Boxes(instances.pred_boxes.tensor.float()),
        Boxes(torch.as_tensor(gt_boxes, dtype=torch.float32)),
    )
    iou = iou.numpy()
    fits = iou >= iou.max(axis=1, keepdims=True, initial=0) - TIE
    matches = match_by_score(iou * fits, instances.scores.numpy())
    found = np.zeros(len(gt_boxes), dtype=bool)
    found[matches[matches >= 0]] = True
    return found
