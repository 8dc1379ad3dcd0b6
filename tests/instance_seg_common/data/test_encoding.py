"""Label maps become run-length encodings that equal those of dense masks."""

import numpy as np
import pycocotools.mask as mask_util
import pytest

from instance_seg_common.data.encoding import encode_label_map


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (13, 17)])
def test_encoding_equals_the_dense_one(shape):
    labels = np.random.default_rng(1).integers(0, 4, shape)
    records = encode_label_map(labels)
    assert [r["id"] for r in records] == sorted(set(labels.ravel().tolist()) - {0})
    for record in records:
        mask = labels == record["id"]
        dense = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert record["counts"] == dense["counts"].decode()
        assert record["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        x, y, w, h = record["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)


def test_a_full_and_an_empty_image():
    assert encode_label_map(np.zeros((5, 6), int)) == []
    (full,) = encode_label_map(np.ones((5, 6), int))
    assert full["area"] == 30
    assert mask_util.decode({"size": [5, 6], "counts": full["counts"]}).all()


@pytest.mark.parametrize("highest", [1, 20, 65535])
def test_votes_on_classes_equal_counting_each_pair(highest):
    generator = np.random.default_rng(highest)
    labels = generator.integers(0, 5, (13, 17)).astype(np.uint16) * 1000
    classes = generator.integers(0, 3, labels.shape).astype(np.uint16) * (highest // 2 or 1)
    for record in encode_label_map(labels, np.minimum(classes, highest)):
        inside = np.minimum(classes, highest)[labels == record["id"]].tolist()
        votes = sorted({c: inside.count(c) for c in inside}.items(), key=lambda v: (-v[1], v[0]))
        assert record["classes"] == [list(vote) for vote in votes]
