"""Stitched objects as run lengths and as label maps, without a mask of the whole image for any."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from scipy.ndimage import find_objects

from ..masks import encode_window
from ..tiling.stitching import Piece, StitchedObject
from ..tiling.tiles import Box


def encode(pieces: "Sequence[Piece]", size: "tuple[int, int]") -> "dict[str, Any]":
    """COCO's compressed run lengths of an object.

    Args:
        pieces: its pixels; no pixel in two of them.
        size: height and width of the image.

    Returns:
        ``size`` [height, width] and ``counts``, a text.
    """
    parts: Any = [
        encode_window(piece.mask, (piece.box.left, piece.box.top), size) for piece in pieces
    ] or [encode_window(np.zeros((0, 0), bool), (0, 0), size)]
    merged: Any = mask_util.merge(parts)
    return {"size": list(size), "counts": merged["counts"].decode("ascii")}


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
