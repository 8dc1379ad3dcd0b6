"""COCO's average precision by what objects are like, as COCO itself has it by area.

Shape shorthand in this module:
    T: IoU thresholds   R: recall thresholds   K: categories   A: bins   M: limits of detections
"""

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .coco_matching import CrowdedCOCOeval
from .contingency import best_columns


def ap_by_value(
    coco_eval: COCOeval,
    edges: Sequence[float],
    *,
    of_objects: Mapping[int, float],
    of_predictions: Mapping[int, float],
) -> "list[Optional[float]]":
    """AP of the objects within each bin of a value.

    As with COCO's areas, an object of another bin counts neither as detected nor as missed, and a
    prediction of no object counts as wrong in the bin of its own value only.

    Source: COCOeval's rule for area ranges, with another value in place of the area.

    Args:
        coco_eval: evaluated. Its areas, ranges and results are overwritten.
        edges: n ascending; a value on an edge belongs to the bin above it.
        of_objects: annotation id -> value; others count in no bin.
        of_predictions: prediction id -> value; others count in no bin.

    Returns:
        n + 1, percent, mean over IoU 0.5 to 0.95 and categories; None for a bin without objects.
    """
    for api, values in ((coco_eval.cocoGt, of_objects), (coco_eval.cocoDt, of_predictions)):
        for annotation in api.anns.values():
            annotation["area"] = values.get(annotation["id"], math.inf)
    bounds = [-math.inf, *edges, math.inf]
    # COCO's ranges include both of their ends.
    ranges = [[low, np.nextafter(high, -math.inf)] for low, high in zip(bounds, bounds[1:])]
    coco_eval.params.areaRng = ranges
    coco_eval.params.areaRngLbl = [str(bounds) for bounds in ranges]
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval.evaluate()
        coco_eval.accumulate()
    precision = coco_eval.eval["precision"][..., -1]  # (T, R, K, A, M) -> the largest limit
    by_bin = [precision[..., index] for index in range(len(ranges))]
    known = [values[values > -1] for values in by_bin]  # -1: no object of this category
    return [100 * float(values.mean()) if values.size else None for values in known]


def nearest_objects(coco_eval: CrowdedCOCOeval) -> "dict[int, int]":
    """The object that each prediction overlaps most.

    Args:
        coco_eval: evaluated.

    Returns:
        Prediction id -> annotation id of the same image and category with the highest IoU;
        predictions that overlap none are absent.
    """
    nearest = {}
    for (image_id, category_id), pairs in coco_eval.ious.items():
        objects = _annotations(coco_eval.cocoGt, image_id, category_id)
        predictions = _annotations(coco_eval.cocoDt, image_id, category_id)
        # COCOeval's own order of the rows.
        predictions.sort(key=lambda p: -p["score"])
        best = best_columns(pairs, len(predictions))
        for prediction, column in zip(predictions, best.tolist()):
            if column >= 0:
                nearest[prediction["id"]] = objects[column]["id"]
    return nearest


def _annotations(api: COCO, image_id, category_id) -> "list[dict[str, Any]]":
    """Those of an image and a category, in COCOeval's order of the columns."""
    ids = api.getAnnIds(imgIds=[image_id], catIds=[category_id])
    return [dict(annotation) for annotation in api.loadAnns(ids)]
