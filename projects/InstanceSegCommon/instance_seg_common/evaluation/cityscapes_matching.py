"""Overlaps of predictions with Cityscapes' labels, in the form that the official script reads.

The names of the entries (``instID``, ``matchedPred`` ...) are those of the script.

Shape shorthand in this module:
    H, W: image   N: predicted instances   I: ids present in a label
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.structures import Instances

from ..data.cityscapes import CLASS_IDS, PER_CLASS

GroundTruthEntry = dict[str, Any]  # instID, pixelCount, medDist, distConf
# "groundTruth" and "prediction", each by the name of a class.
ImageMatches = dict[str, dict[str, list[dict[str, Any]]]]


def void_ids(table: Sequence[Any]) -> "list[int]":
    """Ids whose pixels the official score leaves out.

    Objects of the classes that are not scored, such as caravan 29001, are not among them: the
    official script compares whole ids with the ids of classes, so that only their groups are void.

    Args:
        table: the official labels.
    """
    return [label.id for label in table if label.ignoreInEval]


def class_of(ids: np.ndarray) -> np.ndarray:
    """The class of each id of a label: int64 of the shape of ``ids``."""
    ids = ids.astype(np.int64)
    return np.where(ids < PER_CLASS, ids, ids // PER_CLASS)


def match_image(
    labels: np.ndarray,
    ground_truth: Sequence[GroundTruthEntry],
    instances: Instances,
    *,
    void: Sequence[int],
) -> ImageMatches:
    """Overlaps of the predictions of an image with its objects, as the official script takes them.

    Args:
        labels: (H, W) ids.
        ground_truth: of each object and group: ``instID``, ``pixelCount``, ``medDist``,
            ``distConf``.
        instances: ``pred_masks`` (N, H, W) bool, ``pred_classes``, ``scores`` (N,).
        void: see :func:`void_ids`.

    Returns:
        "groundTruth" and "prediction", each {class name: list of dict}. An object knows the
        predictions of its class that touch it (``matchedPred``), and a prediction the objects
        (``matchedGt``), both with ``intersection``.
    """
    objects = _objects_by_class(ground_truth)
    predicted = {name: [] for name in CLASS_IDS}
    class_names = list(CLASS_IDS)
    for index, score, shared in _shared_pixels(instances, labels):
        name = class_names[index]
        prediction = {
            "labelID": CLASS_IDS[name],
            "pixelCount": sum(shared.values()),
            "confidence": score,
            "voidIntersection": sum(shared.get(i, 0) for i in void),
        }
        prediction["matchedGt"] = _link(prediction, objects[name], shared)
        predicted[name].append(prediction)
    return {"groundTruth": objects, "prediction": predicted}


def _objects_by_class(ground_truth):
    objects = {name: [] for name in CLASS_IDS}
    names = {class_id: name for name, class_id in CLASS_IDS.items()}
    for entry in ground_truth:
        class_id = int(class_of(np.array(entry["instID"])))
        objects[names[class_id]].append({**entry, "labelID": class_id, "matchedPred": []})
    return objects


def _shared_pixels(instances, labels):
    """(0-based class, score, {id: pixels}) of each prediction that has a pixel."""
    if len(instances) == 0:
        return
    ids, codes = _codes(labels)
    classes, scores = instances.pred_classes.tolist(), instances.scores.tolist()
    for mask, index, score in zip(instances.pred_masks, classes, scores):
        shared = _pixels_per_id(mask.numpy(), ids, codes)
        if shared:  # the official script, too, leaves out what has no pixel
            yield index, score, shared


def _codes(labels):
    """ids (I,) present in a label, and the index of each pixel's id among them, (H, W)."""
    ids = np.unique(labels)
    table = np.zeros(int(ids[-1]) + 1, dtype=np.uint16)
    table[ids] = np.arange(len(ids))
    return ids.tolist(), table[labels]


def _pixels_per_id(mask, ids, codes):
    """{id: pixels} of a mask (H, W) bool, without the ids that it does not touch."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return {}
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    counts = np.bincount(codes[box][mask[box]], minlength=len(ids)).tolist()
    return {i: count for i, count in zip(ids, counts) if count}


def _link(prediction, objects, shared):
    """Enter a prediction at the objects of its class that it touches; returns these as copies."""
    touched = []
    for entry in objects:
        intersection = shared.get(entry["instID"], 0)
        if intersection:
            known = {key: value for key, value in entry.items() if key != "matchedPred"}
            touched.append({**known, "intersection": intersection})
            entry["matchedPred"].append({**prediction, "intersection": intersection})
    return touched
