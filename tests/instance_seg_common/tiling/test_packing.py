"""Parts come out of the package as they went in."""

import numpy as np
import pytest

from instance_seg_common.tiling.packing import pack_parts, unpack_parts
from instance_seg_common.tiling.stitching import Part, Piece
from instance_seg_common.tiling.tiles import Box


def random_part(rng):
    top, left, height, width = rng.integers(0, 50, 4).tolist()
    mask = rng.random((height, width)) < 0.5
    return Part(Piece(Box(top, left, top + height, left + width), mask), rng.random(), 3)


def assert_same(one, other):
    assert (one.piece.box, one.score, one.label) == (other.piece.box, other.score, other.label)
    assert all(type(edge) is int for edge in one.piece.box)
    assert one.piece.mask.dtype == bool
    np.testing.assert_array_equal(one.piece.mask, other.piece.mask)


@pytest.mark.parametrize("counts", [(), (0,), (0, 0), (1,), (3, 0, 5), (0, 7, 1, 0)])
def test_nothing_is_lost(counts):
    rng = np.random.default_rng(sum(counts))
    parts = [[random_part(rng) for _ in range(count)] for count in counts]
    unpacked = unpack_parts(pack_parts(parts))
    assert [len(seen) for seen in unpacked] == list(counts)
    for seen, expected in zip(unpacked, parts):
        for one, other in zip(seen, expected):
            assert_same(one, other)


def test_a_pixel_takes_a_bit():
    mask = np.ones((100, 80), bool)
    packed = pack_parts([[Part(Piece(Box(0, 0, 100, 80), mask), 0.5, 0)]])
    assert packed.bits.nbytes == 1000
