"""Masks as a COCO file has them: read where they have one meaning, else what is wrong with them.

size = (height, width) of the image in pixels. An encoding is COCO's: a dict of size and counts.
"""

import ast
import itertools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import pycocotools.mask as mask_util

from ..masks import counts_of
from .check_report import listed
from .loose_values import finite_number, whole_number

FAR = 10  # image sizes: pycocotools fails or hangs on coordinates that are farther away
SHOWN = 60  # characters of a value that is quoted
DEEPEST = 4  # lists within lists: a list of objects of polygons of points
SCALARS = (int, float, str)
TOO_SHORT = "polygon too short"  # kind of a problem
FORM, TEXTS, PARTS = "form of masks", "numbers as texts", "parts of masks"  # of coco_notes.NOTES


class Problem(NamedTuple):
    """kind: a few words; predicate: the rest of a sentence that begins with the annotation."""

    kind: str
    predicate: str


class UnreadableMask(ValueError):
    """Raised inside this module; holds a :class:`Problem`."""

    def __init__(self, kind: str, predicate: str) -> None:
        super().__init__(predicate)
        self.problem = Problem(kind, predicate)


class CleanMask(NamedTuple):
    """A mask that has been read.

    mask: polygons [[x, y, x, y, ...], ...] or a compressed encoding; None if there is a problem.
    notes: kinds of ``coco_notes.NOTES`` that apply.
    """

    mask: Any
    notes: "frozenset[str]" = frozenset()
    problem: Optional[Problem] = None


def quoted(value: Any) -> str:
    """The beginning of a value's repr."""
    if isinstance(value, (list, dict)) and len(value) > SHOWN:
        value = dict(list(value.items())[:3]) if isinstance(value, dict) else value[:SHOWN]
    text = repr(value[:SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def to_rle(segmentation: Any, size: "tuple[int, int]") -> "tuple[Any, Optional[Problem]]":
    """A segmentation in COCO's compressed encoding.

    Args:
        segmentation: of any form that :func:`clean_mask` reads.
        size: of its image.

    Returns:
        (encoding, None), or (None, problem) if it cannot be used.
    """
    clean = clean_mask(segmentation, size)
    return (None if clean.problem else encoded(clean.mask, size)), clean.problem


def encoded(mask: Any, size: "tuple[int, int]") -> Any:
    """A mask of :class:`CleanMask` in COCO's compressed encoding."""
    return mask_util.merge(mask_util.frPyObjects(mask, *size)) if isinstance(mask, list) else mask


def clean_mask(segmentation: Any, size: "tuple[int, int]") -> CleanMask:
    """Read a mask.

    Besides polygons and encodings these forms have one meaning: encodings in a list, alone or with
    polygons; one polygon without a list around it, or with more than one; points as pairs; numbers
    and whole masks as texts.

    Args:
        segmentation: of any content.
        size: of its image.
    """
    if segmentation is None or segmentation in ([], {}, ""):
        return CleanMask(None, problem=Problem("mask missing", "has no segmentation"))
    notes: set[str] = set()
    try:
        if isinstance(segmentation, dict):
            mask: Any = _clean_encoding(segmentation, size, notes)
        elif _is_plain(segmentation):
            mask = [_within(polygon, size) for polygon in segmentation]
        else:
            mask = _clean_list(segmentation, size, notes)
    except UnreadableMask as error:
        return CleanMask(None, problem=error.problem)
    return CleanMask(mask, frozenset(notes))


def _is_plain(segmentation: Any) -> bool:
    """Whether it is a list of polygons of three points or more, as nearly all are."""
    return isinstance(segmentation, list) and all(
        isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and set(map(type, polygon)) <= {int, float}
        for polygon in segmentation
    )


def _within(polygon: "list[Any]", size: "tuple[int, int]") -> "list[Any]":
    """The same polygon, if its coordinates are numbers that can be drawn."""
    limit = FAR * max(size)
    wrong = [value for value in polygon if not -limit <= value <= limit]
    if not wrong:
        return polygon
    no_number = [value for value in wrong if finite_number(value) is None]
    if no_number:
        predicate = f"has a polygon with {quoted(no_number[0])}, which is no number"
    else:
        predicate = f"has a polygon with {quoted(wrong[0])}, far outside its image"
    raise UnreadableMask("polygon malformed", predicate)


def _clean_list(segmentation: Any, size: "tuple[int, int]", notes: "set[str]") -> Any:
    """The mask of a list, or of a text, that is not simply a list of polygons."""
    parts, usual = _parts(segmentation, 0)
    if not usual:
        notes.add(FORM)
    polygons = [_clean_polygon(part, notes) for part in parts if isinstance(part, list)]
    drawn = [_within(polygon, size) for polygon in polygons if len(polygon) >= 6]
    encodings: list[Any] = [
        _clean_encoding(part, size, notes) for part in parts if isinstance(part, dict)
    ]
    if not parts:
        raise UnreadableMask("mask missing", "has no segmentation")
    if not drawn and not encodings:
        lengths = listed(len(part) for part in parts)
        predicate = f"has polygons of {lengths} numbers; three points x, y or more are needed"
        raise UnreadableMask(TOO_SHORT, predicate)
    if len(drawn) < len(polygons):
        notes.add(PARTS)
    if not encodings:
        return drawn
    return _with_text(mask_util.merge([*encodings, *_encodings(drawn, size)]))


def _encodings(polygons: Any, size: "tuple[int, int]") -> "list[Any]":
    """Each polygon in COCO's encoding."""
    return mask_util.frPyObjects(polygons, *size) if polygons else []


def _parts(value: Any, depth: int) -> "tuple[list[Any], bool]":
    """The polygons (lists of numbers) and encodings (dicts) within a value; whether it is COCO's
    form: a list of polygons."""
    if isinstance(value, dict):
        return [value], depth == 0
    if isinstance(value, str) and depth <= DEEPEST:
        return _parts(_of_text(value), depth + 1)[0], False
    if not isinstance(value, list) or depth > DEEPEST:
        raise _no_mask(value, depth)
    if _is_flat(value):
        return [value], depth == 1
    if len(value) >= 3 and all(map(_is_point, value)):
        return [list(itertools.chain(*value))], False
    inner, forms = zip(*(_parts(part, depth + 1) for part in value)) if value else ((), ())
    return list(itertools.chain(*inner)), all(forms)


def _no_mask(value: Any, depth: int) -> UnreadableMask:
    if depth == 0:
        predicate = f"has the segmentation {quoted(value)}, not polygons or a mask"
        return UnreadableMask("mask malformed", predicate)
    predicate = f"has the segmentation {quoted(value)}, not a list of lists [x, y, x, y, ...]"
    return UnreadableMask("polygon malformed", predicate)


def _is_flat(value: "list[Any]") -> bool:
    """Whether it is a list of what may be numbers, not of lists or of texts of several numbers."""
    scalars = all(part is None or isinstance(part, SCALARS) for part in value)
    return bool(value) and scalars and not all(map(_holds_several, value))


def _holds_several(value: Any) -> bool:
    """Whether it is a text of several numbers."""
    return isinstance(value, str) and any(sign in value.strip() for sign in " ,[")


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(v, SCALARS) for v in value)
    )


def _of_text(text: str) -> Any:
    """What is written in a text: JSON, or numbers with commas or spaces between them."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.replace(",", " ").split()


def _clean_polygon(polygon: "list[Any]", notes: "set[str]") -> "list[Any]":
    numbers = [finite_number(value) for value in polygon]
    if None in numbers:
        wrong = polygon[numbers.index(None)]
        raise UnreadableMask(
            "polygon malformed", f"has a polygon with {quoted(wrong)}, which is no number"
        )
    if len(polygon) > 6 and len(polygon) % 2:
        raise UnreadableMask(
            "polygon malformed",
            f"has a polygon of {len(polygon)} numbers; of x, y, x, y, ... one is missing",
        )
    if any(isinstance(value, str) for value in polygon):
        notes.add(TEXTS)
    return numbers if len(numbers) % 2 == 0 else numbers[:0]


def _clean_encoding(
    encoding: "dict[str, Any]", size: "tuple[int, int]", notes: "set[str]"
) -> "dict[str, Any]":
    """An encoding with compressed counts as a text, if it is one of an image of this size."""
    _require_size(encoding.get("size"), size, notes)
    counts = encoding.get("counts")
    lengths = _lengths(counts, notes)
    pixels = size[0] * size[1]
    if lengths is None or any(length < 0 for length in lengths):
        raise UnreadableMask(
            "mask malformed",
            f"has the run lengths {quoted(counts)}, which are not whole numbers from 0 on, nor "
            "COCO's text of them",
        )
    if sum(lengths) != pixels:
        total = min(sum(lengths), FAR * pixels)  # a sum may have thousands of digits
        predicate = f"has run lengths of {total} pixels in all, not {pixels}"
        raise UnreadableMask("mask cut off", predicate)
    if isinstance(counts, str) and FORM not in notes:
        return {"size": list(size), "counts": counts}
    uncompressed: Any = {"size": list(size), "counts": lengths}
    return _with_text(mask_util.frPyObjects(uncompressed, *size))


def _require_size(stated: Any, size: "tuple[int, int]", notes: "set[str]") -> None:
    """Raise if an encoding states another size; one without a size may be of this image."""
    sides = [whole_number(side) for side in stated] if isinstance(stated, (list, tuple)) else None
    if stated is not None and sides != list(size):
        raise UnreadableMask(
            "mask size differs",
            f"has a mask of height and width {quoted(stated)}, but its image has {list(size)}",
        )
    if stated is not None and any(isinstance(side, str) for side in stated):
        notes.add(TEXTS)


def _lengths(counts: Any, notes: "set[str]") -> "Optional[Sequence[int]]":
    """Run lengths from a list of numbers, or from a text of COCO's or with numbers in it."""
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", errors="replace")
    if isinstance(counts, str):
        if not any(sign in counts for sign in ", '\""):
            return _listed_counts(counts)
        notes.add(FORM)
        if counts.startswith(("b'", 'b"')):  # Python's repr of the bytes
            return _of_bytes_repr(counts)
        counts = counts.strip("[] ").replace(",", " ").split()
    if not isinstance(counts, list):
        return None
    if set(map(type, counts)) <= {int}:
        return counts
    notes.add(TEXTS)
    lengths: Any = list(map(whole_number, counts))
    return None if None in lengths else lengths


def _of_bytes_repr(text: str) -> "Optional[Sequence[int]]":
    try:
        return _listed_counts(ast.literal_eval(text).decode("ascii"))
    except (ValueError, SyntaxError, AttributeError):
        return None


def _listed_counts(text: str) -> "Optional[Sequence[int]]":
    counts = counts_of(text)
    return None if counts is None else counts.tolist()


def _with_text(encoding: Any) -> "dict[str, Any]":
    return {"size": list(encoding["size"]), "counts": encoding["counts"].decode("ascii")}
