import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, pairwise_iou

from instance_seg_analysis.internals import proposals as drawers
from instance_seg_analysis.internals.detections import (
    lost_to_nms,
    nms_record,
    proposal_internals,
)
from instance_seg_analysis.methods.base import compute_internals, internals_panel
from instance_seg_common.engine.predictor import model_input
from instance_seg_common.errors import UserError


@pytest.fixture
def inputs(stock_cfg):
    image = np.random.default_rng(1).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    return [model_input(stock_cfg, image)]


def test_kept_boxes_are_those_of_the_model(stock_model, inputs):
    result = proposal_internals(stock_model, inputs)[0]
    with torch.no_grad():
        expected = stock_model.inference(inputs)[0]["instances"]
    assert int(result["kept"].sum()) > 5 and int(result["removed"].sum()) > 5
    order = torch.argsort(result["scores"][result["kept"]], descending=True, stable=True)
    assert torch.equal(result["scores"][result["kept"]][order], expected.scores)
    torch.testing.assert_close(result["boxes"][result["kept"]][order], expected.pred_boxes.tensor)
    assert torch.equal(result["classes"][result["kept"]][order], expected.pred_classes)


def test_removed_boxes_name_what_stood_in_their_way(stock_model, inputs):
    result = proposal_internals(stock_model, inputs)[0]
    removed = result["removed"].nonzero()[:, 0]
    remover = result["removed_by"][removed]
    assert (remover >= 0).all() and not result["removed"][remover].any()
    assert (result["classes"][removed] == result["classes"][remover]).all()
    assert (result["scores"][removed] <= result["scores"][remover]).all()
    assert (
        result["removed_iou"][removed] > stock_model.roi_heads.box_predictor.test_nms_thresh
    ).all()
    iou = pairwise_iou(Boxes(result["boxes"][removed]), Boxes(result["boxes"][remover])).diag()
    torch.testing.assert_close(iou, result["removed_iou"][removed], atol=1e-4, rtol=0)
    assert (result["removed_by"][~result["removed"]] == -1).all()


def record(boxes, scores, **options):
    scores = torch.tensor(scores)
    options = {"score_threshold": 0.05, "nms_threshold": 0.5, "limit": 100, **options}
    table = torch.stack([scores, 1 - scores], dim=1)
    return nms_record(torch.tensor(boxes), table, (100, 100), **options)


CROSS = [[10.0, 10.0, 50.0, 50.0], [12.0, 11.0, 51.0, 49.0]]


def test_limit_is_not_nms():
    far = [[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [50.0, 50.0, 60.0, 60.0]]
    result = record(far, [0.9, 0.8, 0.7], limit=2)
    assert result["kept"].tolist() == [True, True, False]
    assert not result["removed"].any()


def test_no_detections():
    result = record(CROSS, [0.01, 0.02])
    assert result["boxes"].shape == (0, 4) and lost_to_nms(result, torch.tensor(CROSS)) == []


def test_crossing_objects_are_lost_to_nms():
    result = record(CROSS, [0.9, 0.8])
    assert lost_to_nms(result, torch.tensor(CROSS)) == [(1, 1)]
    # A duplicate of one object is rightly removed, and costs the other nothing.
    apart = [[10.0, 10.0, 50.0, 50.0], [60.0, 60.0, 90.0, 90.0]]
    duplicates = record([apart[0], apart[0], apart[1]], [0.9, 0.8, 0.7])
    assert lost_to_nms(duplicates, torch.tensor(apart)) == []
    # Without NMS both sticks stand.
    assert lost_to_nms(record(CROSS, [0.9, 0.8], nms_threshold=0.99), torch.tensor(CROSS)) == []


def test_picture_of_the_internals(stock_model, inputs, squares):
    result = compute_internals("GeneralizedRCNN", stock_model, inputs)[0]
    image = np.zeros((64, 96, 3), dtype=np.uint8)
    two = internals_panel("GeneralizedRCNN", image, result)
    three = internals_panel("GeneralizedRCNN", image, result, dataset_dict=squares)
    assert three.shape[1] > two.shape[1]
    assert (two == drawers.KEPT).all(axis=2).any() and (two == drawers.REMOVED).all(axis=2).any()


def test_lost_objects_are_drawn(squares):
    result = record(CROSS, [0.9, 0.8])
    result.update(proposals=torch.tensor(CROSS), objectness=torch.tensor([1.0, 0.5]))
    image = np.zeros((64, 96, 3), dtype=np.uint8)
    for annotation, box in zip(squares["annotations"], CROSS):
        annotation.update(bbox=box, bbox_mode=0)
    picture = drawers.draw_proposals(image, result, squares, name="a.png")
    body = picture[45:-30]
    assert (body == drawers.LOST).all(axis=2).sum() > 20


def test_models_with_internals_of_their_own_are_asked():
    class Model:
        def internals(self, batched_inputs):
            return [{"asked": torch.ones(1)}] * len(batched_inputs)

    assert "asked" in compute_internals("EmbeddingInstanceSeg", Model(), [{}])[0]


def test_what_cannot_be_drawn_is_a_sentence():
    with pytest.raises(UserError, match="needs MODEL.ROI_HEADS.NAME StandardROIHeads"):
        proposal_internals(torch.nn.Identity(), [{}])
    with pytest.raises(UserError, match="cannot draw Unheard"):
        internals_panel("Unheard", np.zeros((4, 4, 3), np.uint8), {})
