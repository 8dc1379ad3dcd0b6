"""Masks as COCO's run lengths, and windows of them, without ever decoding a whole image.

A run-length encoding ("rle") is COCO's compressed dict of ``size`` [height, width] and ``counts``.
Boxes are XYXY in whole pixels, the right and bottom edges exclusive.

Shape shorthand in this module:
    N: masks   R: runs of a mask   H, W: an image   h, w: a window of it
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union, cast

import numpy as np
from pycocotools import mask as mask_util

from ..errors import UserError

# A character of COCO's compressed counts: 5 bits of a number, and whether it goes on.
_FIRST_CHARACTER, _BITS, _GOES_ON, _NEGATIVE = 48, 5, 32, 16
_MOST_DIGITS = 7  # of a length of 32 bits

BLOCK_PAIRS = 2_000_000  # IoUs held at a time: 16 MB


class MaskPairs(NamedTuple):
    """Pairs of masks that share a pixel: ``rows``, ``columns`` int64, and their ``iou`` float."""

    rows: np.ndarray
    columns: np.ndarray
    iou: np.ndarray

    @classmethod
    def of(cls, iou: np.ndarray) -> "MaskPairs":
        """The pairs of a table (N, M) with an IoU above 0."""
        rows, columns = np.nonzero(iou)
        return cls(rows, columns, iou[rows, columns])


def to_run_lengths(segmentation: Any, height: int, width: int) -> "dict[str, Any]":
    """A segmentation as compressed run lengths.

    Args:
        segmentation: polygons in pixels; an encoding, compressed or not; or (height, width) bool.
        height, width: of its image; an encoding has its own.
    """
    if isinstance(segmentation, np.ndarray):
        return cast(Any, mask_util.encode(np.asfortranarray(segmentation, dtype=np.uint8)))
    if isinstance(segmentation, list):
        if not segmentation:
            return encode_window(np.zeros((0, 0), dtype=bool), (0, 0), (height, width))
        return cast(Any, mask_util.merge(mask_util.frPyObjects(segmentation, height, width)))
    if isinstance(segmentation["counts"], list):
        return cast(Any, mask_util.frPyObjects(segmentation, *segmentation["size"]))
    return segmentation


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """(height, width) bool of one annotation: RLE (compressed or not), or polygons in pixels."""
    encoding: Any = to_run_lengths(segmentation, height, width)
    return mask_util.decode(encoding).astype(bool)


def boxes_of(rles: "Sequence[dict[str, Any]]") -> np.ndarray:
    """(N, 4) int64 boxes of masks, read off their runs; of an empty mask all 0."""
    if not len(rles):
        return np.zeros((0, 4), dtype=np.int64)
    encodings: Any = list(rles)
    boxes = mask_util.toBbox(encodings).astype(np.int64)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def decode_window(rle: "dict[str, Any]", box: Sequence[int]) -> np.ndarray:
    """The part of a mask that lies in a box.

    Args:
        rle: of the whole image.
        box: of the window, within the image.

    Returns:
        (h, w) bool, with memory of its own.

    Raises:
        UserError: run lengths that do not fill their image.
    """
    x0, y0, x1, y1 = (int(v) for v in box)
    height = int(rle["size"][0])
    columns, low, high = _column_runs(*_runs(rle), height)
    low, high = np.clip(low - y0, 0, y1 - y0), np.clip(high - y0, 0, y1 - y0)
    inside = (columns >= x0) & (columns < x1) & (low < high)
    first = (columns[inside] - x0) * (y1 - y0)
    change = np.zeros((x1 - x0) * (y1 - y0) + 1, dtype=np.int8)
    change[first + low[inside]] += 1
    change[first + high[inside]] -= 1
    flat = np.cumsum(change[:-1], dtype=np.int8).view(bool)
    return np.ascontiguousarray(flat.reshape(x1 - x0, y1 - y0).T)


def _runs(rle: "dict[str, Any]") -> "tuple[np.ndarray, np.ndarray]":
    """Starts and ends (R,) int64 of the runs of a mask, counted down the columns."""
    counts = counts_of(rle["counts"])
    bounds = None if counts is None else np.cumsum(counts)
    pixels = int(rle["size"][0]) * int(rle["size"][1])
    if counts is None or bounds is None or (counts < 0).any() or bounds[-1] != pixels:
        raise UserError(
            f"A mask has run lengths that do not fill its image of height and width {rle['size']}; "
            "write the mask again."
        )
    return bounds[0:-1:2], bounds[1::2]


def counts_of(text: Union[str, bytes]) -> Optional[np.ndarray]:
    """The run lengths of COCO's compressed text, background and mask in turn.

    Args:
        text: ``counts`` of an encoding.

    Returns:
        (2 R or 2 R + 1,) int64, which may be below 0 or not fill an image; None if it is no such
        text.

    Source: pycocotools, ``maskApi.c``.
    """
    if isinstance(text, str):
        if not text.isascii():
            return None
        text = text.encode("ascii")
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - _FIRST_CHARACTER
    last = np.flatnonzero((codes & _GOES_ON) == 0)
    if not len(codes) or codes.min() < 0 or codes.max() >= 2 * _GOES_ON:
        return None
    if not len(last) or last[-1] != len(codes) - 1:
        return None
    first = np.concatenate([[0], last[:-1] + 1])
    digits = last - first + 1
    if digits.max() > _MOST_DIGITS:
        return None
    digit = np.arange(len(codes)) - np.repeat(first, digits)
    numbers = np.add.reduceat((codes & (_GOES_ON - 1)) << (_BITS * digit), first)
    numbers -= np.where(codes[last] & _NEGATIVE, np.int64(1) << (_BITS * digits), 0)
    # From the fourth on, a number is the difference from the one two places before it.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _column_runs(
    starts: np.ndarray, ends: np.ndarray, height: int
) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """Runs cut at the ends of columns: the column of each, and its first and last + 1 row."""
    filled = ends > starts
    starts, ends = starts[filled], ends[filled]
    first, last = starts // height, (ends - 1) // height
    parts = last - first + 1
    run = np.repeat(np.arange(len(starts)), parts)
    part = np.arange(len(run)) - np.repeat(np.cumsum(parts) - parts, parts)
    columns = first[run] + part
    low = np.where(part == 0, starts[run] - columns * height, 0)
    high = np.where(part == parts[run] - 1, ends[run] - columns * height, height)
    return columns, low, high


def encode_window(
    window: np.ndarray, corner: Sequence[int], size: Sequence[int]
) -> "dict[str, Any]":
    """Run lengths of a mask that has no pixel outside of a window.

    Args:
        window: (h, w) bool.
        corner: x and y of its first pixel in the image.
        size: (H, W) of the image.

    Returns:
        An encoding, its counts as bytes.
    """
    (x0, y0), (height, width) = corner, size
    edges = np.zeros((window.shape[1], window.shape[0] + 2), dtype=np.int8)
    edges[:, 1:-1] = window.T
    columns, rows = np.nonzero(edges[:, 1:] != edges[:, :-1])
    bounds = (columns + x0) * height + rows + y0
    starts, ends = bounds[0::2], bounds[1::2]
    # What ends at the foot of a column goes on at the head of the next.
    apart = starts[1:] != ends[:-1]
    starts = starts[np.concatenate([[True], apart])[: len(starts)]]
    ends = ends[np.concatenate([apart, [True]])[: len(ends)]]
    bounds = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(bounds, prepend=0, append=height * width)
    counts = counts[:-1] if counts[-1] == 0 and len(counts) > 1 else counts
    whole: Any = {"counts": counts.tolist(), "size": [int(height), int(width)]}
    return cast(Any, mask_util.frPyObjects(whole, height, width))


def overlapping_pairs(rows: Any, columns: Any, crowds: Optional[Sequence[int]] = None) -> MaskPairs:
    """The IoU of those pairs of masks, or of boxes, that overlap, a block of rows at a time.

    Args:
        rows: N encodings, or boxes [x, y, width, height].
        columns: M of them.
        crowds: M of 0 and 1; of a crowd the union is the row's own area, as COCO has it.

    Returns:
        By row, then by column.
    """
    flags = [0] * len(columns) if crowds is None else [int(flag) for flag in crowds]
    parts = [MaskPairs.of(np.zeros((0, 0)))]
    step = max(BLOCK_PAIRS // max(len(columns), 1), 1)
    for begin in range(0, len(rows) if len(columns) else 0, step):
        iou = np.asarray(mask_util.iou(list(rows[begin : begin + step]), list(columns), flags))
        block = MaskPairs.of(iou)
        parts.append(block._replace(rows=block.rows + begin))
    return MaskPairs(*(np.concatenate(arrays) for arrays in zip(*parts)))
