"""COCO's average precision by what objects are like, as COCO itself has it by area.

Shape shorthand in this module:
    T: IoU thresholds   R: recall thresholds   K: categories   A: bins   M: limits of detections
"""

import contextlib
import io
import math

import numpy as np


def ap_by_value(coco_eval, edges, of_objects, of_predictions):
    """AP of the objects within each bin of a value.

    As with COCO's areas, an object of another bin counts neither as found nor as missed, and a
    prediction of no object counts as wrong in the bin of its own value only.

    Source: COCOeval's rule for area ranges, with another value in place of the area.

    Args:
        coco_eval (COCOeval): evaluated. Its areas, ranges and results are overwritten.
        edges (sequence): n ascending; a value on an edge belongs to the bin above it.
        of_objects (dict[int, float]): annotation id -> value; others count in no bin.
        of_predictions (dict[int, float]): prediction id -> value; others count in no bin.

    Returns:
        list[float or None]: n + 1, percent, mean over IoU 0.5 to 0.95 and categories; None for a
        bin without objects.
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


def nearest_objects(coco_eval):
    """The object that each prediction overlaps most.

    Args:
        coco_eval (COCOeval): evaluated.

    Returns:
        dict[int, int]: prediction id -> annotation id of the same image and category with the
        highest IoU; predictions that overlap none are absent.
    """
    nearest = {}
    for key, overlaps in coco_eval.ious.items():
        if len(overlaps) == 0:
            continue
        # COCOeval's own order of the rows.
        predictions = sorted(coco_eval._dts[key], key=lambda p: -p["score"])
        objects = coco_eval._gts[key]
        for prediction, row in zip(predictions, np.asarray(overlaps)):
            if row.max() > 0:
                nearest[prediction["id"]] = objects[int(row.argmax())]["id"]
    return nearest
