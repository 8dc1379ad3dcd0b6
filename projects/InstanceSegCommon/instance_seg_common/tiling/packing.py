"""What tiles see, small enough to travel between machines: a bit for each pixel of a box.

Shape shorthand in this module:
    T: tiles   N: parts of all of them   P: pixels of all their boxes
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from .stitching import Part, Piece
from .tiles import Box


class PackedParts(NamedTuple):
    """Parts of several tiles.

    Args:
        counts: (T,) int64, how many parts each tile has.
        boxes: (N, 4) int64, of :class:`tiles.Box`.
        bits: (ceil(P / 8),) uint8, the boxes' pixels one after the other, row by row.
        scores: (N,) float64.
        labels: (N,) int64, 0-based classes.
    """

    counts: np.ndarray
    boxes: np.ndarray
    bits: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def pack_parts(parts: "Sequence[Sequence[Part]]") -> PackedParts:
    """Parts, tile by tile, without loss."""
    flat = [part for seen in parts for part in seen]
    pixels = [part.piece.mask.ravel() for part in flat]
    return PackedParts(
        counts=np.array([len(seen) for seen in parts], dtype=np.int64),
        boxes=np.array([part.piece.box for part in flat], dtype=np.int64).reshape(-1, 4),
        bits=np.packbits(np.concatenate([*pixels, np.zeros(0, dtype=bool)])),
        scores=np.array([part.score for part in flat], dtype=np.float64),
        labels=np.array([part.label for part in flat], dtype=np.int64),
    )


def unpack_parts(packed: PackedParts) -> "list[list[Part]]":
    """The parts of :func:`pack_parts`, tile by tile."""
    boxes = [Box(*box) for box in packed.boxes.tolist()]
    ends = np.cumsum([height * width for height, width in (box.shape for box in boxes)], dtype=int)
    pixels = np.unpackbits(packed.bits).astype(bool)
    masks = [
        pixels[end - box.shape[0] * box.shape[1] : end].reshape(box.shape)
        for box, end in zip(boxes, ends.tolist())
    ]
    values = zip(boxes, masks, packed.scores.tolist(), packed.labels.tolist())
    parts = iter([Part(Piece(box, mask), score, label) for box, mask, score, label in values])
    return [_next(parts, count) for count in packed.counts.tolist()]


def _next(parts: "Iterable[Part]", count: int) -> "list[Part]":
    return [part for _, part in zip(range(count), parts)]
