"""Limits that cut something off are counted, and said."""

import logging

import pytest
import torch
from detectron2.config import get_cfg
from torch import nn

from instance_seg_common.engine.limits import LimitCounter, evaluate_and_count
from instance_seg_common.meta_arch import note_limit, noted_limits

PRE, POST = "MODEL.RPN.PRE_NMS_TOPK_TEST", "MODEL.RPN.POST_NMS_TOPK_TEST"
DETECTIONS = "TEST.DETECTIONS_PER_IMAGE"


class Limited(nn.Module):
    """Notes a limit for images that are brighter than 5."""

    def forward(self, batched_inputs):
        for item in batched_inputs:
            if item["image"].max() > 5:
                note_limit("KEY", 3)
                note_limit("KEY", 3)
        return [{} for _ in batched_inputs]


def images(*values):
    return [[{"image": torch.full((3, 8, 8), float(value))}] for value in values]


def test_images_are_counted_not_notes():
    with LimitCounter(get_cfg(), Limited()) as counter:
        model = counter.counted()
        for batch in images(1, 7, 9, 2):
            model(batch)
    (limit,) = counter.reached()
    assert (limit.key, limit.value, limit.images, limit.of) == ("KEY", 3, 2, 4)
    assert "KEY is 3" in limit.sentence
    assert "2 of 4 images" in limit.sentence


@pytest.mark.parametrize("values", [(1, 2), (1, 9)])
def test_an_evaluation_says_what_was_reached(caplog, values):
    def run(cfg, model):
        for batch in images(*values):
            model(batch)
        return {"segm": {"AP": 1.0}}

    with caplog.at_level(logging.INFO, logger="instance_seg_common"):
        results, limits = evaluate_and_count(run, get_cfg(), Limited())
    assert results == {"segm": {"AP": 1.0}}
    assert [limit.images for limit in limits] == ([1] if max(values) > 5 else [])
    assert ("KEY is 3" in caplog.text) == bool(limits)


def test_without_anyone_who_counts_the_log_says_it_once(caplog):
    for _ in range(3):
        note_limit("OTHER_KEY", 4)
    assert caplog.text.count("OTHER_KEY is 4") == 1
    with noted_limits() as noted:
        note_limit("OTHER_KEY", 5)
    assert noted == {("OTHER_KEY", 5)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({PRE: 10**6, POST: 10**6, DETECTIONS: -1}, set()),
        ({PRE: 100, POST: 10**6, DETECTIONS: -1}, {PRE}),
        ({PRE: 10**6, POST: 30, DETECTIONS: -1}, {POST}),
        ({PRE: 10**6, POST: 10**6, DETECTIONS: 3}, {DETECTIONS}),
    ],
)
def test_limits_of_the_stock_model_are_seen_from_outside(stock_cfg, stock_model, changes, expected):
    cfg = stock_cfg.clone()
    cfg.merge_from_list([item for pair in changes.items() for item in pair])
    parts = (stock_model.proposal_generator, stock_model.roi_heads.box_predictor)
    before = (
        parts[0].pre_nms_topk[False],
        parts[0].post_nms_topk[False],
        parts[1].test_topk_per_image,
    )
    parts[0].pre_nms_topk[False], parts[0].post_nms_topk[False] = changes[PRE], changes[POST]
    parts[1].test_topk_per_image = changes[DETECTIONS]
    torch.manual_seed(0)
    try:
        with LimitCounter(cfg, stock_model) as counter, torch.no_grad():
            counter.counted()([{"image": torch.rand(3, 96, 96) * 255}])
        assert {limit.key for limit in counter.reached()} == expected
        assert not stock_model.roi_heads._forward_hooks
    finally:
        parts[0].pre_nms_topk[False], parts[0].post_nms_topk[False] = before[:2]
        parts[1].test_topk_per_image = before[2]
