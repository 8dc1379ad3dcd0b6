"""Scores of predictions as label maps: matching at IoU 0.5 to 0.9, SBD, difference in count.

Shape shorthand in this module:
    H, W: image   T: IoU thresholds
"""

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Union

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from tabulate import tabulate

from ..masks import drop_small, instances_to_label_map
from .checks import check_prediction
from .contingency import contingency_table
from .gathering import gather_list
from .ground_truth import GroundTruth, drop_ignored
from .matching import Matching, match_overlap

Results = dict[str, dict[str, float]]

IOU_THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)

# Name of a result -> property of Matching; the IoU in percent is appended.
_RATIOS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1_": "f1",
    "pq": "pq",
}


def predicted_label_map(
    instances: Instances,
    gt: np.ndarray,
    ignore: np.ndarray,
    *,
    score_threshold: float,
    min_area: int,
) -> np.ndarray:
    """The label map of a prediction that is compared with the ground truth.

    The ignored region ends where a true object begins. Instances with half or more of their pixels
    in it are dropped, before they can hide others; of the rest, what lies in it becomes background.

    Args:
        instances: ``pred_masks`` (N, H, W) bool, ``scores`` (N,).
        gt: (H, W) int64, 0 background.
        ignore: (H, W) bool.
        score_threshold: instances with a lower score are left out.
        min_area: instances left with fewer pixels are left out.

    Returns:
        (H, W) int64, ids consecutive.
    """
    if len(instances) == 0:
        return np.zeros_like(gt)
    region = ignore & (gt == 0)
    instances = drop_ignored(instances, region)
    pred = instances_to_label_map(instances, score_threshold, min_area)
    if not region.any():
        return pred
    return drop_small(np.where(region, 0, pred), min_area)


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image.

    Attributes:
        file_name: the image.
        matchings: T of them.
        sbd: in [0, 1]; 0 where there is nothing to find, as in the challenge.
        dic: predicted minus true count.
    """

    file_name: str
    matchings: tuple[Matching, ...]
    sbd: float
    dic: int

    @property
    def n_gt(self) -> int:
        """Number of true objects."""
        return self.matchings[0].tp + self.matchings[0].fn

    @property
    def n_pred(self) -> int:
        """Number of predicted objects."""
        return self.matchings[0].tp + self.matchings[0].fp


def score_label_maps(
    gt: np.ndarray,
    pred: np.ndarray,
    *,
    file_name: str = "",
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
) -> ImageScores:
    """All scores of one image.

    SBD and DiC are exactly those of the CVPPP challenge (:func:`..matching.best_dice`), with its
    edge cases: the smallest label present is the background, so that a map without a background
    pixel loses its first object, and without objects in one map or in both SBD is 0. The matching
    has none of that: 0 is background, and nothing predicted where nothing is is right.

    Args:
        gt, pred: (H, W) int64, consecutive ids.
        file_name: kept with the scores.
        iou_thresholds: T of them.
    """
    table = contingency_table(gt, pred)
    overlap = table.overlap()
    return ImageScores(
        file_name=file_name,
        matchings=tuple(match_overlap(overlap, threshold) for threshold in iou_thresholds),
        sbd=table.symmetric_best_dice(),
        dic=table.difference_in_count(),
    )


class LabelMapEvaluator(DatasetEvaluator):
    """Compares predictions with the ground truth as label maps; scores are fractions, not percent.

    A label map gives a pixel to one instance (the best score wins) and knows no classes: a match
    counts even if its class is wrong. Results, for the IoU thresholds 50 .. 90:

    - "matching": ``accuracy50`` = tp / (tp + fp + fn), ``precision50``, ``recall50``, ``f1_50``,
      ``pq50`` from counts pooled over the data set, and the same with ``_mean`` as means over
      images; ``tp50``, ``fp50``, ``fn50``, and ``matched_iou50``, the mean mask IoU of all matched
      pairs. An image with neither objects nor predictions is perfect (1) in the means and adds
      nothing to the pooled figures.
    - "sbd": ``SBD``, mean over images, and ``SBD_std``, exactly as the CVPPP challenge has it: an
      image with neither objects nor predictions scores 0, and a map without a background pixel
      loses its first object to the background.
    - "dic": ``DiC``, mean of the absolute difference in count, ``DiC_std``, its deviation, and
      ``DiC_signed``, the mean of predicted minus true; counted as in the challenge, too.

    Predictions with half or more of their pixels in crowds or ignored regions are left out.
    """

    def __init__(
        self,
        dataset_name: str,
        score_threshold: float = 0.5,
        min_area: int = 0,
        *,
        output_dir: Union[str, Path, None] = None,
        iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
        distributed: bool = True,
    ):
        """
        Args:
            dataset_name: registered, in Detectron2's standard format.
            score_threshold: predictions with a lower score are left out.
            min_area: predictions with fewer pixels are left out.
            output_dir: gets ``per_image.csv``; None keeps no file.
            iou_thresholds: T of them.
            distributed: gather the scores of all processes.
        """
        self._ground_truth = GroundTruth(dataset_name)
        self._limits = {"score_threshold": score_threshold, "min_area": min_area}
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._iou_thresholds = tuple(iou_thresholds)
        self._distributed = distributed
        self._logger = logging.getLogger(__name__)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._scores: list[ImageScores] = []

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Score a batch.

        Args:
            inputs: ``image_id``, ``file_name``, ``height``, ``width`` of each image.
            outputs: ``instances`` with ``pred_masks`` (N, H, W) bool, ``scores`` (N,).

        Raises:
            UserError: predictions that cannot be compared with the ground truth.
        """
        for record, output in zip(inputs, outputs):
            instances = output["instances"].to("cpu")
            check_prediction(record, instances)
            gt, ignore = self._ground_truth(record["image_id"])
            pred = predicted_label_map(instances, gt, ignore, **self._limits)
            name = str(record.get("file_name", record["image_id"]))
            self._scores.append(
                score_label_maps(gt, pred, file_name=name, iou_thresholds=self._iou_thresholds)
            )

    def evaluate(self) -> Results:
        """
        Returns:
            {"matching": {...}, "sbd": {...}, "dic": {...}} in the main process; {} in the others
            and where no image was processed.
        """
        scores = gather_list(self._scores) if self._distributed else self._scores
        if not scores:
            return {}
        if self._output_dir is not None:
            write_per_image(self._output_dir / "per_image.csv", scores)
        results = summarize(scores)
        self._logger.info("Label map scores (fractions): \n" + results_table(results))
        return results


def summarize(scores: Sequence[ImageScores]) -> Results:
    """Figures of a data set from those of its images; see :class:`LabelMapEvaluator`.

    Args:
        scores: not empty.
    """
    matching: dict[str, float] = {}
    for per_image in zip(*(image.matchings for image in scores)):
        matching.update(_matching_results(per_image))
    sbd = np.array([image.sbd for image in scores])
    dic = np.array([image.dic for image in scores])
    return {
        "matching": matching,
        "sbd": {"SBD": float(sbd.mean()), "SBD_std": float(sbd.std())},
        "dic": {
            "DiC": float(np.abs(dic).mean()),
            "DiC_std": float(np.abs(dic).std()),
            "DiC_signed": float(dic.mean()),
        },
    }


def _matching_results(per_image):
    """Pooled and mean figures at one IoU threshold; per_image: a Matching for each image."""
    pooled = reduce(add, per_image)
    percent = f"{100 * pooled.iou_threshold:.6g}"
    results = {key + percent: float(getattr(pooled, key)) for key in ("tp", "fp", "fn")}
    for name, key in _RATIOS.items():
        results[name + percent] = float(getattr(pooled, key))
        mean = np.mean([getattr(image, key) for image in per_image])
        results[f"{name}{percent}_mean"] = float(mean)
    # An image without a match has no IoU to average, so this one is pooled only.
    results[f"matched_iou{percent}"] = float(pooled.mean_matched_iou)
    return results


def results_table(results: Results) -> str:
    """The results as a small text table: a row for each IoU, then SBD and DiC.

    Args:
        results: from :func:`summarize`.
    """
    matching = results["matching"]
    percents = [key[len("pq") :] for key in matching if key.startswith("pq") and "_" not in key]
    columns = ["accuracy{}", "accuracy{}_mean", "precision{}", "recall{}", "f1_{}", "pq{}"]
    columns += ["matched_iou{}", "tp{}", "fp{}", "fn{}"]
    rows = [[p] + [matching[column.format(p)] for column in columns] for p in percents]
    headers = ["IoU %"] + [column.replace("{}", "").rstrip("_") for column in columns]
    formats = [""] + [".3f"] * (len(columns) - 3) + [".0f"] * 3
    table = tabulate(rows, headers, tablefmt="pipe", floatfmt=formats)
    sbd, dic = results["sbd"], results["dic"]
    return (
        f"{table}\nSBD {sbd['SBD']:.3f} +- {sbd['SBD_std']:.3f}   "
        f"|DiC| {dic['DiC']:.2f} +- {dic['DiC_std']:.2f} (signed {dic['DiC_signed']:+.2f})"
    )


def write_per_image(path: Path, scores: Sequence[ImageScores]) -> None:
    """Write a row for each image, so that the worst are easy to see.

    Args:
        path: a csv file.
        scores: of all images.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = ("tp", "fp", "fn", "accuracy")
    first = scores[0].matchings
    names = [f"{key}{100 * item.iou_threshold:.6g}" for item in first for key in counts]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "n_gt", "n_pred", "sbd", "dic", *names])
        for image in scores:
            values = [getattr(item, key) for item in image.matchings for key in counts]
            head = [image.file_name, image.n_gt, image.n_pred, f"{image.sbd:.6f}", image.dic]
            writer.writerow(head + [f"{v:.6f}" if isinstance(v, float) else v for v in values])
