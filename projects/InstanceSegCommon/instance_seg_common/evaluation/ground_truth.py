"""What predictions are compared with, and which of them are left out of the evaluation.

Shape shorthand in this module:
    H, W: image   N: predicted instances
"""

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
from detectron2.structures import Instances

from ..data.images import read_ignore_map
from ..data.registration import get_dataset_dicts
from ..errors import UserError
from ..masks import CutMasks, annotations_to_label_map
from .contingency import relabel

# A prediction with this share of its pixels in an ignored region is left out.
IGNORED_SHARE = 0.5


class GroundTruth:
    """Label maps of a registered data set, decoded one image at a time."""

    def __init__(self, dataset_name: str):
        """
        Args:
            dataset_name: registered, in Detectron2's standard format.
        """
        self._name = dataset_name
        self._records = {record["image_id"]: record for record in get_dataset_dicts(dataset_name)}

    def record(self, image_id: Any) -> "dict[str, Any]":
        """The data set dict of an image; a UserError if the data set has none of this id."""
        record = self._records.get(image_id)
        if record is None:
            raise UserError(
                f"Image {image_id!r} was evaluated but is not in data set '{self._name}'. "
                "Build the evaluator with the name of the data set that the loader reads."
            )
        return record

    def __call__(self, image_id: Any) -> "tuple[np.ndarray, np.ndarray]":
        """
        Args:
            image_id: as in the data set dict.

        Returns:
            Label map (H, W) int64, 0 background, ids consecutive; (H, W) bool, True in the ignored
            region: crowds, and value 255 of ``sem_seg_file_name``.

        Raises:
            UserError: the data set has no such image; the ignore map cannot be used.
        """
        labels, ignore = labels_and_ignored(self.record(image_id))
        return relabel(labels), ignore

    def void_region(self, image_id: Any) -> Optional[np.ndarray]:
        """The ignored region without objects, and without crowds, which COCO has a rule for.

        Args:
            image_id: as in the data set dict.

        Returns:
            (H, W) bool; None where the data set names no ignored regions.

        Raises:
            UserError: the data set has no such image; the ignore map cannot be used.
        """
        record = self.record(image_id)
        if "sem_seg_file_name" not in record:
            return None
        labels, _ = annotations_to_label_map(
            record.get("annotations", []), record["height"], record["width"]
        )
        return read_ignore_map(record["sem_seg_file_name"], labels.shape) & (labels == 0)


def labels_and_ignored(record: Mapping[str, Any]) -> "tuple[np.ndarray, np.ndarray]":
    """Objects and ignored region of a data set dict.

    Args:
        record: Detectron2's format, with ``height`` and ``width``.

    Returns:
        (H, W) int64 of :func:`..masks.annotations_to_label_map`; (H, W) bool: crowds, and value 255
        of ``sem_seg_file_name``.

    Raises:
        UserError: the ignore map cannot be used.
    """
    labels, ignore = annotations_to_label_map(
        record.get("annotations", []), record["height"], record["width"]
    )
    if record.get("sem_seg_file_name"):
        ignore = ignore | read_ignore_map(record["sem_seg_file_name"], labels.shape)
    return labels, ignore


def drop_ignored(instances: Instances, region: np.ndarray) -> Instances:
    """Predictions without those that lie mostly in an ignored region.

    Args:
        instances: ``pred_masks`` (N, H, W) bool, on any device.
        region: (H, W) bool, ignored and without an object.

    Returns:
        Those with less than ``IGNORED_SHARE`` of their pixels in the region.
    """
    if len(instances) == 0 or not region.any():
        return instances
    masks = CutMasks.of(instances.pred_masks)
    areas = masks.areas()
    inside = masks.within(region).areas()
    kept = (inside < IGNORED_SHARE * areas) | (areas == 0)
    return instances[kept.to(instances.scores.device)]
