"""The check of a data set in COCO's JSON format, and of masks and boxes of any data set.

Shapes: N masks of one image; size = (height, width) in pixels; boxes are [x, y, width, height].
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import pycocotools.mask as mask_util

from ..errors import UserError
from ..masks import overlapping_pairs
from .check_image import check_image
from .check_report import Report
from .coco import CocoSource, require_json
from .coco_content import read_coco
from .loose_values import finite_number
from .registration import missing_sentence
from .segmentations import Problem, quoted, to_rle

BOX_TOLERANCE = 1.0  # pixels that a box may reach out of its image
SAME_OBJECT_IOU = 0.9  # two masks that share more than this are the same object twice
OVERLAP_IOU = 0.1  # two masks that share more than this are worth a notice


def check_coco(source: CocoSource, report: Report) -> None:
    """Check a JSON and all images it names.

    Args:
        source: where the files are.
        report: findings and figures are added to it.
    """
    if not source.image_root.is_dir():
        sentence = missing_sentence(source, "image_root", source.image_root)
        report.error("folder missing", source.image_root, sentence)
    try:
        require_json(source)
        content = read_coco(source.json_file, source.image_root, crowds=source.crowds)
    except UserError as error:
        report.error("JSON unusable", source.json_file, str(error))
        return
    report.errors += [*content.findings.errors, *content.findings.left_out]
    report.notices += content.findings.notices
    names = content.categories.names
    for image in content.images:
        if image.path is not None:
            check_image(image.path, report, image.size, reading=source.reading)
        entries = [
            {**entry, "id": entry["own_id"], "class": names[entry["category_id"]]}
            for entry in image.annotations
        ]
        path = image.path or source.image_root / image.file_name
        check_masks(entries, path=path, size=image.size, report=report)


def check_masks(
    annotations: "Sequence[dict[str, Any]]",
    *,
    path: Union[str, Path],
    size: "tuple[int, int]",
    report: Report,
) -> None:
    """Check the annotations of one image and add its figures.

    Args:
        annotations: with id, bbox [x, y, width, height], segmentation, iscrowd, category_id and
            class (its name, None if unknown).
        path: of the image, which findings name.
        size: its height and width by the annotations.
        report: findings and figures are added to it.
    """
    masks, used = [], []
    for annotation in annotations:
        problems, rle = _examine(annotation, size)
        for kind, problem in problems:
            sentence = f"{path}: annotation {annotation.get('id')} {problem}."
            report.error(kind, path, sentence)
        if rle is not None and not annotation.get("iscrowd", 0):
            masks.append(rle)
            used.append(annotation)
    single = [a for a in annotations if not a.get("iscrowd", 0)]
    report.crowds += len(annotations) - len(single)
    report.instances_per_image.append(len(single))
    report.classes.update(a["class"] for a in single if a["class"] is not None)
    report.areas += [int(mask_util.area(mask)) for mask in masks]
    if not single:
        report.notice("no instances", path, f"{path} has no instances.")
    _check_overlaps(masks, used, path=path, report=report)


def _examine(annotation: "dict[str, Any]", size: "tuple[int, int]") -> "tuple[list[Problem], Any]":
    """What is wrong with an annotation, and its encoded mask, None if that cannot be used."""
    rle, mask_problem = to_rle(annotation.get("segmentation"), size)
    if rle is not None and mask_util.area(rle) == 0:
        mask_problem = Problem("mask empty", "has a mask without a pixel")
    problems = (
        _class_problem(annotation),
        _box_problem(annotation.get("bbox"), size),
        _crowd_problem(annotation.get("iscrowd", 0)),
        mask_problem,
    )
    return [problem for problem in problems if problem is not None], rle


def _class_problem(annotation: "dict[str, Any]") -> Optional[Problem]:
    if annotation["class"] is not None:
        return None
    category = quoted(annotation.get("category_id"))
    return Problem("class out of range", f"has category {category}, which is not in the set")


def _box_problem(box: Any, size: "tuple[int, int]") -> Optional[Problem]:
    if not _is_box(box):
        return Problem("box malformed", f"has the box {quoted(box)}, not [x, y, width, height]")
    if _outside(box, size):
        return Problem(
            "box outside", f"has the box {box}, outside its image of {size[1]}x{size[0]} pixels"
        )
    if min(box[2:]) <= 0:
        return Problem("box empty", f"has the box {box} without area")
    return None


def _crowd_problem(crowd: Any) -> Optional[Problem]:
    if crowd in (0, 1):
        return None
    return Problem("iscrowd malformed", f"has iscrowd {quoted(crowd)}, neither 0 nor 1")


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, (list, tuple))
        and len(box) == 4
        and all(isinstance(v, (int, float)) and finite_number(v) is not None for v in box)
    )


def _outside(box: "Sequence[float]", size: "tuple[int, int]") -> bool:
    x, y, width, height = box
    low = min(x, y) < -BOX_TOLERANCE
    return low or x + width > size[1] + BOX_TOLERANCE or y + height > size[0] + BOX_TOLERANCE


def _check_overlaps(
    masks: "list[Any]",
    annotations: "list[dict[str, Any]]",
    *,
    path: Union[str, Path],
    report: Report,
) -> None:
    pairs = overlapping_pairs(masks, masks)
    once = pairs.rows < pairs.columns
    rows, columns, iou = (array[once] for array in pairs)
    same = iou > SAME_OBJECT_IOU
    for i, j, value in zip(rows[same], columns[same], iou[same]):
        sentence = (
            f"{path}: annotations {annotations[i]['id']} and {annotations[j]['id']} have nearly "
            f"the same mask (IoU {value:.2f}): one object, annotated twice?"
        )
        report.error("same mask twice", path, sentence)
    overlapping = int(np.sum((iou > OVERLAP_IOU) & ~same))
    if overlapping:
        sentence = (
            f"{path}: {overlapping} pairs of masks overlap (IoU {OVERLAP_IOU} or more); the "
            "smaller object counts as the one in front."
        )
        report.notice("overlapping masks", path, sentence)
