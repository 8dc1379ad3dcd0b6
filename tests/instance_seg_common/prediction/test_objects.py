"""Run lengths and label maps of pieces, against dense masks."""

import numpy as np
import pycocotools.mask as mask_util
import pytest

from instance_seg_common.prediction.objects import encode, label_map_bands
from instance_seg_common.prediction.stitching import Piece, StitchedObject
from instance_seg_common.prediction.tiles import Box


def cut_in_pieces(mask, rng):
    """A mask as pieces: cut at random rows and columns."""
    rows = [0, *sorted(rng.integers(1, mask.shape[0], 2)), mask.shape[0]]
    columns = [0, *sorted(rng.integers(1, mask.shape[1], 2)), mask.shape[1]]
    pieces = []
    for top, bottom in zip(rows, rows[1:]):
        for left, right in zip(columns, columns[1:]):
            box = Box(int(top), int(left), int(bottom), int(right))
            piece = Piece(box, mask[box.slices]).tightened()
            if piece.mask.size:
                pieces.append(piece)
    rng.shuffle(pieces)
    return pieces


@pytest.mark.parametrize("density", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_those_of_the_dense_mask(density, seed):
    rng = np.random.default_rng(seed)
    size = tuple(int(v) for v in rng.integers(3, 40, 2))
    mask = rng.random(size) < density
    expected = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    encoding = encode(cut_in_pieces(mask, rng), size)
    assert encoding["size"] == list(size)
    assert encoding["counts"].encode() == expected["counts"]


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_bands_are_the_label_map_with_the_best_on_top(rows):
    rng = np.random.default_rng(3)
    size, objects = (61, 50), []
    expected, best = np.zeros(size, int), np.full(size, -1.0)
    for number in range(1, 30):
        mask = np.zeros(size, bool)
        top, left = rng.integers(0, 50), rng.integers(0, 40)
        mask[top : top + 12, left : left + 9] = True
        score = float(rng.integers(0, 6)) / 5  # many are equal: the first of them wins
        on_top = mask & (score > best)
        expected[on_top], best[on_top] = number, score
        objects.append(StitchedObject(tuple(cut_in_pieces(mask, rng)), score, 0))
    bands = list(label_map_bands(objects, size, rows=rows, dtype=np.dtype(np.uint16)))
    assert all(band.dtype == np.uint16 and len(band) <= rows for band in bands)
    np.testing.assert_array_equal(np.concatenate(bands), expected)
