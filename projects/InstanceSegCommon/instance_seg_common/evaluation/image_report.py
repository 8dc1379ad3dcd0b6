"""A prediction of one image beside the truth: what is true, what is predicted, what is wrong.

Shape shorthand in this module:
    H, W: image   N: predicted instances
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from detectron2.structures import Instances

from ..masks import instances_to_label_map, owners_of_pixels
from .error_kinds import InstanceErrors, classify_errors
from .ground_truth import drop_ignored, labels_and_ignored
from .label_map import predicted_label_map


class Truth(NamedTuple):
    """labels (H, W) int64, ids 1..K; ignore (H, W) bool; classes: id -> 0-based class."""

    labels: np.ndarray
    ignore: np.ndarray
    classes: "dict[int, int]"


class Prediction(NamedTuple):
    """labels (H, W) int64, ids 1..K; classes: id -> 0-based class; scores: id -> score."""

    labels: np.ndarray
    classes: "dict[int, int]"
    scores: "dict[int, float]"


class ImageReport(NamedTuple):
    """A prediction of one image beside the truth.

    truth: of the image.
    prediction: all instances with at least the score threshold, as a user wants to see them.
    evaluated: what of them the evaluation compares with the truth.
    errors: of ``evaluated``.
    """

    truth: Truth
    prediction: Prediction
    evaluated: Prediction
    errors: InstanceErrors


def report_image(
    truth: Truth,
    instances: Instances,
    *,
    score_threshold: float = 0.5,
    min_area: int = 0,
    iou_threshold: float = 0.5,
    compare_classes: bool = False,
) -> ImageReport:
    """Compare a prediction with the truth.

    Args:
        truth: of :func:`truth_of`.
        instances: of the model: ``pred_masks`` (N, H, W) bool, ``scores``, ``pred_classes``.
        score_threshold, min_area: of ``masks.instances_to_label_map``.
        iou_threshold: from this IoU on, a prediction matches an object.
        compare_classes: whether a matched pair of different classes is an error.
    """
    limits = {"score_threshold": score_threshold, "min_area": min_area}
    prediction = prediction_of(instances, **limits)
    evaluated = evaluated_prediction(instances, truth, **limits)
    errors = classify_errors(
        truth.labels,
        evaluated.labels,
        iou_threshold,
        gt_classes=truth.classes if compare_classes else None,
        pred_classes=evaluated.classes if compare_classes else None,
    )
    return ImageReport(truth, prediction, evaluated, errors)


def truth_of(dataset_dict: Mapping[str, Any]) -> Truth:
    """Ground truth of a data set dict.

    Args:
        dataset_dict: Detectron2's format, with ``annotations``, ``height`` and ``width``.

    Returns:
        Id i + 1 is the i-th annotation that is not a crowd.

    Raises:
        UserError: the map of ignored regions cannot be used.
    """
    labels, ignore = labels_and_ignored(dataset_dict)
    objects = [a for a in dataset_dict.get("annotations", []) if not a.get("iscrowd", 0)]
    classes = {i: a["category_id"] for i, a in enumerate(objects, start=1)}
    return Truth(labels, ignore, classes)


def prediction_of(
    instances: Instances, score_threshold: float = 0.5, min_area: int = 0
) -> Prediction:
    """Predicted instances as a label map with the class and score of each id.

    Args:
        instances: ``pred_masks`` (N, H, W) bool, ``scores``, ``pred_classes``.
        score_threshold, min_area: of ``masks.instances_to_label_map``.
    """
    instances = instances.to("cpu")
    return _described(instances, instances_to_label_map(instances, score_threshold, min_area))


def evaluated_prediction(
    instances: Instances, truth: Truth, *, score_threshold: float = 0.5, min_area: int = 0
) -> Prediction:
    """What of a prediction the evaluation compares with the ground truth.

    Args:
        instances, score_threshold, min_area: of :func:`prediction_of`.
        truth: of the same image; what lies in its ignored region is not evaluated.

    Returns:
        With the labels of ``label_map.predicted_label_map``.
    """
    # Before classes are looked up: a dropped instance would hand its class to what it covers.
    instances = drop_ignored(instances.to("cpu"), truth.ignore & (truth.labels == 0))
    labels = predicted_label_map(
        instances,
        truth.labels,
        truth.ignore,
        score_threshold=score_threshold,
        min_area=min_area,
    )
    return _described(instances, labels)


def _described(instances, labels):
    """A label map with the class and score of each id, taken from its first pixel."""
    ids, first = np.unique(labels, return_index=True)
    owners = owners_of_pixels(instances).ravel()[first] - 1
    objects = [(i, owner) for i, owner in zip(ids.tolist(), owners.tolist()) if i]
    classes, scores = instances.pred_classes.tolist(), instances.scores.tolist()
    return Prediction(
        labels,
        {label: int(classes[owner]) for label, owner in objects},
        {label: float(scores[owner]) for label, owner in objects},
    )
