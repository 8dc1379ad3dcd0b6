"""Ground truth on its way to the losses and to the teacher."""

import pytest
import torch

from instance_seg_common.errors import UserError
from recurrent_instance_seg.targets import (
    Targets,
    boxes_of,
    hide_found,
    order_of,
    pad_targets,
    stack_targets,
)

SIZE = (8, 12)
# Row and column of the first pixel, height and width.
BOXES = (((0, 0, 8, 12), (1, 2, 3, 1), (5, 9, 1, 1)), (), ((2, 7, 4, 5), (6, 0, 2, 2)))
CLASSES = ((3, 0, 1), (), (2, 2))


def mask_of(top, left, height, width):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def lists(boxes=BOXES, classes=CLASSES):
    """Masks and classes of each image."""
    masks = [torch.stack([mask_of(*b) for b in image] or [mask_of(0, 0, 0, 0)]) for image in boxes]
    masks = [m[: len(image)] for m, image in zip(masks, boxes)]
    return masks, [torch.tensor(c, dtype=torch.int64) for c in classes]


def everything_valid(images=3):
    return torch.ones(images, *SIZE, dtype=torch.bool)


def batch(**changes):
    return pad_targets(*lists(**changes), everything_valid(), 4)


def test_instances_are_padded_to_the_most_crowded_image():
    masks, classes = lists()
    targets = batch()
    assert targets.counts == [3, 0, 2]
    assert targets.masks.shape == (3, 3, *SIZE) and targets.masks.dtype == torch.float32
    assert targets.classes.shape == (3, 3) and targets.classes.dtype == torch.int64
    assert torch.equal(targets.valid, everything_valid())
    for index, count in enumerate(targets.counts):
        assert torch.equal(targets.masks[index, :count], masks[index].float())
        assert torch.equal(targets.classes[index, :count], classes[index])
        assert not targets.masks[index, count:].any()
        assert not targets.classes[index, count:].any()


def test_no_instances_at_all():
    targets = batch(boxes=((), (), ()), classes=((), (), ()))
    assert targets.counts == [0, 0, 0]
    assert targets.masks.shape == (3, 0, *SIZE)
    assert targets.classes.shape == (3, 0)
    assert boxes_of(targets).shape == (3, 0, 4)
    assert targets.at(4).masks.shape == (3, 0, 2, 3)
    for rule in ("left_to_right", "top_to_bottom", "large_to_small"):
        assert order_of(targets, rule).shape == (3, 0)


def test_an_instance_without_a_valid_pixel_is_dropped():
    masks, classes = lists()
    valid = everything_valid()
    valid[0, 5, 9] = False  # the instance of one pixel
    valid[2, 6:, :2] = False
    valid[2, 2:4] = False  # a part of the other
    classes[2][1] = 99  # goes with its instance
    targets = pad_targets(masks, classes, valid, 4)
    assert targets.counts == [2, 0, 1]
    assert targets.classes.tolist() == [[3, 0], [0, 0], [2, 0]]
    assert torch.equal(targets.masks[2, 0], masks[2][0].float())
    assert torch.equal(targets.valid, valid)


def test_a_class_beyond_the_number_of_classes_is_a_sentence():
    with pytest.raises(UserError, match=r"class 3 but .*NUM_CLASSES is 3.*at least 4"):
        pad_targets(*lists(), everything_valid(), 3)


@pytest.mark.parametrize("stride", [2, 4])
def test_a_coarser_grid_has_the_share_of_each_cell(stride):
    generator = torch.Generator().manual_seed(0)
    masks, classes = lists()
    valid = torch.rand(3, *SIZE, generator=generator) < 0.5
    valid[0, :2, :2] = torch.tensor([[True, False], [False, True]])  # exactly one half
    targets = stack_targets(masks, classes, valid)
    coarse = targets.at(stride)
    assert coarse.counts == targets.counts and torch.equal(coarse.classes, targets.classes)
    assert coarse.valid.dtype == torch.bool
    for row in range(SIZE[0] // stride):
        for column in range(SIZE[1] // stride):
            rows = slice(row * stride, (row + 1) * stride)
            columns = slice(column * stride, (column + 1) * stride)
            shares = targets.masks[:, :, rows, columns].mean(dim=(2, 3))
            torch.testing.assert_close(coarse.masks[:, :, row, column], shares)
            enough = valid[:, rows, columns].float().mean(dim=(1, 2)) >= 0.5
            assert torch.equal(coarse.valid[:, row, column], enough)
    assert coarse.valid.any() and not coarse.valid.all()


def test_stride_one_changes_nothing():
    targets = batch()
    assert targets.at(1) is targets


def found_by_hand(targets, left, index):
    """The instances of an image that are not among those left, by their masks."""
    kept = {m.numpy().tobytes() for m in left.masks[index, : left.counts[index]]}
    own = targets.masks[index, : targets.counts[index]]
    return [m for m in own if m.numpy().tobytes() not in kept]


def test_what_is_hidden_is_found_and_the_rest_is_left():
    torch.manual_seed(0)
    targets = batch()
    class_of = {m.numpy().tobytes(): c for m, c in zip(targets.masks[0], targets.classes[0])}
    numbers_left = []
    for _ in range(40):
        left, found = hide_found(targets, torch.rand(3))
        assert left.masks.shape[1] == max(left.counts) and left.counts[1] == 0
        assert torch.equal(left.valid, targets.valid)
        assert found.shape == (3, *SIZE) and found.dtype == torch.float32
        for index, count in enumerate(targets.counts):
            hidden = found_by_hand(targets, left, index)
            assert len(hidden) == count - left.counts[index]
            union = torch.stack([torch.zeros(SIZE), *hidden]).amax(dim=0)
            assert torch.equal(found[index], union)
        for mask, label in zip(left.masks[0, : left.counts[0]], left.classes[0]):
            assert class_of[mask.numpy().tobytes()] == label
        numbers_left.append(left.counts)
    assert [set(image) for image in zip(*numbers_left)] == [{0, 1, 2, 3}, {0}, {0, 1, 2}]


def test_the_number_says_the_share_and_chance_says_which():
    torch.manual_seed(0)
    targets = batch()
    for number, left_over in ((0.0, 3), (0.24, 3), (0.26, 2), (0.51, 1), (0.76, 0), (0.9999999, 0)):
        left, found = hide_found(targets, torch.tensor([number, 0.5, 0.0]))
        assert left.counts == [left_over, 0, 2]
        assert found[0].any() == (left_over < 3) and not found[1:].any()
    seen = {int(hide_found(targets, torch.tensor([0.3, 0, 0]))[1].sum()) for _ in range(40)}
    assert seen == {96, 3, 1}  # the areas of the three


def centre(mask):
    """Row and column of the centre of mass, in loops."""
    rows, columns = zip(*mask.nonzero().tolist())
    weights = [mask[r, c].item() for r, c in zip(rows, columns)]
    total = sum(weights)
    return (
        sum(r * w for r, w in zip(rows, weights)) / total,
        sum(c * w for c, w in zip(columns, weights)) / total,
    )


KEYS = {
    "left_to_right": lambda mask: centre(mask)[1],
    "top_to_bottom": lambda mask: centre(mask)[0],
    "large_to_small": lambda mask: -mask.sum().item(),
}


@pytest.mark.parametrize("rule", list(KEYS))
@pytest.mark.parametrize("stride", [1, 2])
def test_order(rule, stride):
    generator = torch.Generator().manual_seed(0)
    masks = [torch.rand(n, *SIZE, generator=generator) < 0.3 for n in (5, 0, 3)]
    for image in masks:  # centres that are apart
        for k, mask in enumerate(image):
            mask[:, (7 * k) % 11 :] = False
            mask[: (5 * k) % 7] = False
            mask[(5 * k) % 7, 0] = True
    classes = [torch.zeros(len(m), dtype=torch.int64) for m in masks]
    targets = stack_targets(masks, classes, everything_valid()).at(stride)
    order = order_of(targets, rule)
    assert order.shape == (3, 5) and order.dtype == torch.int64
    for index, count in enumerate(targets.counts):
        own = targets.masks[index, :count]
        expected = sorted(range(count), key=lambda k: KEYS[rule](own[k]))  # noqa: B023
        assert order[index].tolist() == expected + list(range(count, 5))


def test_the_orders_are_not_those_of_the_data():
    boxes = ((4, 8, 2, 2), (0, 4, 3, 3), (6, 0, 2, 6))
    targets = pad_targets(*lists([boxes], [(0, 0, 0)]), everything_valid(1), 1)
    assert order_of(targets, "left_to_right").tolist() == [[2, 1, 0]]
    assert order_of(targets, "top_to_bottom").tolist() == [[1, 0, 2]]
    assert order_of(targets, "large_to_small").tolist() == [[2, 1, 0]]


def test_boxes_are_tight():
    boxes = boxes_of(batch())
    assert boxes.shape == (3, 3, 4)
    for image, rectangles in zip(boxes, BOXES):
        expected = [
            [left / 12, top / 8, (left + width) / 12, (top + height) / 8]
            for top, left, height, width in rectangles
        ] + [[0.0] * 4] * (3 - len(rectangles))
        torch.testing.assert_close(image, torch.tensor(expected))


def test_boxes_of_scattered_pixels():
    mask = torch.zeros(1, 1, *SIZE)
    mask[0, 0, 1, 7] = mask[0, 0, 6, 3] = 0.2
    targets = Targets(mask, torch.zeros(1, 1), everything_valid(1), [1])
    torch.testing.assert_close(
        boxes_of(targets)[0, 0], torch.tensor([3 / 12, 1 / 8, 8 / 12, 7 / 8])
    )
