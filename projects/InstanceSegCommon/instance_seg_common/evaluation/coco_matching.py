"""COCO's evaluation for images with thousands of objects.

pycocotools compares every prediction with every object in Python, for ten thresholds and four
ranges of area: hours where there are ten thousand of each. Only pairs that overlap can match.

Shape shorthand in this module:
    G: true objects   D: predictions, both of one image and category   T: IoU thresholds
"""

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from detectron2.structures import BoxMode, Instances
from pycocotools.coco import COCO

from ..masks import CutMasks, MaskPairs, overlapping_pairs

# A prediction may match at an IoU of exactly 1: COCO's own bound.
_HIGHEST = 1 - 1e-10


def match_detections(
    pairs: MaskPairs, ignored: np.ndarray, crowd: np.ndarray, *, thresholds: Sequence[float]
) -> np.ndarray:
    """Which object each prediction is matched with, by COCO's rule.

    Predictions choose in turn the free object of the highest IoU, of equal ones the last; objects
    that are ignored come after all others, and a crowd is always free.

    Args:
        pairs: D rows in the order of falling scores, G columns.
        ignored, crowd: (G,) bool.
        thresholds: T, a match has at least this IoU.

    Returns:
        (T, D') int64 column of the match, -1 for none; D' is the last row of a pair + 1.

    Source: COCO's evaluation, pycocotools.
    """
    order = np.lexsort([pairs.columns, ignored[pairs.columns], pairs.rows])
    candidates = list(zip(*(array[order].tolist() for array in pairs)))
    last = int(pairs.rows.max()) + 1 if len(candidates) else 0
    matches = np.full((len(thresholds), last), -1, dtype=np.int64)
    is_ignored, is_crowd = ignored.tolist(), crowd.tolist()
    for t, threshold in enumerate(thresholds):
        bound = min(threshold, _HIGHEST)
        taken: set[int] = set()
        best, best_iou, current = -1, bound, -1
        for row, column, iou in [*candidates, (-1, -1, 0.0)]:
            if row != current:
                if best >= 0:
                    matches[t, current] = best
                    taken.add(best)
                best, best_iou, current = -1, bound, row
            if iou < best_iou or (column in taken and not is_crowd[column]):
                continue
            # Once an object that counts is found, no ignored one takes its place.
            if best < 0 or is_ignored[best] or not is_ignored[column]:
                best, best_iou = column, iou
    return matches


class CrowdedCOCOeval(COCOevalMaxDets):
    """COCO's evaluation of boxes or masks, with ``ious`` of overlapping pairs alone.

    ``ious``: by (image id, category id) the :class:`MaskPairs` of the predictions, best score
    first, with the objects in the order of the annotations.
    """

    def computeIoU(self, imgId: Any, catId: int) -> MaskPairs:
        """The pairs of one image and category."""
        truths, found = self._gts[imgId, catId], self._best(imgId, catId)
        key = "segmentation" if self.params.iouType == "segm" else "bbox"
        return overlapping_pairs(
            [d[key] for d in found], [g[key] for g in truths], [g["iscrowd"] for g in truths]
        )

    def _best(self, image_id: Any, category: int) -> "list[dict[str, Any]]":
        """Predictions that count, best score first."""
        found = self._dts[image_id, category]
        order = np.argsort([-d["score"] for d in found], kind="stable")
        return [found[i] for i in order[: self.params.maxDets[-1]]]

    def evaluateImg(
        self, imgId: Any, catId: int, aRng: Sequence[float], maxDet: int
    ) -> "Optional[dict[str, Any]]":
        """What COCO's accumulation needs of one image, category and range of areas."""
        truths, found = self._gts[imgId, catId], self._best(imgId, catId)
        if not truths and not self._dts[imgId, catId]:
            return None
        # Accumulation reads it of each object; loading gave it "ignore".
        ignored = np.array([bool(g["ignore"]) or _outside(g, aRng) for g in truths], dtype=bool)
        crowd = np.array([bool(g["iscrowd"]) for g in truths], dtype=bool)
        pairs = self.ious[imgId, catId]
        matches = np.full((len(self.params.iouThrs), len(found)), -1, dtype=np.int64)
        some = match_detections(pairs, ignored, crowd, thresholds=list(self.params.iouThrs))
        matches[:, : some.shape[1]] = some
        matched = matches >= 0
        found_outside = np.array([_outside(d, aRng) for d in found], dtype=bool)
        gt_ids = np.array([g["id"] for g in truths] + [0])
        return {
            "image_id": imgId,
            "category_id": catId,
            "aRng": aRng,
            "maxDet": maxDet,
            "dtIds": [d["id"] for d in found],
            "gtIds": gt_ids[:-1].tolist(),
            "dtMatches": gt_ids[matches],  # -1 is the 0 at the end
            "dtScores": [d["score"] for d in found],
            "gtIgnore": ignored.astype(int),
            "dtIgnore": np.append(ignored, False)[matches] | (~matched & found_outside),
        }


def _outside(entry: Mapping[str, Any], area_range: Sequence[float]) -> bool:
    return entry["area"] < area_range[0] or entry["area"] > area_range[1]


def evaluate_coco(
    truth: COCO,
    results: "list[dict[str, Any]]",
    iou_type: str,
    *,
    limits: Sequence[int],
    image_ids: Optional[Sequence[Any]] = None,
) -> CrowdedCOCOeval:
    """COCO's evaluation of results, its summary printed.

    Args:
        truth: the ground truth.
        results: of :func:`coco_detections`, with COCO's category ids; may be empty.
        iou_type: "bbox" or "segm".
        limits: three numbers of detections an image; AP is that of the largest.
        image_ids: of the images that are evaluated; None: all of the ground truth.

    Returns:
        Evaluated, ``eval`` and ``stats`` set.
    """
    if iou_type == "segm":
        # With a box, COCO takes a mask's area to be the box's.
        results = [{k: v for k, v in result.items() if k != "bbox"} for result in results]
    evaluation = CrowdedCOCOeval(truth, _loaded(truth, results), iou_type)
    evaluation.params.maxDets = list(limits)
    if image_ids is not None:
        evaluation.params.imgIds = list(image_ids)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def _loaded(truth: COCO, results: "list[dict[str, Any]]") -> COCO:
    if results:
        copies: Any = [dict(result) for result in results]
        return truth.loadRes(copies)
    nothing = COCO()  # COCO's loader of results refuses an empty list
    without_annotations: Any = {**truth.dataset, "annotations": []}
    nothing.dataset = without_annotations
    nothing.createIndex()
    return nothing


def with_category_ids(
    detections: "list[dict[str, Any]]", metadata: Optional[Metadata]
) -> "list[dict[str, Any]]":
    """Copies of detections with the category ids of the data set.

    Args:
        detections: of :func:`coco_detections`.
        metadata: its ``thing_dataset_id_to_contiguous_id`` maps classes back; without it,
            categories stay the 0-based classes, as in Detectron2's own evaluator.
    """
    mapping = getattr(metadata, "thing_dataset_id_to_contiguous_id", None) or {}
    own = {contiguous: dataset_id for dataset_id, contiguous in mapping.items()}
    if not own:
        return [dict(detection) for detection in detections]
    return [{**one, "category_id": own[one["category_id"]]} for one in detections]


def coco_detections(instances: Instances, image_id: Union[int, str]) -> "list[dict[str, Any]]":
    """Detections of one image in COCO's result format, categories being the 0-based classes.

    Args:
        instances: on the CPU, ``pred_boxes``, ``scores``, ``pred_classes``, ``pred_masks``.
        image_id: as in the data set.

    Returns:
        Of each: image_id, category_id, bbox XYWH in pixels, score, segmentation RLE.
    """
    if len(instances) == 0:
        return []
    xyxy = instances.pred_boxes.tensor.numpy()
    boxes = BoxMode.convert(xyxy, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
    columns = (instances.pred_classes.tolist(), boxes, instances.scores.tolist())
    rles = CutMasks.of(instances.pred_masks).run_lengths()
    return [
        {
            "image_id": image_id,
            "category_id": category,
            "bbox": box,
            "score": score,
            "segmentation": {**rle, "counts": rle["counts"].decode("ascii")},
        }
        for category, box, score, rle in zip(*columns, rles)
    ]
