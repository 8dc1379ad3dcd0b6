"""Stitched objects as run lengths and as label maps, without a mask of the whole image for any."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from scipy.ndimage import find_objects

from .stitching import Piece, StitchedObject
from .tiles import Box


def encode(pieces: "Sequence[Piece]", size: "tuple[int, int]") -> "dict[str, Any]":
    """COCO's compressed run lengths of an object.

    Args:
        pieces: its pixels; no pixel in two of them.
        size: height and width of the image.

    Returns:
        ``size`` [height, width] and ``counts``, a text.
    """
    height, width = size
    runs = [_runs(piece, height) for piece in pieces]
    starts, ends = (np.concatenate([run[i] for run in runs] or [[]]) for i in (0, 1))
    order = np.argsort(starts)
    starts, ends = starts[order].astype(np.int64), ends[order].astype(np.int64)
    if len(starts):  # runs that go on from one column or piece into the next are one
        apart = starts[1:] > ends[:-1]
        starts, ends = starts[np.r_[True, apart]], ends[np.r_[apart, True]]
    bounds = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(bounds, prepend=0, append=height * width)
    counts = counts[:-1] if counts[-1] == 0 else counts
    encoding: Any = {"size": [height, width], "counts": counts.tolist()}
    compressed = mask_util.frPyObjects(encoding, height, width)
    return {"size": [height, width], "counts": compressed["counts"].decode("ascii")}


def _runs(piece: Piece, height: int) -> "tuple[np.ndarray, np.ndarray]":
    """First pixels, and first pixels behind, of the runs down the columns of the image."""
    edges = np.diff(piece.mask.astype(np.int8), axis=0, prepend=0, append=0)
    places = []
    for sign in (1, -1):
        columns, rows = np.nonzero(np.equal(edges.T, sign))
        places.append((columns + piece.box.left) * height + rows + piece.box.top)
    return places[0], places[1]


BAND = 512  # rows of an image that are painted at once


def without_overlaps(
    objects: "Sequence[StitchedObject]",
    size: "tuple[int, int]",
    *,
    score_threshold: float = 0.0,
    min_area: int = 0,
) -> "list[StitchedObject]":
    """The objects of a label map: every pixel belongs to the best of those that claim it.

    What ``masks.instances_to_label_map`` is for dense masks, this is for pieces.

    Args:
        objects: of an image.
        size: its height and width.
        score_threshold: objects with a lower score are left out.
        min_area: an object left with fewer pixels is dropped; its pixels are background.

    Returns:
        By descending score, those left with at least one pixel; object i has id i + 1 in the map.
    """
    kept = [one for one in objects if one.score >= score_threshold]
    kept.sort(key=lambda one: -one.score)
    pieces: list[list[Piece]] = [[] for _ in kept]
    bands = label_map_bands(kept, size, rows=BAND, dtype=np.dtype(np.int32))
    for top, labels in zip(range(0, size[0], BAND), bands):
        for index, place in enumerate(find_objects(labels)):
            if place is not None:
                rows, columns = place
                box = Box(rows.start, columns.start, rows.stop, columns.stop).moved(top, 0)
                pieces[index].append(Piece(box, labels[place] == index + 1))
    visible = [one._replace(pieces=tuple(own)) for one, own in zip(kept, pieces)]
    return [one for one in visible if one.area >= max(min_area, 1)]


def label_map_bands(
    objects: "Sequence[StitchedObject]",
    size: "tuple[int, int]",
    *,
    rows: int,
    dtype: np.dtype,
) -> "Iterator[np.ndarray]":
    """The label map of an image from top to bottom: of objects that share a pixel the best has it.

    Args:
        objects: object i has id i + 1.
        size: height and width of the image.
        rows: height of a band; the last one may be lower.
        dtype: of the ids, which it must hold.

    Returns:
        Bands (rows, width).
    """
    height, width = size
    # The better an object's score, the later it is painted; of equal ones the first wins.
    order = sorted(range(len(objects)), key=lambda i: (objects[i].score, -i))
    of_band: dict[int, list[tuple[int, Piece]]] = {}
    for index in order:
        for piece in objects[index].pieces:
            for band in range(piece.box.top // rows, (piece.box.bottom - 1) // rows + 1):
                of_band.setdefault(band, []).append((index + 1, piece))
    for band in range(-(-height // rows)):
        frame = Box(band * rows, 0, min((band + 1) * rows, height), width)
        labels = np.zeros(frame.shape, dtype)
        for number, piece in of_band.get(band, ()):
            cut = piece.cut(frame)
            labels[cut.box.moved(-frame.top, 0).slices][cut.mask] = number
        yield labels
