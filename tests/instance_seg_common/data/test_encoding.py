"""Label maps become run-length encodings that equal those of dense masks."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from scipy import ndimage

from instance_seg_common.data.encoding import encode_label_map, encode_object

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


def dense(mask):
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (13, 17), (40, 5)])
@pytest.mark.parametrize("values", [2, 4, 9])
def test_encoding_equals_the_dense_one(shape, values):
    labels = np.random.default_rng(values).integers(0, values, shape)
    records = encode_label_map(labels)
    assert [r["id"] for r in records] == sorted(set(labels.ravel().tolist()) - {0})
    for record in records:
        mask = labels == record["id"]
        assert record["counts"] == dense(mask)
        assert record["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        x, y, w, h = record["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (13, 17), (60, 80)])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_parts_are_those_of_eight_neighbours(shape, share):
    generator = np.random.default_rng(int(share * 10))
    labels = generator.integers(1, 4, shape) * (generator.random(shape) < share)
    expected_masks = []
    for record in encode_label_map(labels):
        components, number = ndimage.label(labels == record["id"], structure=EIGHT_NEIGHBOURS)
        areas = np.bincount(components.ravel())[1:].tolist()
        assert record["parts"] == sorted(areas, reverse=True)
        expected_masks += [(record["id"], dense(components == i + 1)) for i in range(number)]
    found = encode_label_map(labels, each_part=True)
    assert sorted((r["id"], r["counts"]) for r in found) == sorted(expected_masks)
    assert [r["id"] for r in found] == sorted(r["id"] for r in found)
    assert all(r["parts"] == [r["area"]] for r in found)


def test_a_full_and_an_empty_image():
    assert encode_label_map(np.zeros((5, 6), int)) == []
    assert encode_label_map(np.zeros((0, 6), int)) == []
    (full,) = encode_label_map(np.ones((5, 6), int))
    assert full["area"] == 30
    assert full["parts"] == [30]
    assert mask_util.decode({"size": [5, 6], "counts": full["counts"]}).all()


@pytest.mark.parametrize("dtype", [np.uint64, ">u8"])
def test_ids_beyond_every_smaller_type_are_kept(dtype):
    highest = 2**64 - 1
    labels = np.zeros((4, 6), dtype)
    labels[0, :2], labels[2:, 3] = highest, highest - 1
    records = encode_label_map(labels, (labels > 0).astype(np.uint64) * 3)
    assert [r["id"] for r in records] == [highest - 1, highest]
    assert [r["counts"] for r in records] == [dense(labels == r["id"]) for r in records]
    assert [r["classes"] for r in records] == [[[3, 2]], [[3, 2]]]


@pytest.mark.parametrize("highest", [1, 20, 65535])
@pytest.mark.parametrize("each_part", [False, True])
def test_votes_on_classes_equal_counting_each_pair(highest, each_part):
    generator = np.random.default_rng(highest)
    labels = generator.integers(0, 5, (13, 17)).astype(np.uint16) * 1000
    classes = generator.integers(0, 3, labels.shape).astype(np.uint16) * (highest // 2 or 1)
    classes = np.minimum(classes, highest)
    for record in encode_label_map(labels, classes, each_part=each_part):
        mask = mask_util.decode({"size": [13, 17], "counts": record["counts"]})
        inside = classes[mask.astype(bool)].tolist()
        votes = sorted({c: inside.count(c) for c in inside}.items(), key=lambda v: (-v[1], v[0]))
        assert record["classes"] == [list(vote) for vote in votes]


@pytest.mark.parametrize("share", [0, 0.1, 0.7, 1])
def test_one_object_is_encoded_as_in_a_label_of_its_own(share):
    generator = np.random.default_rng(5)
    mask = np.zeros((19, 23), bool)
    mask[3:17, 5:20] = generator.random((14, 15)) < share
    classes = generator.integers(0, 4, mask.shape)
    expected = encode_label_map(mask * 7, classes)
    found = encode_object(mask, 7, classes)
    assert [found] == expected if found is not None else expected == []
