"""What the meta-architectures share."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import Backbone
from detectron2.utils.events import EventStorage

from instance_seg_common.errors import UserError
from instance_seg_common.meta_arch import (
    as_buffer,
    check_channels,
    check_pixel_std,
    current_iteration,
    instance_limit,
    padded_batch,
    put_scalars,
    read_levels,
    wanted_size,
)


class TwoLevels(Backbone):
    """Levels "a" and "b", each a convolution of its own."""

    size_divisibility = 8

    def __init__(self, constraints=None):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 2, 1), torch.nn.Conv2d(3, 4, 1)
        self.constraints = constraints or {}

    @property
    def padding_constraints(self):
        return self.constraints

    def forward(self, images):
        return {"a": self.a(images), "b": self.b(images)}


@pytest.mark.parametrize("channels", [1, 4])
def test_an_image_of_other_channels_is_a_sentence(channels):
    """One channel would be spread over three in silence."""
    item = {"image": torch.zeros(channels, 5, 9), "file_name": "a.png"}
    check_channels(item, channels)
    with pytest.raises(UserError, match=rf"a\.png .*{channels} channels.*PIXEL_MEAN has 3"):
        padded_batch(
            [item], pixel_mean=as_buffer([7.0] * 3), pixel_std=as_buffer([2.0] * 3),
            backbone=TwoLevels(), divisibility=1,
        )  # fmt: skip


@pytest.mark.parametrize("std", [[1.0], [1.0] * 4, [1.0, 0.0, 1.0], []])
def test_a_std_that_does_not_fit_the_mean_is_a_sentence(std):
    check_pixel_std([1.0] * 3, [2.0] * 3)
    with pytest.raises(UserError, match="PIXEL_STD"):
        check_pixel_std([1.0] * 3, std)


def batch(backbone, divisibility=1):
    inputs = [
        {"image": torch.full((3, 5, 9), 7, dtype=torch.uint8)},
        {"image": torch.ones(3, 4, 3)},
    ]
    return padded_batch(
        inputs,
        pixel_mean=as_buffer([1.0, 3.0, 5.0]),
        pixel_std=as_buffer([2.0, 2.0, 2.0]),
        backbone=backbone,
        divisibility=divisibility,
    )


@pytest.mark.parametrize(
    ("divisibility", "constraints", "size"),
    [(1, {}, (8, 16)), (12, {}, (12, 12)), (1, {"square_size": 32}, (32, 32))],
)
def test_images_are_normalised_and_padded(divisibility, constraints, size):
    images = batch(TwoLevels(constraints), divisibility)
    assert images.image_sizes == [(5, 9), (4, 3)]
    assert images.tensor.shape == (2, 3, *size) and images.tensor.dtype == torch.float32
    assert images.tensor[0, :, 0, 0].tolist() == [3, 2, 1]
    assert images.tensor[1, :, 4:].abs().sum() == 0


def test_levels_come_in_the_order_of_their_names():
    backbone = TwoLevels().eval()
    images = torch.rand(1, 3, 4, 4)
    levels = read_levels(backbone, images, ["b", "a"])
    assert [level.shape[1] for level in levels] == [4, 2]
    assert torch.equal(levels[1], backbone.a(images))


def test_levels_that_nothing_reads_have_gradients_of_zero_in_training():
    backbone = TwoLevels().train()
    images = torch.rand(1, 3, 4, 4)
    (level,) = read_levels(backbone, images, ["a"])
    assert torch.equal(level, backbone.a(images))
    level.sum().backward()
    assert backbone.a.weight.grad.abs().sum() > 0
    assert backbone.b.weight.grad.abs().sum() == 0


def test_scalars_go_to_the_storage_of_a_trainer_and_nowhere_without():
    put_scalars({"x": 1.0})
    assert current_iteration() is None
    with EventStorage(5) as storage:
        assert current_iteration() == 5
        put_scalars({"x": 1.0, "y": 2.0}, smoothing_hint=False)
        assert storage.latest() == {"x": (1.0, 5), "y": (2.0, 5)}


def test_size_that_is_asked_for_and_else_that_of_the_image():
    assert wanted_size({"height": 7, "width": 9}, (3, 4)) == (7, 9)
    assert wanted_size({}, torch.Size([3, 4])) == (3, 4)


def test_a_limit_below_0_is_none():
    cfg = get_cfg()
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    assert instance_limit(cfg) == 5
    cfg.TEST.DETECTIONS_PER_IMAGE = -1
    assert instance_limit(cfg) is None
