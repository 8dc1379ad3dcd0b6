"""The run lengths in COCO's compressed text, without decoding a mask.

Source: pycocotools, ``maskApi.c``: each length, from the fourth on less the one before the last, in
groups of five bits, the lowest first; bit 6 says that another group follows; characters from "0".
pycocotools itself does not check a text, and reads beyond its end.
"""

from collections.abc import Sequence
from typing import Optional

import numpy as np

FIRST, LAST = 48, 48 + 63  # codes of the characters
MORE, SIGN, LOW = 0x20, 0x10, 0x1F
MOST_GROUPS = 7  # of a length of 32 bits


def run_lengths(text: str) -> "Optional[Sequence[int]]":
    """Lengths of the runs, background first, column by column.

    Args:
        text: ``counts`` of a compressed encoding.

    Returns:
        Whole numbers, of which some may be below 0; None if it is no such text.
    """
    codes = np.frombuffer(text.encode(errors="replace"), np.uint8).astype(np.int64)
    if not text or not text.isascii() or codes.min() < FIRST or codes.max() > LAST:
        return None
    codes -= FIRST
    ends = np.flatnonzero((codes & MORE) == 0)
    if ends.size == 0 or ends[-1] != codes.size - 1:
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > MOST_GROUPS:
        return None
    place = np.arange(codes.size) - np.repeat(starts, sizes)
    lengths = np.add.reduceat((codes & LOW) << (5 * place), starts)
    lengths -= np.where(codes[ends] & SIGN, np.int64(1) << (5 * sizes), 0)
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths.tolist()
