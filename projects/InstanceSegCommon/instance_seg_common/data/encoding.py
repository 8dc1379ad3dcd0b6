"""Label maps as run-length encoded instances.

Shapes: H, W height and width in pixels; a label map is (H, W) integers, 0 = background; R runs.

Encodings are computed from the runs of the label map, never from a dense mask of each instance. A
*run* is a stretch of equal values other than 0 within one column. A *part* is a connected component
of the pixels of one value; pixels that touch at a corner are connected.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional, TypedDict, cast

import numpy as np
import pycocotools.mask as mask_util
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


class _Encoded(TypedDict):
    id: int
    bbox: list[float]
    area: int
    counts: str
    parts: list[int]


class EncodedInstance(_Encoded, total=False):
    """One instance of a label map, as the cache of annotations keeps it.

    ``id``, its value in the label, which several instances share where each part is one; ``bbox``
    [x, y, width, height] and ``area`` in pixels; ``counts``, COCO's compressed encoding of the full
    image; ``parts``, the areas of its parts, largest first; where the set has class images
    ``classes``: [class id, number of pixels] each, most pixels first.
    """

    classes: list[list[int]]


class _Runs(NamedTuple):
    """By rising value, then position: values (R,); starts, ends (R,) int64, pixels in the order of
    columns, ends exclusive; parts (R,) int64, which part of the label a run belongs to."""

    values: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    parts: np.ndarray


def encode_label_map(
    labels: np.ndarray, classes: Optional[np.ndarray] = None, *, each_part: bool = False
) -> "list[EncodedInstance]":
    """Run-length encodings of all instances of a label map.

    Args:
        labels: (H, W) integers of any type, 0 = background.
        classes: (H, W) integers, the class-id image.
        each_part: every part is an instance, not every value.

    Returns:
        By rising id, parts of one id by their first pixel in the order of columns; ``classes`` only
        if these are given.
    """
    runs = _runs(labels)
    owners = runs.parts if each_part else np.unique(runs.values, return_inverse=True)[1]
    owners = owners.reshape(-1)
    order = np.argsort(owners, kind="stable")
    first = np.flatnonzero(np.diff(owners[order], prepend=-1))
    groups = np.split(order, first[1:]) if order.size else []
    records = [_record(runs, group, labels.shape) for group in groups]
    if classes is not None:
        for record, votes in zip(records, _class_votes(runs, owners, classes)):
            record["classes"] = votes
    return records


def encode_object(
    mask: np.ndarray, number: int, classes: Optional[np.ndarray] = None
) -> Optional[EncodedInstance]:
    """The encoding of one object, as :func:`encode_label_map` would have it in a label of its own.

    Args:
        mask: (H, W) bool.
        number: the id of the object.
        classes: (H, W) integers, the class-id image.

    Returns:
        None for a mask without a pixel.
    """
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    box = mask_util.toBbox(rle).tolist()
    x, y, width, height = map(int, box)
    window = slice(y, y + height), slice(x, x + width)  # all that has to be looked at
    inside = mask[window]
    components, _ = ndimage.label(inside, structure=EIGHT_NEIGHBOURS)
    areas = np.bincount(components.ravel())[1:]
    if areas.size == 0:
        return None
    record: EncodedInstance = {
        "id": number,
        "bbox": box,
        "area": int(areas.sum()),
        "counts": cast(bytes, rle["counts"]).decode("ascii"),
        "parts": sorted(areas.tolist(), reverse=True),
    }
    if classes is not None:
        values, counts = np.unique(classes[window][inside], return_counts=True)
        record["classes"] = _most_first(zip(values.tolist(), counts.tolist()))
    return record


def _record(runs: _Runs, group: np.ndarray, size: "tuple[int, ...]") -> EncodedInstance:
    """The instance of some runs (indices, in rising order) of an image of a size (H, W)."""
    starts, ends = runs.starts[group], runs.ends[group]
    # A run that goes on at the top of the next column is no change there: its end is a start.
    bounds = np.setxor1d(starts, ends, assume_unique=True)
    counts = np.diff(bounds, prepend=0, append=size[0] * size[1])
    counts = counts[:-1] if counts[-1] == 0 else counts
    rle = mask_util.frPyObjects({"counts": counts.tolist(), "size": list(size)}, *size)
    _, part = np.unique(runs.parts[group], return_inverse=True)
    areas = np.bincount(part.reshape(-1), weights=ends - starts).astype(int)
    return {
        "id": int(runs.values[group[0]]),
        "bbox": mask_util.toBbox(rle).tolist(),
        "area": int((ends - starts).sum()),
        "counts": cast(bytes, rle["counts"]).decode("ascii"),
        "parts": sorted(areas.tolist(), reverse=True),
    }


def _runs(labels: np.ndarray) -> _Runs:
    height, width = labels.shape
    columns = labels.T.ravel()  # the order of COCO's run lengths
    if columns.size == 0:
        nothing = np.empty(0, np.int64)
        return _Runs(columns, nothing, nothing, nothing)
    breaks = columns[1:] != columns[:-1]
    breaks[height - 1 :: height] = True  # the last pixel of a column
    changes = np.flatnonzero(breaks) + 1
    starts = np.concatenate([[0], changes])
    ends = np.concatenate([changes, [columns.size]])
    kept = np.flatnonzero(columns[starts])
    kept = kept[np.argsort(columns[starts[kept]], kind="stable")]
    values, starts, ends = columns[starts[kept]], starts[kept], ends[kept]
    return _Runs(values, starts, ends, _parts(values, starts, ends, size=(height, width)))


def _parts(
    values: np.ndarray, starts: np.ndarray, ends: np.ndarray, *, size: "tuple[int, int]"
) -> np.ndarray:
    """Of each run the number of its part (R,), parts by rising value, then by their first run."""
    height, width = size
    number = values.size
    _, value = np.unique(values, return_inverse=True)
    # One number for value, column and row, in which runs are in order and cannot run into the next
    # column: rows 0 .. height take height + 1 numbers, of which the last is an exclusive end.
    base = (value.reshape(-1) * (width + 1) + starts // height) * (height + 1)
    begin, end = base + starts % height, base + (starts % height) + (ends - starts)
    next_column = height + 1
    # Neighbours in the next column: those that end at or below this one's first row and start at or
    # above the row after its last; "at" lets corners touch.
    first = np.searchsorted(end, begin + next_column, side="left")
    last = np.searchsorted(begin, end + next_column, side="right")
    count = np.maximum(last - first, 0)
    left = np.repeat(np.arange(number), count)
    offset = np.arange(left.size) - np.repeat(np.cumsum(count) - count, count)
    right = first[left] + offset
    touching = coo_matrix((np.ones(left.size, bool), (left, right)), shape=(number, number))
    _, parts = connected_components(touching, directed=False)
    _, first_run, part = np.unique(parts, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first_run))[part.reshape(-1)]


def _class_votes(runs: _Runs, owners: np.ndarray, classes: np.ndarray) -> "list[list[list[int]]]":
    """Of each owner the classes of its pixels: [[class id, number of pixels], ...], most first."""
    lengths = runs.ends - runs.starts
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    pixels = np.repeat(runs.starts, lengths) + within
    known, index = np.unique(classes.T.ravel()[pixels], return_inverse=True)
    # One number for a pair: np.unique of pairs takes twenty times as long.
    pair = np.repeat(owners, lengths) * max(known.size, 1) + index.reshape(-1)
    pairs, counts = np.unique(pair, return_counts=True)
    votes: list[list[list[int]]] = [[] for _ in range(int(owners.max(initial=-1)) + 1)]
    for at, count in zip(pairs.tolist(), counts.tolist()):
        votes[at // known.size].append([int(known[at % known.size]), count])
    return [_most_first(of_id) for of_id in votes]


def _most_first(votes: "Iterable[Sequence[int]]") -> "list[list[int]]":
    """Pairs of a class and a number of pixels in the order of ``EncodedInstance.classes``."""
    return sorted(map(list, votes), key=lambda vote: (-vote[1], vote[0]))
