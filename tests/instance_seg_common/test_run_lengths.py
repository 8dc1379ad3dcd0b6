"""COCO's compressed text of run lengths, read without decoding a mask."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from coco_sets import run_list, run_text

from instance_seg_common.masks import counts_of


def test_lengths_are_those_counted_pixel_by_pixel():
    generator = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.1, 0.5, 0.9, 1.0):
        for size in ((1, 1), (7, 5), (40, 60), (3, 200)):
            mask = generator.random(size) < share
            assert list(counts_of(run_text(mask))) == run_list(mask)


def test_long_runs():
    lengths = [0, 2**30, 5, 2**30 - 1, 2**29, 1, 3]
    encoded = mask_util.frPyObjects({"size": [2**16, 2**16], "counts": lengths}, 2**16, 2**16)
    assert list(counts_of(encoded["counts"].decode())) == lengths


@pytest.mark.parametrize("text", ["", "P", "~", " ", "5,5", "\u00e9", "P" * 50 + "0", "\0"])
def test_other_texts_are_none(text):
    assert counts_of(text) is None


def test_random_texts_never_fail():
    generator = np.random.default_rng(1)
    for _ in range(500):
        codes = generator.integers(40, 120, generator.integers(0, 30))
        lengths = counts_of("".join(map(chr, codes)))
        assert lengths is None or lengths.dtype == np.int64
