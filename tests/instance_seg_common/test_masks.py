"""Targets and predictions as masks, against truth known by construction."""

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from pycocotools import mask as mask_util

from instance_seg_common.errors import UserError
from instance_seg_common.masks import (
    annotations_to_label_map,
    check_classes,
    id_maps_from_inputs,
    instances_from_masks,
    instances_to_label_map,
    targets_from_inputs,
    targets_from_instances,
)


def square(size, top, left, side):
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


def ground_truth(masks, size):
    item = Instances(size)
    item.gt_masks = BitMasks(torch.stack(masks))
    item.gt_classes = torch.arange(len(masks))
    return item


def prediction(masks, scores):
    item = Instances(tuple(masks[0].shape))
    item.pred_masks = torch.stack(masks)
    item.scores = torch.tensor(scores)
    return item


def test_targets_are_padded_and_padding_is_not_valid():
    size = (4, 5)
    masks, classes, valid = targets_from_instances(
        [ground_truth([square(size, 0, 0, 2), square(size, 2, 2, 2)], size)], (8, 6)
    )
    assert masks[0].shape == (2, 8, 6)
    assert masks[0].sum(dim=(1, 2)).tolist() == [4, 4]
    assert classes[0].tolist() == [0, 1]
    assert valid.sum() == 20
    assert not valid[0, 4:].any()
    assert not valid[0, :, 5:].any()


def test_targets_of_an_image_without_objects_need_no_masks():
    empty = Instances((3, 3))
    empty.gt_classes = torch.zeros(0, dtype=torch.int64)
    bare = Instances((3, 3))
    bare.gt_boxes = Boxes(torch.zeros(0, 4))
    masks, classes, valid = targets_from_instances([empty, bare], (3, 3))
    assert [len(m) for m in masks] == [0, 0]
    assert [len(c) for c in classes] == [0, 0]
    assert valid.all()


def test_objects_without_masks_are_an_error_in_words():
    item = Instances((3, 3))
    item.gt_classes = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="MODEL.MASK_ON"):
        targets_from_instances([item], (3, 3))


def test_empty_masks_left_by_a_crop_are_dropped_with_their_class():
    size = (4, 4)
    item = ground_truth([torch.zeros(size, dtype=torch.bool), square(size, 1, 1, 2)], size)
    masks, classes, _ = targets_from_instances([item], size)
    assert len(masks[0]) == 1
    assert classes[0].tolist() == [1]


def test_polygons_become_masks():
    item = Instances((10, 10))
    item.gt_masks = PolygonMasks([[np.array([2.0, 2.0, 6.0, 2.0, 6.0, 6.0, 2.0, 6.0])]])
    item.gt_classes = torch.tensor([0])
    masks, _, _ = targets_from_instances([item], (10, 10))
    assert masks[0].sum() == 16
    assert masks[0][0, 2:6, 2:6].all()


def test_ignored_pixels_are_not_valid():
    size = (4, 4)
    ignore = torch.zeros(size)
    ignore[0] = 255
    _, _, valid = targets_from_instances(
        [ground_truth([square(size, 2, 2, 2)], size)], size, ignore=[ignore]
    )
    assert not valid[0, 0].any()
    assert valid[0, 1:].all()


def test_what_a_mapper_gives_may_say_which_pixels_do_not_count():
    size = (4, 4)
    instances = ground_truth([square(size, 2, 2, 2)], size)
    sem_seg = torch.zeros(size, dtype=torch.int64)
    sem_seg[0], sem_seg[1] = 255, 254  # other values are stuff, which counts
    inputs = [{"instances": instances, "sem_seg": sem_seg}, {"instances": instances}]
    masks, _, valid = targets_from_inputs(inputs, (4, 6))
    assert valid[:, :, :4].sum(dim=(1, 2)).tolist() == [12, 16] and not valid[:, :, 4:].any()
    assert not valid[0, 0].any() and [len(m) for m in masks] == [1, 1]


@pytest.mark.parametrize("classes", [[], [0, 2, 1]])
def test_classes_below_the_number_pass(classes):
    check_classes(torch.tensor(classes, dtype=torch.int64), 3, "KEY")


def test_a_class_too_many_is_a_sentence():
    with pytest.raises(UserError, match=r"class 3 but MODEL\.KEY is 3: .* at least 4"):
        check_classes(torch.tensor([[0], [3]]), 3, "MODEL.KEY")


def test_id_maps_put_the_smaller_object_on_top():
    size = (4, 4)
    item = ground_truth([square(size, 1, 1, 1), square(size, 0, 0, 3)], size)
    ids, class_ids, classes = id_maps_from_inputs([{"instances": item}], (4, 5))
    assert classes[0].tolist() == [0, 1]
    assert ids[0, 1, 1] == 1
    assert ids[0, 0, 0] == 2
    assert ids[0, 3, 3] == 0
    assert ids[0, 0, 4] == -1
    assert class_ids[0, 1, 1] == 0
    assert class_ids[0, 0, 0] == 1
    assert class_ids[0, 3, 3] == -1


def test_predictions_are_cropped_resized_and_boxed_tightly():
    probs = torch.zeros(2, 8, 8)
    probs[0, 1:3, 2:5] = 0.9
    probs[1, 6:, 6:] = 0.9  # lies wholly in the padding
    result = instances_from_masks(
        probs,
        torch.tensor([0.5, 0.4]),
        torch.tensor([1, 0]),
        input_size=(6, 6),
        output_size=(12, 12),
    )
    assert len(result) == 1
    assert result.pred_masks.dtype == torch.bool
    assert result.pred_masks.shape == (1, 12, 12)
    assert result.pred_masks.sum() == 24
    assert result.pred_boxes.tensor.tolist() == [[4, 2, 10, 6]]
    assert result.pred_classes.tolist() == [1]


def test_predictions_below_the_minimum_area_are_dropped():
    probs = torch.zeros(2, 4, 4)
    probs[0, 0, 0] = 1
    probs[1, :2, :2] = 1
    sizes = {"input_size": (4, 4), "output_size": (4, 4)}
    result = instances_from_masks(probs, torch.ones(2), torch.zeros(2), **sizes, min_area=2)
    assert len(result) == 1
    assert result.pred_masks[0].sum() == 4


@pytest.mark.parametrize("count", [0, 1, 70])
def test_any_number_of_predictions(count):
    result = instances_from_masks(
        torch.ones(count, 4, 4),
        torch.ones(count),
        torch.zeros(count),
        input_size=(4, 4),
        output_size=(8, 6),
    )
    assert result.pred_masks.shape == (count, 8, 6)
    assert result.pred_boxes.tensor.shape == (count, 4)


def test_highest_score_wins_a_pixel_and_ids_stay_consecutive():
    size = (4, 4)
    hidden, big, small = square(size, 1, 1, 1), square(size, 0, 0, 3), square(size, 3, 3, 1)
    labels = instances_to_label_map(prediction([hidden, big, small], [0.2, 0.9, 0.5]))
    assert labels.dtype == np.int64
    assert (labels == 1).sum() == 9
    assert labels[3, 3] == 2
    assert set(np.unique(labels)) == {0, 1, 2}


def test_label_map_respects_score_and_area():
    size = (4, 4)
    item = prediction([square(size, 0, 0, 1), square(size, 2, 2, 2)], [0.9, 0.6])
    assert instances_to_label_map(item, score_threshold=0.7).max() == 1
    assert instances_to_label_map(item, score_threshold=0.95).max() == 0
    kept = instances_to_label_map(item, min_area=2)
    assert kept[0, 0] == 0
    assert kept[2, 2] == 1


def test_annotations_keep_their_order_as_ids_and_crowds_apart():
    size = (6, 6)

    def rle(mask):
        return mask_util.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))

    annotations = [
        {"segmentation": rle(square(size, 1, 1, 1))},
        {"segmentation": rle(square(size, 4, 4, 2)), "iscrowd": 1},
        {"segmentation": [[0.0, 0.0, 3.0, 0.0, 3.0, 3.0, 0.0, 3.0]]},
    ]
    labels, crowd = annotations_to_label_map(annotations, *size)
    assert labels[1, 1] == 1
    assert labels[0, 0] == 2
    assert (labels == 2).sum() == 8
    assert crowd.sum() == 4
    assert crowd[4:, 4:].all()


def test_boxes_are_those_of_bitmasks():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(50, 9, 13, generator=generator) > 0.97
    masks[torch.arange(50), torch.arange(50) % 9, torch.arange(50) % 13] = True
    scores, classes = torch.ones(50), torch.zeros(50)
    result = instances_from_masks(masks, scores, classes, input_size=(9, 13), output_size=(9, 13))
    assert torch.equal(result.pred_boxes.tensor, BitMasks(masks).get_bounding_boxes().tensor)
