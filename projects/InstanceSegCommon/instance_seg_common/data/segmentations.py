"""What is wrong with a mask as a COCO file has it: polygons or run lengths, of any content.

A problem is (kind, end of a sentence); size = (height, width) of the image in pixels.
"""

from numbers import Real

import numpy as np
import pycocotools.mask as mask_util

from .check_report import listed

FAR = 10  # image sizes: pycocotools fails or hangs on coordinates that are farther away
SHOWN = 60  # characters of a value that is quoted


def quoted(value):
    """The beginning of a value's repr."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def to_rle(segmentation, size):
    """A segmentation in COCO's compressed encoding.

    Args:
        segmentation: polygons, or an encoding with counts as a list or as text; anything else is
            a problem.
        size (tuple[int, int]): height and width of its image.

    Returns:
        tuple: (dict, None), or (None, problem) if it cannot be used.
    """
    height, width = size
    if segmentation is None or segmentation in ([], {}):
        return None, ("mask missing", "has no segmentation")
    if isinstance(segmentation, dict):
        return _checked_rle(segmentation, size)
    problem = _polygon_problem(segmentation, FAR * max(size))
    if problem:
        return None, problem
    return mask_util.merge(mask_util.frPyObjects(segmentation, height, width)), None


def is_number(value):
    """Whether it is a finite number; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and bool(np.isfinite(value))


def usable_polygons(segmentation):
    """Those polygons of a list that Detectron2's loader keeps: three points or more."""
    lists = [polygon for polygon in segmentation if isinstance(polygon, list)]
    return [polygon for polygon in lists if len(polygon) >= 6 and len(polygon) % 2 == 0]


def _polygon_problem(polygons, limit):
    if not isinstance(polygons, list):
        return "mask malformed", f"has the segmentation {quoted(polygons)}, not polygons or a mask"
    if not all(isinstance(polygon, list) for polygon in polygons):
        return (
            "polygon malformed",
            f"has the segmentation {quoted(polygons)}, not a list of lists [x, y, x, y, ...]",
        )
    wrong = [v for polygon in polygons for v in polygon if not is_number(v)]
    if wrong:
        return "polygon malformed", f"has a polygon with {quoted(wrong[0])}, which is no number"
    far = [v for polygon in polygons for v in polygon if abs(v) > limit]
    if far:
        return "polygon malformed", f"has a polygon with {quoted(far[0])}, far outside its image"
    short = [len(polygon) for polygon in polygons if polygon not in usable_polygons(polygons)]
    if short:
        return (
            "polygon malformed",
            f"has polygons of {listed(short)} numbers; three points x, y or more are needed",
        )
    return None


def rle_problem(segmentation, size):
    """What is wrong with an encoding, seen without decoding it.

    Args:
        segmentation (dict): ``size`` and ``counts``.
        size (tuple[int, int]): height and width of its image.

    Returns:
        tuple or None: (kind, end of a sentence).
    """
    counts, stated = segmentation.get("counts"), segmentation.get("size")
    if not isinstance(stated, (list, tuple)) or list(stated) != list(size):
        return (
            "mask size differs",
            f"has a mask of height and width {quoted(stated)}, but its image has {list(size)}",
        )
    if not isinstance(counts, (str, bytes, list)):
        return "mask malformed", f"has the run lengths {quoted(counts)}, neither a list nor a text"
    if not isinstance(counts, list):
        return None
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return "mask malformed", f"has the run lengths {quoted(counts)}, not all whole numbers"
    if sum(counts) != size[0] * size[1]:
        return (
            "mask cut off",
            f"has run lengths of {sum(counts)} pixels in all, not {size[0] * size[1]}",
        )
    return None


def _checked_rle(segmentation, size):
    problem = rle_problem(segmentation, size)
    if problem:
        return None, problem
    rle = {"size": list(size), "counts": segmentation["counts"]}
    if isinstance(rle["counts"], list):
        return mask_util.frPyObjects(rle, *size), None
    try:
        mask_util.decode(rle)
    except ValueError as error:
        return None, ("mask malformed", f"has run lengths that cannot be decoded ({error})")
    return rle, None
