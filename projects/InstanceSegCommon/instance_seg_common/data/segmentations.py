"""What is wrong with a mask as a COCO file has it: polygons or run lengths, of any content.

size = (height, width) of the image in pixels. An encoding is COCO's: a dict of size and counts.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple, Optional

import pycocotools.mask as mask_util

from .check_report import listed

FAR = 10  # image sizes: pycocotools fails or hangs on coordinates that are farther away
SHOWN = 60  # characters of a value that is quoted


class Problem(NamedTuple):
    """kind: a few words; predicate: the rest of a sentence that begins with the annotation."""

    kind: str
    predicate: str


def quoted(value: Any) -> str:
    """The beginning of a value's repr."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def to_rle(segmentation: Any, size: "tuple[int, int]") -> "tuple[Any, Optional[Problem]]":
    """A segmentation in COCO's compressed encoding.

    Args:
        segmentation: polygons, or an encoding with counts as a list or as text; anything else is
            a problem.
        size: of its image.

    Returns:
        (encoding, None), or (None, problem) if it cannot be used.
    """
    height, width = size
    if segmentation is None or segmentation in ([], {}):
        return None, Problem("mask missing", "has no segmentation")
    if isinstance(segmentation, dict):
        return _checked_rle(segmentation, size)
    problem = _polygon_problem(segmentation, FAR * max(size))
    if problem:
        return None, problem
    return mask_util.merge(mask_util.frPyObjects(segmentation, height, width)), None


def is_number(value: Any) -> bool:
    """Whether it is a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    number: Any = value
    return bool(-math.inf < number < math.inf)


def usable_polygons(segmentation: Sequence[Any]) -> "list[list[float]]":
    """Those polygons of a list that Detectron2's loader keeps: three points or more."""
    return [polygon for polygon in segmentation if _is_usable(polygon)]


def _is_usable(polygon: Any) -> bool:
    return isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0


def _polygon_problem(polygons: Any, limit: float) -> Optional[Problem]:
    if not isinstance(polygons, list):
        return Problem(
            "mask malformed", f"has the segmentation {quoted(polygons)}, not polygons or a mask"
        )
    if not all(isinstance(polygon, list) for polygon in polygons):
        return Problem(
            "polygon malformed",
            f"has the segmentation {quoted(polygons)}, not a list of lists [x, y, x, y, ...]",
        )
    coordinates = [value for polygon in polygons for value in polygon]
    predicate = _coordinate_problem(coordinates, limit) or _length_problem(polygons)
    return Problem("polygon malformed", predicate) if predicate else None


def _coordinate_problem(coordinates: "list[Any]", limit: float) -> str:
    wrong = [value for value in coordinates if not is_number(value)]
    if wrong:
        return f"has a polygon with {quoted(wrong[0])}, which is no number"
    far = [value for value in coordinates if abs(value) > limit]
    return f"has a polygon with {quoted(far[0])}, far outside its image" if far else ""


def _length_problem(polygons: "list[list[float]]") -> str:
    short = [len(polygon) for polygon in polygons if not _is_usable(polygon)]
    if not short:
        return ""
    return f"has polygons of {listed(short)} numbers; three points x, y or more are needed"


def rle_problem(segmentation: "dict[str, Any]", size: "tuple[int, int]") -> Optional[Problem]:
    """What is wrong with an encoding, seen without decoding it.

    Args:
        segmentation: with ``size`` and ``counts``.
        size: of its image.
    """
    stated = segmentation.get("size")
    if not isinstance(stated, (list, tuple)) or list(stated) != list(size):
        return Problem(
            "mask size differs",
            f"has a mask of height and width {quoted(stated)}, but its image has {list(size)}",
        )
    return _counts_problem(segmentation.get("counts"), pixels=size[0] * size[1])


def _counts_problem(counts: Any, pixels: int) -> Optional[Problem]:
    if isinstance(counts, (str, bytes)):
        return None
    if not isinstance(counts, list):
        return Problem(
            "mask malformed", f"has the run lengths {quoted(counts)}, neither a list nor a text"
        )
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return Problem(
            "mask malformed", f"has the run lengths {quoted(counts)}, not all whole numbers"
        )
    if sum(counts) != pixels:
        return Problem(
            "mask cut off", f"has run lengths of {sum(counts)} pixels in all, not {pixels}"
        )
    return None


def _checked_rle(
    segmentation: "dict[str, Any]", size: "tuple[int, int]"
) -> "tuple[Any, Optional[Problem]]":
    problem = rle_problem(segmentation, size)
    if problem:
        return None, problem
    rle: Any = {"size": list(size), "counts": segmentation["counts"]}
    if isinstance(rle["counts"], list):
        return mask_util.frPyObjects(rle, *size), None
    try:
        mask_util.decode(rle)
    except ValueError as error:
        return None, Problem("mask malformed", f"has run lengths that cannot be decoded ({error})")
    return rle, None
