"""Choosing the score threshold of the label map, on images that are not those of the test."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, Optional

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators, inference_on_dataset
from detectron2.utils import comm
from tabulate import tabulate
from torch import nn

from ..data.mapper import build_test_mapper
from ..tiling.tiled_model import with_tiles
from .checks import check_prediction
from .gathering import gather_list
from .ground_truth import GroundTruth
from .label_map import predicted_label_map
from .matching import Matching, match_label_maps
from .restriction import restrict_evaluators

SCORE_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


class ScoreThresholdSweep(DatasetEvaluator):
    """Matching counts pooled over images, for each score threshold, from one pass of the model."""

    def __init__(
        self,
        dataset_name: str,
        thresholds: Sequence[float] = SCORE_THRESHOLDS,
        *,
        min_area: int = 0,
        iou_threshold: float = 0.5,
    ):
        """
        Args:
            dataset_name: registered, in Detectron2's standard format.
            thresholds: scores to try.
            min_area: as TEST.LABEL_MAP_MIN_AREA, pixels.
            iou_threshold: of the matching.
        """
        self._ground_truth = GroundTruth(dataset_name)
        self._thresholds = tuple(thresholds)
        self._min_area = min_area
        self._iou_threshold = iou_threshold
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._rows: list[list[Matching]] = []  # of each image, one for each score threshold

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Match a batch at every score threshold; arguments as in LabelMapEvaluator."""
        for record, output in zip(inputs, outputs):
            instances = output["instances"].to("cpu")
            check_prediction(record, instances)
            gt, ignore = self._ground_truth(record["image_id"])
            label_maps = (
                predicted_label_map(
                    instances, gt, ignore, score_threshold=score, min_area=self._min_area
                )
                for score in self._thresholds
            )
            self._rows.append([match_label_maps(gt, m, self._iou_threshold) for m in label_maps])

    def evaluate(self) -> "dict[float, Matching]":
        """
        Returns:
            Pooled over images, by score threshold, in the main process; {} elsewhere.
        """
        rows = gather_list(self._rows)
        pooled = [reduce(add, column) for column in zip(*rows)]
        return dict(zip(self._thresholds, pooled))


def best_threshold(pooled: Mapping[float, Matching]) -> float:
    """The score threshold with the highest accuracy; of several in a row, the middle one.

    Args:
        pooled: by score threshold, not empty.
    """
    best = max(matching.accuracy for matching in pooled.values())
    runs = itertools.groupby(sorted(pooled), key=lambda score: pooled[score].accuracy == best)
    longest = max((list(run) for is_best, run in runs if is_best), key=len)
    return longest[(len(longest) - 1) // 2]


def sweep_score_threshold(
    cfg: CfgNode,
    model: nn.Module,
    dataset_name: str,
    *,
    max_images: Optional[int] = None,
    thresholds: Sequence[float] = SCORE_THRESHOLDS,
) -> "dict[float, Matching]":
    """Run the model once over a data set and match at every score threshold.

    Args:
        cfg: with the keys of ``add_common_config``.
        model: on its device.
        dataset_name: registered; not a set that figures are reported on.
        max_images: use this many images, spread evenly over the set; None for all.
        thresholds: scores to try.

    Returns:
        See :class:`ScoreThresholdSweep`.
    """
    records = get_detection_dataset_dicts([dataset_name], filter_empty=False)
    if max_images is not None and max_images < len(records):
        chosen = np.linspace(0, len(records) - 1, max(max_images, 1)).round().astype(int)
        records = [records[index] for index in chosen]
    loader = build_detection_test_loader(
        records, mapper=build_test_mapper(cfg, tiled=True), num_workers=cfg.DATALOADER.NUM_WORKERS
    )
    sweep = ScoreThresholdSweep(dataset_name, thresholds, min_area=cfg.TEST.LABEL_MAP_MIN_AREA)
    evaluators = DatasetEvaluators(restrict_evaluators(cfg, dataset_name, [sweep]))
    pooled = inference_on_dataset(with_tiles(cfg, model), loader, evaluators)
    if comm.is_main_process():
        _warn_of_doubtful_best(pooled)
    return pooled


def _warn_of_doubtful_best(pooled):
    logger = logging.getLogger(__name__)
    best = best_threshold(pooled)
    if not any(matching.tp for matching in pooled.values()):
        logger.warning("No prediction matched at any score threshold: the best one means nothing.")
    elif best in (min(pooled), max(pooled)):
        logger.warning(f"The best score threshold {best} is an end of the range that was tried.")


def sweep_table(pooled: Mapping[float, Matching]) -> str:
    """The sweep as a text table, the best row marked.

    Args:
        pooled: by score threshold.
    """
    best = best_threshold(pooled)
    rows = [
        [score, m.accuracy, m.precision, m.recall, m.tp, m.fp, m.fn, "<- best" * (score == best)]
        for score, m in sorted(pooled.items())
    ]
    headers = ["score", "accuracy", "precision", "recall", "tp", "fp", "fn", ""]
    formats = (".2f", ".4f", ".4f", ".4f", ".0f", ".0f", ".0f", "")
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=formats)
