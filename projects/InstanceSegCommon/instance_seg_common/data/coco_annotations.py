"""One annotation of a COCO file, with everything that evaluation and training need."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional, TypedDict, Union

import pycocotools.mask as mask_util

from .coco_categories import Categories
from .coco_notes import Findings
from .loose_values import Id, finite_number, id_key, whole_number
from .segmentations import TEXTS, TOO_SHORT, clean_mask, encoded, quoted

Size = tuple[int, int]
OBJECTS = "objects"  # value of ``crowds``: crowds are read as objects
LEFT_OUT = ("mask missing", TOO_SHORT, "mask empty")  # problems that leave no pixel to use
THIN = 2.0  # pixels: polygons as thin as this, or reaching out, are drawn to see what is left
TOLERANCE, SHARE = 2.0, 0.1  # pixels, and share of a side, that a box may differ from its mask by


class _Required(TypedDict):
    own_id: str
    category_id: Id
    iscrowd: int
    segmentation: Any
    bbox: list[float]
    area: float


class CocoAnnotation(_Required, total=False):
    """``own_id`` as the file has it, for sentences; ``category_id`` of the file; ``segmentation``
    polygons or a compressed encoding; ``bbox`` [x, y, width, height] and ``area`` in pixels;
    ``keypoints`` where there are any."""

    keypoints: list[float]


@dataclass(frozen=True)
class Place:
    """Where an annotation is.

    Args:
        image: the file name of its image, for sentences.
        size: height and width of the image in pixels.
    """

    image: str
    size: Size


def clean_annotation(
    entry: "dict[str, Any]",
    place: Place,
    categories: Categories,
    *,
    crowds: str,
    findings: Findings,
) -> Optional[CocoAnnotation]:
    """Read an annotation.

    Args:
        entry: of any content.
        place: of the annotation.
        categories: of the file.
        crowds: ``OBJECTS``, or anything else for regions to ignore.
        findings: what is wrong with the annotation, or read in another way, is added to it.

    Returns:
        None if there is an error, or if the annotation is left out.
    """
    own_id = quoted(entry.get("id"))
    where = f"annotation {own_id} of image {place.image}"
    category = categories.ids.get(id_key(entry.get("category_id")) or "")
    if category is None:
        quote = quoted(entry.get("category_id"))
        text = f"{where} has category {quote}, which is not in 'categories'."
        findings.error("class out of range", text)
        return None
    if category != entry["category_id"]:
        findings.count("ids", where)
    crowd = _crowd(entry, where, findings)
    clean = clean_mask(entry.get("segmentation"), place.size)
    if clean.problem:
        add = findings.leave_out if clean.problem.kind in LEFT_OUT else findings.error
        add(clean.problem.kind, f"{where} {clean.problem.predicate}.")
    if crowd is None or clean.problem:
        return None
    for note in sorted(clean.notes):
        findings.count(note, where)
    measured = _measured(entry, clean.mask, place.size, where=where, findings=findings)
    if measured is None:
        text = f"{where} has a mask without a pixel in its image{_fraction_hint(clean.mask)}."
        findings.leave_out("mask empty", text)
        return None
    box, area = measured
    annotation: CocoAnnotation = {
        "own_id": own_id,
        "category_id": category,
        "iscrowd": 0 if crowds == OBJECTS else crowd,
        "segmentation": clean.mask,
        "bbox": box,
        "area": area,
    }
    _add_keypoints(entry, annotation, where, findings)
    return annotation


def _crowd(entry: "dict[str, Any]", where: str, findings: Findings) -> Optional[int]:
    """0 or 1; None if it is neither, which is an error."""
    values = []
    for key in ("iscrowd", "ignore"):
        value = entry.get(key)
        number = 0 if value is None else whole_number(int(value) if value in (0, 1) else value)
        if number not in (0, 1):
            kind = f"{key} malformed"
            findings.error(kind, f"{where} has {key} {quoted(value)}, neither 0 nor 1.")
            return None
        values.append(number)
    if entry.get("iscrowd") is None:
        findings.count("iscrowd", where)
    if isinstance(entry.get("iscrowd"), str):
        findings.count(TEXTS, where)
    if values[1]:
        findings.count("ignore", where)
    return max(values)


def _measured(
    entry: "dict[str, Any]", mask: Any, size: Size, *, where: str, findings: Findings
) -> "Optional[tuple[list[float], float]]":
    """Box and area of an annotation: its own, else those of its mask; None if it has no pixel."""
    extent = _extent(mask)
    box, area = read_box(entry.get("bbox")), finite_number(entry.get("area"))
    if area is None or area <= 0:
        findings.count("area", where)
        area = None
    if box is None:
        findings.count("bbox", where)
    elif not _fits(box, extent):
        findings.count("box does not fit", where)
        box = None
    if box is not None and area is not None and _surely_drawn(extent, size):
        return box, float(area)
    rle = encoded(mask, size)
    pixels = float(mask_util.area(rle))
    if not pixels:
        return None
    return box or mask_util.toBbox(rle).tolist(), pixels if area is None else float(area)


def _fraction_hint(mask: Any) -> str:
    if isinstance(mask, dict) or any(not 0 <= value <= 1 for part in mask for value in part):
        return ""
    return "; are its coordinates fractions of the image's size? They must be pixels"


def read_box(value: Any) -> "Optional[list[float]]":
    """[x, y, width, height] with an area, as four numbers or texts of numbers; else None."""
    if not isinstance(value, (list, tuple)) or len(value) != 4:
        return None
    numbers = [number for number in map(finite_number, value) if number is not None]
    return [float(n) for n in numbers] if len(numbers) == 4 and min(numbers[2:]) > 0 else None


def _extent(mask: Any) -> "list[float]":
    """The box [x, y, width, height] of a mask, for polygons that of their points."""
    if isinstance(mask, dict):
        return mask_util.toBbox(mask).tolist()
    left, top = (min(min(polygon[axis::2]) for polygon in mask) for axis in (0, 1))
    right, bottom = (max(max(polygon[axis::2]) for polygon in mask) for axis in (0, 1))
    return [left, top, right - left, bottom - top]


def _edges(box: Sequence[float]) -> "tuple[float, float, float, float]":
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def _fits(box: Sequence[float], extent: Sequence[float]) -> bool:
    limit = max(TOLERANCE, SHARE * max(extent[2:]))
    return all(abs(a - b) <= limit for a, b in zip(_edges(box), _edges(extent)))


def _surely_drawn(extent: Sequence[float], size: Size) -> bool:
    """Whether a mask of this extent has pixels in its image, seen without drawing it."""
    left, top, right, bottom = _edges(extent)
    inside = left >= 0 and top >= 0 and right <= size[1] and bottom <= size[0]
    return inside and min(extent[2:]) > THIN


def _add_keypoints(
    entry: "dict[str, Any]", annotation: CocoAnnotation, where: str, findings: Findings
) -> None:
    """Hand on keypoints as Detectron2's loader does: pixel indices become coordinates."""
    keypoints = entry.get("keypoints")
    if not keypoints:
        return
    numbers: list[Union[int, float, None]] = [None]
    if isinstance(keypoints, list) and len(keypoints) % 3 == 0:
        numbers = [finite_number(value) for value in keypoints]
    if None in numbers:
        findings.count("keypoints", where)
        return
    annotation["keypoints"] = [
        float(value) + (0.5 if place % 3 != 2 else 0.0)
        for place, value in enumerate(numbers)
        if value is not None
    ]
