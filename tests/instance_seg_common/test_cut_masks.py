"""Masks as windows and as run lengths, against full masks."""

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Instances
from pycocotools import mask as mask_util

from instance_seg_common.errors import UserError
from instance_seg_common.masks import (
    CutMasks,
    boxes_of,
    counts_of,
    cut_masks,
    decode_window,
    encode_window,
    id_maps_from_inputs,
    instances_from_labels,
    instances_to_label_map,
    overlapping_pairs,
    owners_of_pixels,
    to_run_lengths,
)

SIZE = (37, 29)


def random_masks(seed=0, count=9):
    """Specks, a full mask, an empty one, columns that touch top and bottom."""
    generator = np.random.default_rng(seed)
    masks = generator.random((count, *SIZE)) < generator.random((count, 1, 1)) / 2
    masks[0], masks[1] = True, False
    masks[2] = False
    masks[2, :, 4:9] = True
    masks[3] = False
    masks[3, -1, -1] = True
    return masks


def coco(mask):
    return mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))


@pytest.mark.parametrize("seed", range(3))
def test_windows_of_run_lengths(seed):
    generator = np.random.default_rng(seed)
    for mask in random_masks(seed):
        x0, x1 = sorted(generator.integers(0, SIZE[1] + 1, 2))
        y0, y1 = sorted(generator.integers(0, SIZE[0] + 1, 2))
        window = decode_window(coco(mask), (x0, y0, x1, y1))
        assert np.array_equal(window, mask[y0:y1, x0:x1])
        assert window.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("seed", range(3))
def test_encodings_are_those_of_pycocotools(seed):
    for mask, cut in zip(random_masks(seed), CutMasks.of(torch.from_numpy(random_masks(seed)))):
        assert np.array_equal(cut.numpy(), mask)
    rles = CutMasks.of(torch.from_numpy(random_masks(seed))).run_lengths()
    assert rles == [coco(mask) for mask in random_masks(seed)]
    assert encode_window(np.ones((2, 3), bool), (1, 2), (5, 6)) == coco(
        np.pad(np.ones((2, 3)), ((2, 1), (1, 2)))
    )


def test_counts_of_a_text_and_of_what_is_none():
    rle = coco(random_masks()[5])
    counts = counts_of(rle["counts"])
    assert counts.sum() == SIZE[0] * SIZE[1]
    assert mask_util.frPyObjects({"size": list(SIZE), "counts": counts.tolist()}, *SIZE) == rle
    assert counts_of(rle["counts"].decode()).tolist() == counts.tolist()
    for text in ("", "é", "~~", "o", "oooooooo0"):
        assert counts_of(text) is None


@pytest.mark.parametrize("counts", ["52", "oooo", ""])
def test_run_lengths_that_do_not_fit_their_image_are_an_error_in_words(counts):
    with pytest.raises(UserError, match=r"run lengths that do not fill .*\[4, 4\]"):
        decode_window({"size": [4, 4], "counts": counts}, (0, 0, 4, 4))


def test_boxes_and_polygons():
    masks = random_masks()
    tight = BitMasks(torch.from_numpy(masks)).get_bounding_boxes().tensor.numpy()
    assert np.array_equal(boxes_of([coco(mask) for mask in masks]), tight)
    assert boxes_of([]).shape == (0, 4)
    assert to_run_lengths([], 3, 4) == coco(np.zeros((3, 4)))


def test_pairs_that_overlap():
    masks = [coco(mask) for mask in random_masks()]
    crowds = [0, 1] * 2
    expected = np.asarray(mask_util.iou(masks, masks[:4], crowds))
    pairs = overlapping_pairs(masks, masks[:4], crowds)
    found = np.zeros_like(expected)
    found[pairs.rows, pairs.columns] = pairs.iou
    assert np.array_equal(found, expected)
    assert len(overlapping_pairs([], masks).rows) == len(overlapping_pairs(masks, []).rows) == 0


def test_cut_masks_do_what_bit_masks_do():
    dense = BitMasks(torch.from_numpy(random_masks()))
    cut = CutMasks.of(dense)
    assert isinstance(cut, BitMasks)
    assert cut.shape == tuple(dense.tensor.shape)
    assert cut.dtype == torch.bool
    assert len(cut) == len(dense)
    chosen = torch.tensor([True, False, True, True, False, False, True, False, True])
    for item in (4, slice(2, 5), chosen, torch.tensor([5, 0, 5])):
        assert torch.equal(cut[item].tensor, dense[item].tensor)
    assert torch.equal(cut.nonempty(), dense.nonempty())
    assert torch.equal(cut.areas(), dense.tensor.flatten(1).sum(1))
    assert torch.equal(cut.get_bounding_boxes().tensor, dense.get_bounding_boxes().tensor)
    assert torch.equal(CutMasks.cat([cut, cut[:2]]).tensor[9:], dense.tensor[:2])
    region = np.random.default_rng(0).random(SIZE) < 0.5
    assert torch.equal(cut.within(region).tensor, dense.tensor & torch.from_numpy(region))
    boxes = torch.tensor([[1.0, 2.0, 20.0, 30.0]]).repeat(9, 1)
    assert torch.equal(cut.crop_and_resize(boxes, 14), dense.crop_and_resize(boxes, 14))
    assert len(cut[:0].tensor) == len(CutMasks.of(dense.tensor[:0])) == 0


def test_targets_of_cut_masks_are_those_of_full_ones():
    items = []
    for masks in (BitMasks(torch.from_numpy(random_masks())),) * 2:
        item = Instances(SIZE)
        item.gt_masks, item.gt_classes = masks, torch.arange(9) % 4
        items.append(item)
    items[1].gt_masks = CutMasks.of(items[1].gt_masks)
    first, second = (id_maps_from_inputs([{"instances": item}], (40, 30)) for item in items)
    assert torch.equal(first.instance_ids, second.instance_ids)
    assert torch.equal(first.class_ids, second.class_ids)
    assert first.classes[0].tolist() == [0, 2, 3, 0, 1, 2, 3, 0]


@pytest.mark.parametrize("size", [SIZE, (50, 61)])
def test_a_crowd_of_predictions_is_cut_and_the_same(monkeypatch, size):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 40, SIZE, generator=generator)
    labels[labels == 7] = 0  # an instance without a pixel
    scores, classes = torch.rand(39, generator=generator), torch.arange(39) % 3
    settings = {"output_size": size, "min_area": 20}
    dense = instances_from_labels(labels, scores, classes, **settings)
    monkeypatch.setattr(cut_masks, "DENSE_PIXELS", 1000)
    cut = instances_from_labels(labels, scores, classes, **settings)
    assert isinstance(dense.pred_masks, torch.Tensor)
    assert isinstance(cut.pred_masks, CutMasks)
    assert 0 < len(cut) < 39
    assert torch.equal(cut.pred_masks.tensor, dense.pred_masks)
    assert torch.equal(cut.pred_boxes.tensor, dense.pred_boxes.tensor)
    assert torch.equal(cut.scores, dense.scores)
    assert torch.equal(cut.pred_classes, dense.pred_classes)


def test_the_owner_of_a_pixel_has_the_highest_score_and_of_equal_ones_is_the_first():
    instances = Instances((1, 4))
    instances.pred_masks = torch.tensor([[[1, 1, 1, 0]], [[1, 1, 0, 0]], [[1, 0, 0, 0]]]).bool()
    instances.scores = torch.tensor([0.5, 0.9, 0.9])
    assert owners_of_pixels(instances).tolist() == [[2, 2, 1, 0]]


@pytest.mark.parametrize(("threshold", "min_area"), [(0.0, 0), (0.5, 4)])
def test_the_label_map_of_cut_masks_is_that_of_full_ones(threshold, min_area):
    masks, scores = torch.from_numpy(random_masks()), torch.rand(9)
    dense = Instances(tuple(masks.shape[1:]), pred_masks=masks, scores=scores)
    cut = Instances(tuple(masks.shape[1:]), pred_masks=CutMasks.of(masks), scores=scores)
    expected = instances_to_label_map(dense, threshold, min_area)
    np.testing.assert_array_equal(instances_to_label_map(cut, threshold, min_area), expected)
