"""Ground truth on its way to the losses and to the teacher."""

import pytest
import torch

from instance_seg_common.errors import UserError
from recurrent_instance_seg.targets import centers_of_mass, hide_found, pad_targets, stack_targets

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
    return pad_targets(*lists(**changes), everything_valid(), num_classes=4)


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
    assert targets.at(4).masks.shape == (3, 0, 2, 3)
    assert centers_of_mass(targets.masks).shape == (3, 0, 2)


def test_an_instance_without_a_valid_pixel_is_dropped():
    masks, classes = lists()
    valid = everything_valid()
    valid[0, 5, 9] = False  # the instance of one pixel
    valid[2, 6:, :2] = False
    valid[2, 2:4] = False  # a part of the other
    classes[2][1] = 99  # goes with its instance
    targets = pad_targets(masks, classes, valid, num_classes=4)
    assert targets.counts == [2, 0, 1]
    assert targets.classes.tolist() == [[3, 0], [0, 0], [2, 0]]
    assert torch.equal(targets.masks[2, 0], masks[2][0].float())
    assert torch.equal(targets.valid, valid)


def test_a_class_beyond_the_number_of_classes_is_a_sentence():
    with pytest.raises(UserError, match=r"class 3 but .*NUM_CLASSES is 3.*at least 4"):
        pad_targets(*lists(), everything_valid(), num_classes=3)


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


@pytest.mark.parametrize("stride", [1, 2])
def test_centers_of_mass(stride):
    generator = torch.Generator().manual_seed(0)
    masks = [torch.rand(n, *SIZE, generator=generator) < 0.3 for n in (5, 0, 3)]
    classes = [torch.zeros(len(m), dtype=torch.int64) for m in masks]
    targets = stack_targets(masks, classes, everything_valid()).at(stride)
    centers = centers_of_mass(targets.masks)
    assert centers.shape == (3, 5, 2)
    for index, count in enumerate(targets.counts):
        for k in range(count):
            y, x = centre(targets.masks[index, k])
            assert centers[index, k].tolist() == pytest.approx([x, y], rel=1e-5)
        assert not centers[index, count:].any()  # of those that pad
