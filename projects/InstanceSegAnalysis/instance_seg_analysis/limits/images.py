"""The images on which limits are measured: what no model changes about them.

Shape shorthand in this module:
    I: images   G: true objects of an image
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from instance_seg_analysis.annotations import ground_truth_boxes
from instance_seg_analysis.limits.matching import neighbour_box_iou

GROUPS = ("few", "middle", "many")
CROWDINGS = {"objects": "objects", "overlap": "mean box IoU with the nearest neighbour"}
Record = dict[str, Any]


class MeasuredImages(NamedTuple):
    """The images of a measurement.

    records: data set dicts; objects: (I,) how many each has; neighbour_iou: of each image (G,) box
    IoU with the nearest neighbour; groups: (I,) tercile of crowding; group_names: of these.
    """

    records: list[Record]
    objects: np.ndarray
    neighbour_iou: list[np.ndarray]
    groups: np.ndarray
    group_names: tuple[str, ...]


def describe_images(records: Sequence[Record], *, crowding: str = "objects") -> MeasuredImages:
    """Facts about the images that no model changes.

    Args:
        records (list[dict]): data set dicts with annotations.
        crowding (str): of ``CROWDINGS``, by which images are divided into terciles.
    """
    iou = [neighbour_box_iou(ground_truth_boxes(record)) for record in records]
    objects = np.array([len(image) for image in iou])
    means = np.array([image.mean() if len(image) else 0.0 for image in iou])
    values = objects if crowding == "objects" else means
    groups = terciles(values)
    names = tuple(_group_name(name, values[groups == g]) for g, name in enumerate(GROUPS))
    return MeasuredImages(list(records), objects, iou, groups=groups, group_names=names)


def _group_name(name: str, values: np.ndarray) -> str:
    if not len(values):
        return name
    low, high = (f"{value:.3g}" for value in (values.min(), values.max()))
    return f"{name} ({low})" if low == high else f"{name} ({low} to {high})"


def terciles(values: "Sequence[float] | np.ndarray") -> np.ndarray:
    """The third of the values that each belongs to; equal values stay together.

    Args:
        values (ndarray): (I,) numbers.

    Returns:
        ndarray: (I,) int64: 0, 1 or 2; with many equal values a third can be empty.
    """
    values = np.asarray(values)
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    return np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values, side="left")


def evenly_spread(records: Sequence[Record], number: Optional[int] = None) -> "list[Record]":
    """So many of the records, evenly spread over the list; all of them for None."""
    number = min(number or len(records), len(records))
    picked = np.unique(np.linspace(0, len(records) - 1, number).astype(int))
    return [records[index] for index in picked]
