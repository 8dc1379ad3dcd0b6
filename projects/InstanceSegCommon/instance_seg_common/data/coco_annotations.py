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
    category = _category(entry.get("category_id"), categories, where=where, findings=findings)
    crowd = _crowd(entry, where, findings)
    mask = _mask(entry.get("segmentation"), place.size, where=where, findings=findings)
    if category is None or crowd is None or mask is None:
        return None
    measured = _measured(entry, mask, place.size, where=where, findings=findings)
    if measured is None:
        text = f"{where} has a mask without a pixel in its image{_fraction_hint(mask)}."
        findings.leave_out("mask empty", text)
        return None
    annotation: CocoAnnotation = {
        "own_id": own_id,
        "category_id": category,
        "iscrowd": 0 if crowds == OBJECTS else crowd,
        "segmentation": mask,
        "bbox": measured[0],
        "area": measured[1],
    }
    keypoints = _keypoints(entry.get("keypoints"), where, findings)
    if keypoints:
        annotation["keypoints"] = keypoints
    return annotation


def _category(
    value: Any, categories: Categories, *, where: str, findings: Findings
) -> Optional[Id]:
    """The id of the class; None if the file has no such class, which is an error."""
    category = categories.ids.get(id_key(value) or "")
    if category is None:
        text = f"{where} has category {quoted(value)}, which is not in 'categories'."
        findings.error("class out of range", text)
    elif category != value:
        findings.count("ids", where)
    return category


def _mask(segmentation: Any, size: Size, *, where: str, findings: Findings) -> Any:
    """The mask; None if it cannot be read, which is an error, or if there is none to read."""
    clean = clean_mask(segmentation, size)
    if clean.problem:
        add = findings.leave_out if clean.problem.kind in LEFT_OUT else findings.error
        add(clean.problem.kind, f"{where} {clean.problem.predicate}.")
    for note in sorted(clean.notes):
        findings.count(note, where)
    return clean.mask


def _crowd(entry: "dict[str, Any]", where: str, findings: Findings) -> Optional[int]:
    """0 or 1; None if it is neither, which is an error."""
    stated = entry.get("iscrowd")
    if type(stated) is int and stated in (0, 1) and "ignore" not in entry:  # most are
        return stated
    values = []
    for key in ("iscrowd", "ignore"):
        value = entry.get(key)
        number = 0 if value is None else whole_number(int(value) if value in (0, 1) else value)
        if number not in (0, 1):
            kind = f"{key} malformed"
            findings.error(kind, f"{where} has {key} {quoted(value)}, neither 0 nor 1.")
            return None
        values.append(number)
    if stated is None:
        findings.count("iscrowd", where)
    if isinstance(stated, str):
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
    if not isinstance(mask, list):
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


def _keypoints(keypoints: Any, where: str, findings: Findings) -> "list[float]":
    """Keypoints as Detectron2's loader hands them on: pixel indices become coordinates."""
    if not keypoints:
        return []
    numbers: list[Union[int, float, None]] = [None]
    if isinstance(keypoints, list) and len(keypoints) % 3 == 0:
        numbers = [finite_number(value) for value in keypoints]
    if None in numbers:
        findings.count("keypoints", where)
        return []
    shifts = [0.5, 0.5, 0.0] * (len(numbers) // 3)  # x, y, visibility
    return [float(value or 0) + shift for value, shift in zip(numbers, shifts)]
