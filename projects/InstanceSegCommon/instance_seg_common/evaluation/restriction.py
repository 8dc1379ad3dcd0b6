"""Predictions restricted to the pixels that a data set wants evaluated, before they are scored.

Shape shorthand in this module:
    H, W: image   N: predicted instances
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.structures import Instances

from ..data.label_images import read_foreground
from ..errors import UserError
from ..masks import CutMasks
from .checks import check_prediction
from .ground_truth import GroundTruth

# From the model's input to the (H, W) bool region that is evaluated; None stands for all of it.
Region = Callable[[Mapping[str, Any]], Optional[np.ndarray]]


class RestrictedEvaluators(DatasetEvaluators):
    """Evaluators that see of each predicted mask only what lies in a region of its image.

    A prediction of which nothing is left is not evaluated. Boxes stay as they were predicted.
    """

    def __init__(self, evaluators: Sequence[DatasetEvaluator], region: Region):
        """
        Args:
            evaluators: what gets the restricted predictions.
            region: of an image, by the model's input.
        """
        super().__init__(evaluators)
        self._region = region

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Restrict a batch and hand it on.

        Raises:
            UserError: predictions that cannot be compared with the ground truth.
        """
        restricted = []
        for record, output in zip(inputs, outputs):
            check_prediction(record, output["instances"])
            instances = restrict_instances(output["instances"], self._region(record))
            restricted.append({**output, "instances": instances})
        super().process(inputs, restricted)


def restrict_evaluators(
    cfg: CfgNode, dataset_name: str, evaluators: Sequence[DatasetEvaluator]
) -> "list[DatasetEvaluator]":
    """Evaluators that see of a prediction what the config and the data set want evaluated.

    Args:
        cfg: with ``TEST.FOREGROUND_GIVEN``, only what lies in the supplied foreground.
        dataset_name: registered; of evaluator_type "voc", only what is not void.
        evaluators: of the data set.
    """
    if cfg.TEST.FOREGROUND_GIVEN:
        evaluators = [RestrictedEvaluators(evaluators, supplied_foreground)]
    if MetadataCatalog.get(dataset_name).get("evaluator_type") == "voc":
        evaluators = [RestrictedEvaluators(evaluators, outside_void(dataset_name))]
    return list(evaluators)


def restrict_to_config(cfg: CfgNode, record: Mapping[str, Any], instances: Instances) -> Instances:
    """What of a prediction of one image the config wants evaluated.

    Args:
        cfg: with ``TEST.FOREGROUND_GIVEN``, only what lies in the supplied foreground.
        record: data set dict or model input.
        instances: of :func:`restrict_instances`.
    """
    region = supplied_foreground(record) if cfg.TEST.FOREGROUND_GIVEN else None
    return restrict_instances(instances, region)


def restrict_instances(instances: Instances, region: Optional[np.ndarray]) -> Instances:
    """Predictions without what lies outside a region.

    Args:
        instances: ``pred_masks`` (N, H, W) bool, on any device; stays as it is.
        region: (H, W) bool; None for the whole image.

    Returns:
        Those of which something is left, and those that had no pixel before, which are wrong and
        not outside.
    """
    if region is None or len(instances) == 0:
        return instances
    masks = CutMasks.of(instances.pred_masks)
    inside = masks.within(region)
    left = inside.nonempty() | ~masks.nonempty()
    restricted = instances[left]
    kept = inside[left]
    restricted.pred_masks = kept if isinstance(instances.pred_masks, CutMasks) else kept.tensor
    return restricted


def outside_void(dataset_name: str) -> Region:
    """The region of a data set with void pixels, which are neither objects nor background.

    Args:
        dataset_name: registered; void is value 255 of ``sem_seg_file_name``.
    """
    ground_truth = GroundTruth(dataset_name)

    def region(record: Mapping[str, Any]) -> Optional[np.ndarray]:
        void = ground_truth.void_region(record["image_id"])
        return None if void is None else ~void

    return region


def supplied_foreground(record: Mapping[str, Any]) -> np.ndarray:
    """The region of a data set that supplies the foreground of each image.

    Args:
        record: model input with ``foreground_file_name``, ``height`` and ``width``.

    Returns:
        (H, W) bool.

    Raises:
        UserError: the data set supplies none, or the file cannot be used.
    """
    path = record.get("foreground_file_name")
    if path is None:
        raise UserError(no_foreground_sentence(record.get("file_name")))
    return read_foreground(path, (record["height"], record["width"]))


def no_foreground_sentence(file_name: Optional[str]) -> str:
    """The sentence for an image whose foreground is asked for and not supplied."""
    return (
        f"TEST.FOREGROUND_GIVEN is True, but the data set supplies no foreground for {file_name}; "
        "set it to False. The sets cvppp_* supply one."
    )
