"""The check of a data set in COCO's JSON format, and of masks and boxes of any data set.

Shapes: N masks of one image; size = (height, width) in pixels; boxes are [x, y, width, height].
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import pycocotools.mask as mask_util

from ..errors import UserError
from ..masks import overlapping_pairs
from .check_image import check_image
from .check_report import Report, listed
from .coco import CocoSource, read_coco_json
from .registration import missing_sentence
from .segmentations import Problem, is_number, quoted, to_rle

PARTS = {"images": "image", "annotations": "annotation", "categories": "category"}
NO_ID = "no id: "  # before the repr of what cannot be an id
LARGEST_SIDE = 2**17  # pixels
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
        content = read_coco_json(source)
    except UserError as error:
        report.error("JSON unusable", source.json_file, str(error))
        return
    _check_ids(source, content, report)
    _check_owners(source, content, report)
    names = {category["id"]: category["name"] for category in content["categories"]}
    per_image = defaultdict(list)
    for annotation in content["annotations"]:
        entry = {**annotation, "class": names.get(_key(annotation.get("category_id")))}
        per_image[_key(annotation.get("image_id"))].append(entry)
    for image in content["images"]:
        annotations = per_image[_key(image.get("id"))]
        _check_coco_image(source, image, annotations=annotations, report=report)


def _key(value: Any) -> Union[int, str]:
    """An id as it can be looked up: what is neither a whole number nor a text becomes its repr."""
    usable = isinstance(value, (int, str)) and not isinstance(value, bool)
    return value if usable else f"{NO_ID}{quoted(value)}"


def _check_ids(source: CocoSource, content: "dict[str, Any]", report: Report) -> None:
    path = source.json_file
    for part, what in PARTS.items():
        ids = [_key(entry.get("id")) for entry in content[part]]
        wrong = [key for key in ids if str(key).startswith(NO_ID)]
        if wrong or len({type(key) for key in ids}) > 1:
            sentence = (
                f"{path}: the {what} ids must be whole numbers, or all texts; "
                f"{listed(wrong) or 'they are mixed'}."
            )
            report.error(f"{what} id malformed", path, sentence)
        twice = [key for key, count in Counter(ids).items() if count > 1]
        if twice:
            sentence = f"{path}: the {what} ids {listed(twice)} occur more than once."
            report.error(f"duplicate {what} id", path, sentence)


def _check_owners(source: CocoSource, content: "dict[str, Any]", report: Report) -> None:
    """Check that every annotation belongs to an image."""
    path = source.json_file
    known = {_key(image.get("id")) for image in content["images"]}
    lost = [a.get("id") for a in content["annotations"] if _key(a.get("image_id")) not in known]
    if lost:
        sentence = f"{path}: the annotations {listed(lost)} belong to images that it does not list."
        report.error("unknown image", path, sentence)


def _check_coco_image(
    source: CocoSource,
    image: "dict[str, Any]",
    *,
    annotations: "list[dict[str, Any]]",
    report: Report,
) -> None:
    absent = [key for key in ("id", "file_name", "height", "width") if key not in image]
    if absent:
        sentence = f"{source.json_file}: image {image} lacks {listed(absent)}."
        report.error("image entry incomplete", source.json_file, sentence)
        return
    wrong = _wrong_fields(image)
    if wrong:
        sentence = f"{source.json_file}: image {quoted(image['id'])} has the {wrong}."
        report.error("image entry malformed", source.json_file, sentence)
        return
    path, size = source.image_root / image["file_name"], (image["height"], image["width"])
    if path.is_file():
        check_image(path, report, size)
    elif source.image_root.is_dir():
        sentence = f"Image {path} (id {image['id']} in {source.json_file}) does not exist."
        report.error("image missing", path, sentence)
    check_masks(annotations, path=path, size=size, report=report)


def _wrong_fields(image: "dict[str, Any]") -> str:
    """The first field of an image entry with an impossible value, "" if there is none."""
    for key in ("height", "width"):
        whole = isinstance(image[key], int) and not isinstance(image[key], bool)
        if not whole or not 1 <= image[key] <= LARGEST_SIDE:
            return f"{key} {quoted(image[key])}, not a whole number from 1 to {LARGEST_SIDE}"
    if not isinstance(image["file_name"], str) or not image["file_name"]:
        return f"file_name {quoted(image['file_name'])}, not a text"
    return ""


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
    return isinstance(box, (list, tuple)) and len(box) == 4 and all(is_number(v) for v in box)


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
            f"the same mask (IoU {value:.2f}); remove one."
        )
        report.error("same mask twice", path, sentence)
    overlapping = int(np.sum((iou > OVERLAP_IOU) & ~same))
    if overlapping:
        sentence = (
            f"{path}: {overlapping} pairs of masks overlap (IoU {OVERLAP_IOU} or more); the "
            "smaller object counts as the one in front."
        )
        report.notice("overlapping masks", path, sentence)
