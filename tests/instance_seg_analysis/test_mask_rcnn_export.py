"""Exported networks of Mask R-CNN, between Detectron2's own proposals, NMS and pasting."""

import copy

import pytest
import torch
from exports import farthest
from tiny_embedding import TinyPyramid, item

from instance_seg_analysis.methods.mask_rcnn_export import EXPORT, run_pooled
from instance_seg_common.errors import UserError


class TinyBackbone(TinyPyramid):
    """With the levels and channels of the stock model's pyramid, and none of its cost."""

    size_divisibility = 32

    def __init__(self, shapes):
        super().__init__()
        self.shapes = shapes
        self.first = torch.nn.Conv2d(3, 16, 4, stride=4)

    def forward(self, x):
        levels = [self.first(x).tanh()]
        while len(levels) < len(self.shapes):
            levels.append(torch.nn.functional.max_pool2d(levels[-1], 1, stride=2))
        return dict(zip(self.shapes, levels))

    def output_shape(self):
        return self.shapes


@pytest.fixture(scope="module")
def model(stock_model):
    """The stock model behind a backbone of one convolution."""
    torch.manual_seed(0)
    model = copy.deepcopy(stock_model)
    model.backbone = TinyBackbone(stock_model.backbone.output_shape())
    torch.nn.init.normal_(model.roi_heads.mask_head.predictor.weight, std=3.0)
    return model.eval()


@pytest.fixture(scope="module", params=["onnx", "torch"])
def twins(request, model, exported_twin):
    """The model, and one that runs by its exported parts."""
    return model, exported_twin(model, EXPORT, request.param)


@pytest.mark.parametrize("size", [(60, 90), (128, 65), (20, 33)])
@torch.no_grad()
def test_levels_and_anchors_are_those_of_the_network(twins, size):
    said = []
    for model in twins:
        levels = model.backbone(model.preprocess_image([item(*size, boxes=())]).tensor)
        objectness, deltas = model.proposal_generator.rpn_head(list(levels.values()))
        said.append([*levels.values(), *objectness, *deltas])
    assert farthest(*said) < 1e-4


def test_instances_are_the_same_in_a_batch_of_several_sizes(twins):
    batch = [item(60, 90), item(128, 65)]
    for expected, found in zip(*(model(batch) for model in twins)):
        expected, found = expected["instances"], found["instances"]
        assert len(expected) > 3 and expected.pred_masks.any()
        assert torch.equal(expected.pred_masks, found.pred_masks)
        assert torch.allclose(expected.scores, found.scores, atol=1e-4)
        assert torch.equal(expected.pred_classes, found.pred_classes)


def test_no_boxes_are_no_results():
    seen = []

    def runner(pooled):
        seen.append(len(pooled))
        return (pooled.flatten(1), pooled)

    flat, same = run_pooled(runner, torch.zeros(0, 2, 3, 3))
    assert (seen, flat.shape, same.shape) == ([1], (0, 18), (0, 2, 3, 3))


def test_other_heads_are_named(model):
    other = copy.deepcopy(model)
    other.roi_heads.mask_head = torch.nn.Identity()
    with pytest.raises(UserError, match="StandardROIHeads and Identity"):
        EXPORT.parts(other)
