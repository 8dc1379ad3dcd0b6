"""What went wrong with each object of an image: missed, invented, merged, split, poor, wrong class.

Shape shorthand in this module:
    H, W: image   G: ground-truth objects   P: predicted objects
"""

from collections.abc import Mapping
from typing import NamedTuple, Optional

import numpy as np

from ..masks import MaskPairs
from .contingency import Overlap, best_columns, contingency_table
from .matching import match_pairs

# A prediction and an object that overlap less than this have nothing to do with each other.
NOTABLE_IOU = 0.1
# A piece covers at least this share of its object, a merged object of its prediction: what is
# smaller is a speck, which does not turn a good prediction into a split or merged one.
NOTABLE_SHARE = 0.1


class InstanceErrors(NamedTuple):
    """Ids per kind; every object and every prediction that is not matched is in one kind or more.

    matched: pairs (ground-truth id, predicted id) with IoU at or above the threshold.
    missed: ground-truth ids that no prediction notably overlaps; a speck within is no sign of it.
    invented: predicted ids that overlap no object notably; a speck within an object does.
    merged: predicted ids with two or more objects: they hold half or more of each, and each is a
        notable share of the prediction.
    split: ground-truth ids with two or more pieces: predictions that have half or more of
        their pixels in the object, and each is a notable share of it.
    poor: ground-truth ids left: overlapped, but below the threshold and neither merged nor split.
    poor_predictions: predicted ids left, specks within an object among them.
    wrong_class: the matched pairs whose classes differ.
    merged_objects: the ground-truth ids within merged predictions.
    split_pieces: the predicted ids within split objects.
    """

    matched: "list[tuple[int, int]]"
    missed: "list[int]"
    invented: "list[int]"
    merged: "list[int]"
    split: "list[int]"
    poor: "list[int]"
    poor_predictions: "list[int]"
    wrong_class: "list[tuple[int, int]]"
    merged_objects: "list[int]"
    split_pieces: "list[int]"


def classify_errors(
    gt: np.ndarray,
    pred: np.ndarray,
    iou_threshold: float = 0.5,
    *,
    gt_classes: Optional[Mapping[int, int]] = None,
    pred_classes: Optional[Mapping[int, int]] = None,
) -> InstanceErrors:
    """Sort the objects and predictions of one image into kinds of error.

    Args:
        gt, pred: (H, W) int label maps, 0 is background.
        iou_threshold: from this IoU on, a pair is matched.
        gt_classes, pred_classes: class of each id; without them classes are not compared.

    Returns:
        Ids of each kind in ascending order.
    """
    table = contingency_table(gt, pred).overlap()
    (rows, columns, iou), shared = table.pairs, table.intersection
    matched_rows, matched_columns = match_pairs(table.pairs, iou_threshold)
    inside_pred = shared >= 0.5 * table.gt_areas[rows]
    inside_gt = shared >= 0.5 * table.pred_areas[columns]
    held = inside_pred & (shared >= NOTABLE_SHARE * table.pred_areas[columns])
    pieces = inside_gt & (shared >= NOTABLE_SHARE * table.gt_areas[rows])
    merged = np.bincount(columns[held], minlength=len(table.pred_ids)) >= 2
    split = np.bincount(rows[pieces], minlength=len(table.gt_ids)) >= 2
    merged_objects = _among(rows[held & merged[columns]], table.gt_ids)
    split_pieces = _among(columns[pieces & split[rows]], table.pred_ids)
    touched_gt = _among(rows[(iou >= NOTABLE_IOU) | inside_pred | pieces], table.gt_ids)
    touched_pred = _among(columns[(iou >= NOTABLE_IOU) | inside_pred | inside_gt], table.pred_ids)
    open_gt = ~(split | merged_objects)
    open_gt[matched_rows] = False
    open_pred = ~(merged | split_pieces)
    open_pred[matched_columns] = False
    pairs = _pairs(table, matched_rows, matched_columns)
    return InstanceErrors(
        matched=pairs,
        missed=table.gt_ids[open_gt & ~touched_gt].tolist(),
        invented=table.pred_ids[open_pred & ~touched_pred].tolist(),
        merged=table.pred_ids[merged].tolist(),
        split=table.gt_ids[split].tolist(),
        poor=table.gt_ids[open_gt & touched_gt].tolist(),
        poor_predictions=table.pred_ids[open_pred & touched_pred].tolist(),
        wrong_class=_wrong_class(pairs, gt_classes, pred_classes),
        merged_objects=table.gt_ids[merged_objects].tolist(),
        split_pieces=table.pred_ids[split_pieces].tolist(),
    )


def _among(positions: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Which of the ids are at one of these positions: bool."""
    result = np.zeros(len(ids), dtype=bool)
    result[positions] = True
    return result


def _pairs(table: Overlap, rows, columns):
    return [(int(table.gt_ids[i]), int(table.pred_ids[j])) for i, j in zip(rows, columns)]


def _wrong_class(pairs, gt_classes, pred_classes):
    if gt_classes is None or pred_classes is None:
        return []
    return [(g, p) for g, p in pairs if gt_classes[g] != pred_classes[p]]


def same_object(gt: np.ndarray, pred: np.ndarray) -> "dict[int, int]":
    """Which object each prediction shows: the pairs that are each other's best IoU.

    Args:
        gt, pred: (H, W) int label maps, 0 is background.

    Returns:
        Predicted id -> ground-truth id, for the predictions that have one.
    """
    table = contingency_table(gt, pred).overlap()
    rows, columns, iou = table.pairs
    best_pred = best_columns(table.pairs, len(table.gt_ids))
    best_gt = best_columns(MaskPairs(columns, rows, iou), len(table.pred_ids))
    return {
        int(table.pred_ids[j]): int(table.gt_ids[i])
        for j, i in enumerate(best_gt)
        if i >= 0 and best_pred[i] == j
    }
