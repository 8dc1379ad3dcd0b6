"""AP_r and AP_vol of SDS: average precision of masks by all-point interpolation, in percent.

Detections of a class are taken by falling score. Each claims the true object of its class and image
with which its mask has the largest IoU among those that are still free; it is right if that IoU is
at least the threshold, and wrong otherwise: a second detection of an object is wrong. AP_r at a
threshold is the area under the precision-recall curve, precision at a recall being the best one at
this or any larger recall. AP_vol is the mean of AP_r at 0.1, 0.2 ... 0.9. Figures of a data set are
means over the classes that have an object in it.

Source: Hariharan et al., Simultaneous detection and segmentation, 2014, section 2, and its release.
Deviates: there an IoU must exceed the threshold; here it may equal it, as in COCO and Pascal VOC.

Shape shorthand in this module:
    H, W: image   N: predictions of an image   G: its true objects   T: IoU thresholds
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from tabulate import tabulate

from ..masks import CutMasks, MaskPairs, overlapping_pairs, to_run_lengths
from .checks import check_prediction
from .gathering import gather_list
from .ground_truth import GroundTruth

IOU_THRESHOLDS = tuple(k / 10 for k in range(1, 10))  # AP_vol is the mean over them
SHOWN = (0.5, 0.6, 0.7, 0.8, 0.9)  # of these, AP_r is a result of its own


class Detection(NamedTuple):
    """A prediction and whether it is right: ``category`` 0-based, ``score``, ``right`` T bools."""

    category: int
    score: float
    right: tuple[bool, ...]


def are_right(
    pairs: MaskPairs, scores: np.ndarray, iou_thresholds: Sequence[float] = IOU_THRESHOLDS
) -> np.ndarray:
    """Which predictions of one class in one image are right.

    Args:
        pairs: N rows of predictions, columns of the true objects of the same class.
        scores: (N,) float; of equal ones, the first comes first.
        iou_thresholds: T of them.

    Returns:
        (N, T) bool.
    """
    right = np.zeros((len(scores), len(iou_thresholds)), dtype=bool)
    candidates: list[list[tuple[float, int]]] = [[] for _ in scores]
    best_first = np.lexsort([pairs.columns, -pairs.iou])
    for row, column, iou in zip(*(array[best_first].tolist() for array in pairs)):
        candidates[row].append((iou, column))
    order = np.argsort(-np.asarray(scores), kind="stable").tolist()
    for number, threshold in enumerate(iou_thresholds):
        taken: set[int] = set()
        for row in order:
            best, column = next((c for c in candidates[row] if c[1] not in taken), (-1.0, -1))
            if best >= threshold:
                right[row, number] = True
                taken.add(column)
    return right


def average_precision(scores: np.ndarray, right: np.ndarray, num_objects: int) -> float:
    """Area under the interpolated precision-recall curve of one class.

    Args:
        scores: (N,) float; of equal ones, the first comes first.
        right: (N,) bool.
        num_objects: true objects of the class.

    Returns:
        In [0, 1]; nan where there are no objects.
    """
    if num_objects == 0:
        return float("nan")
    right = np.asarray(right, dtype=bool)[np.argsort(-np.asarray(scores), kind="stable")]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall rises by 1 / num_objects at each right detection and nowhere else.
    return float(best_from_here[right].sum()) / num_objects


class RegionAPEvaluator(DatasetEvaluator):
    """AP_r at IoU 0.5 to 0.9, and AP_vol, over a data set and for each class.

    Results, in percent, under "voc": ``AP_r50`` ... ``AP_r90``, ``AP_vol``, and each of them with
    "-" and the name of a class; nan where a class, or the data set, has no objects. Predictions are
    taken as they are: :class:`.restriction.RestrictedEvaluators` has taken void pixels off them.
    Crowds of the data set are no objects.
    """

    def __init__(self, dataset_name: str, distributed: bool = True):
        """
        Args:
            dataset_name: registered, with ``thing_classes``.
            distributed: gather the detections of all processes.
        """
        self._class_names = list(MetadataCatalog.get(dataset_name).thing_classes)
        self._ground_truth = GroundTruth(dataset_name)
        self._distributed = distributed
        self._logger = logging.getLogger(__name__)
        self.reset()

    def reset(self) -> None:
        """Forget all detections."""
        self._detections: list[Detection] = []
        self._classes: list[int] = []  # of each true object

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Tell right from wrong in a batch.

        Args:
            inputs: ``image_id``, ``file_name``, ``height``, ``width`` of each image.
            outputs: ``instances`` with ``pred_masks`` (N, H, W) bool, ``scores`` and
                ``pred_classes`` (N,).

        Raises:
            UserError: predictions that cannot be compared with the ground truth.
        """
        for record, output in zip(inputs, outputs):
            instances = output["instances"].to("cpu")
            check_prediction(record, instances, len(self._class_names))
            annotations = self._ground_truth.record(record["image_id"]).get("annotations", [])
            objects = [a for a in annotations if not a.get("iscrowd", 0)]
            self._classes += [a["category_id"] for a in objects]
            self._detections += detections_of(instances, objects)

    def evaluate(self) -> "dict[str, dict[str, float]]":
        """
        Returns:
            {"voc": {...}} in the main process; {} in the others.
        """
        detections, classes = self._detections, self._classes
        if self._distributed:
            detections, classes = gather_list(detections), gather_list(classes)
            if not comm.is_main_process():
                return {}
        figures = summarize(detections, classes, self._class_names)
        self._logger.info("Region AP (percent): \n" + figures_table(figures, self._class_names))
        return {"voc": figures}


def detections_of(
    instances: Instances, annotations: Sequence[Mapping[str, Any]]
) -> "list[Detection]":
    """The detections of one image, right or wrong.

    Args:
        instances: ``pred_masks`` (N, H, W) bool, ``scores``, ``pred_classes``, on CPU.
        annotations: G of Detectron2's format, no crowds.

    Returns:
        N of them, class by class.
    """
    if len(instances) == 0:
        return []
    predicted = CutMasks.of(instances.pred_masks).run_lengths()
    scores, classes = instances.scores.numpy(), instances.pred_classes.numpy()
    detections = []
    for category in np.unique(classes).tolist():
        rows = np.flatnonzero(classes == category)
        same_class = [a["segmentation"] for a in annotations if a["category_id"] == category]
        true = [to_run_lengths(segmentation, *instances.image_size) for segmentation in same_class]
        pairs = overlapping_pairs([predicted[i] for i in rows], true)
        right = are_right(pairs, scores[rows])
        detections += [
            Detection(category, float(scores[row]), tuple(flags))
            for row, flags in zip(rows, right.tolist())
        ]
    return detections


def summarize(
    detections: Sequence[Detection], classes: Sequence[int], class_names: Sequence[str]
) -> "dict[str, float]":
    """Figures of a data set.

    Args:
        detections: of all images, in their order.
        classes: of each true object.
        class_names: of the data set.

    Returns:
        See :class:`RegionAPEvaluator`.
    """
    per_class = np.full((len(class_names), len(IOU_THRESHOLDS)), np.nan)
    for category in range(len(class_names)):
        own = [d for d in detections if d.category == category]
        scores = np.array([d.score for d in own])
        right = np.array([d.right for d in own], dtype=bool).reshape(len(own), len(IOU_THRESHOLDS))
        for column, flags in enumerate(right.T):
            ap = average_precision(scores, flags, classes.count(category))
            per_class[category, column] = 100 * ap
    figures = _figures(per_class)
    result = {name: _mean(values) for name, values in figures.items()}
    for name, values in figures.items():
        result.update({f"{name}-{c}": float(v) for c, v in zip(class_names, values)})
    return result


def _figures(per_class):
    """{name: (classes,) percent} of (classes, T) percent."""
    columns = {f"AP_r{100 * t:.0f}": per_class[:, IOU_THRESHOLDS.index(t)] for t in SHOWN}
    return {**columns, "AP_vol": per_class.mean(axis=1)}


def _mean(values):
    """Mean without nan; nan of nothing else."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def figures_table(figures: Mapping[str, float], class_names: Sequence[str]) -> str:
    """The results as a text table: a row for each class that has objects, then the mean.

    Args:
        figures: of :func:`summarize`.
        class_names: of the data set.
    """
    columns = [name for name in figures if "-" not in name]
    rows = [[c] + [figures[f"{name}-{c}"] for name in columns] for c in class_names]
    rows = [row for row in rows if not np.isnan(row[-1])]
    rows.append(["mean"] + [figures[name] for name in columns])
    return tabulate(rows, ["class", *columns], tablefmt="pipe", floatfmt=".1f")
