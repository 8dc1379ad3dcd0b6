"""The check of a data set in COCO's JSON format, and of masks and boxes of any data set.

Shapes: N masks of one image; size = (height, width) in pixels; boxes are [x, y, width, height].
"""

from collections import Counter, defaultdict

import numpy as np
import pycocotools.mask as mask_util

from ..errors import UserError
from .check_label_map import check_image
from .check_report import listed
from .coco import read_coco_json
from .registration import missing_sentence
from .segmentations import is_number, quoted, to_rle

LARGEST_SIDE = 2**17  # pixels
BOX_TOLERANCE = 1.0  # pixels that a box may reach out of its image
SAME_OBJECT_IOU = 0.9  # two masks that share more than this are the same object twice
OVERLAP_IOU = 0.1  # two masks that share more than this are worth a notice


def check_coco(source, report):
    """Check a JSON and all images it names.

    Args:
        source (CocoSource): where the files are.
        report (Report): findings and figures are added to it.
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
    names = {category["id"]: category["name"] for category in content["categories"]}
    per_image = defaultdict(list)
    for annotation in content["annotations"]:
        entry = {**annotation, "class": names.get(_key(annotation.get("category_id")))}
        per_image[_key(annotation.get("image_id"))].append(entry)
    for image in content["images"]:
        _check_coco_image(source, image, per_image[_key(image.get("id"))], report)


def _key(value):
    """An id as it can be looked up: what is neither a whole number nor a text becomes its repr."""
    usable = isinstance(value, (int, str)) and not isinstance(value, bool)
    return value if usable else f"no id: {quoted(value)}"


def _check_ids(source, content, report):
    path = source.json_file
    for part, what in (
        ("images", "image"),
        ("annotations", "annotation"),
        ("categories", "category"),
    ):
        ids = [_key(entry.get("id")) for entry in content[part]]
        wrong = [key for key in ids if str(key).startswith("no id: ")]
        if wrong or len({type(key) for key in ids}) > 1:
            sentence = (
                f"{path}: the {what} ids must be whole numbers, or all texts; "
                f"{listed(wrong) or 'they are mixed'}."
            )
            report.error(f"{what} id malformed", path, sentence)
        counts = Counter(ids)
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            sentence = f"{path}: the {what} ids {listed(twice)} occur more than once."
            report.error(f"duplicate {what} id", path, sentence)
    known = {_key(image.get("id")) for image in content["images"]}
    lost = [a.get("id") for a in content["annotations"] if _key(a.get("image_id")) not in known]
    if lost:
        sentence = f"{path}: the annotations {listed(lost)} belong to images that it does not list."
        report.error("unknown image", path, sentence)


def _check_coco_image(source, image, annotations, report):
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
    check_masks(report, path, size, annotations)


def _wrong_fields(image):
    """The first field of an image entry with an impossible value, "" if there is none."""
    for key in ("height", "width"):
        whole = isinstance(image[key], int) and not isinstance(image[key], bool)
        if not whole or not 1 <= image[key] <= LARGEST_SIDE:
            return f"{key} {quoted(image[key])}, not a whole number from 1 to {LARGEST_SIDE}"
    if not isinstance(image["file_name"], str) or not image["file_name"]:
        return f"file_name {quoted(image['file_name'])}, not a text"
    return ""


def check_masks(report, path, size, annotations):
    """Check the annotations of one image and add its figures.

    Args:
        report (Report): findings and figures are added to it.
        path (pathlib.Path or str): the image that findings name.
        size (tuple[int, int]): its height and width by the annotations.
        annotations (list[dict]): id, bbox [x, y, width, height], segmentation, iscrowd,
            category_id and class (its name, None if unknown).
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
    _check_overlaps(report, path, masks, used)


def _examine(annotation, size):
    """What is wrong with an annotation, list of (kind, end of a sentence), and its mask or None."""
    found = []
    if annotation["class"] is None:
        category = annotation.get("category_id")
        found.append(
            ("class out of range", f"has category {quoted(category)}, which is not in the set")
        )
    box = annotation.get("bbox")
    if not _is_box(box):
        found.append(("box malformed", f"has the box {quoted(box)}, not [x, y, width, height]"))
    elif _outside(box, size):
        found.append(
            ("box outside", f"has the box {box}, outside its image of {size[1]}x{size[0]} pixels")
        )
    elif min(box[2:]) <= 0:
        found.append(("box empty", f"has the box {box} without area"))
    if annotation.get("iscrowd", 0) not in (0, 1):
        crowd = quoted(annotation["iscrowd"])
        found.append(("iscrowd malformed", f"has iscrowd {crowd}, neither 0 nor 1"))
    rle, problem = to_rle(annotation.get("segmentation"), size)
    if problem:
        found.append(problem)
    elif mask_util.area(rle) == 0:
        found.append(("mask empty", "has a mask without a pixel"))
    return found, rle


def _is_box(box):
    return isinstance(box, (list, tuple)) and len(box) == 4 and all(is_number(v) for v in box)


def _outside(box, size):
    x, y, width, height = box
    low = min(x, y) < -BOX_TOLERANCE
    return low or x + width > size[1] + BOX_TOLERANCE or y + height > size[0] + BOX_TOLERANCE


def _check_overlaps(report, path, masks, annotations):
    if len(masks) < 2:
        return
    iou = np.triu(mask_util.iou(masks, masks, [0] * len(masks)), k=1)  # (N, N)
    for i, j in zip(*np.nonzero(iou > SAME_OBJECT_IOU)):
        sentence = (
            f"{path}: annotations {annotations[i]['id']} and {annotations[j]['id']} have nearly "
            f"the same mask (IoU {iou[i, j]:.2f}); remove one."
        )
        report.error("same mask twice", path, sentence)
    overlapping = int(np.sum((iou > OVERLAP_IOU) & (iou <= SAME_OBJECT_IOU)))
    if overlapping:
        sentence = (
            f"{path}: {overlapping} pairs of masks overlap (IoU {OVERLAP_IOU} or more); the "
            "smaller object counts as the one in front."
        )
        report.notice("overlapping masks", path, sentence)
