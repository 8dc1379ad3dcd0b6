import math

import numpy as np
import pytest
import torch
from square_sets import make_instances, make_record
from torchvision.ops import nms

from instance_seg_analysis.limits import findings as limits_findings
from instance_seg_analysis.limits.figures import (
    best_of,
    capacity_curve,
    claim_figures,
    count_error,
    lost_by_one_value,
    middle,
    neighbour_curve,
    spread,
)
from instance_seg_analysis.limits.images import describe_images, evenly_spread, terciles
from instance_seg_analysis.limits.matching import found_boxes
from instance_seg_analysis.limits.measure import capacity_values
from instance_seg_analysis.limits.nms import among_equals, box_iou, greedy_nms, soft_nms
from instance_seg_analysis.limits.scoring import Claims, Counts, pixel_claims, stands_for
from instance_seg_common.evaluation.intervals import wilson_interval


def random_boxes(number, seed=0):
    """(N, 4) crowded boxes and their (N,) scores."""
    generator = np.random.default_rng(seed)
    corner, size = generator.uniform(0, 40, (number, 2)), generator.uniform(5, 30, (number, 2))
    return np.hstack([corner, corner + size]), generator.uniform(size=number)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_greedy_nms_is_torchvisions(threshold):
    boxes, scores = random_boxes(60)
    kept = greedy_nms(box_iou(boxes), scores, threshold)
    assert kept.tolist() == nms(torch.tensor(boxes), torch.tensor(scores), threshold).tolist()
    assert greedy_nms(np.zeros((0, 0)), [], threshold).shape == (0,)


def soft_nms_by_the_paper(boxes, scores, sigma):
    """Bodla et al., Fig. 2, as it stands: a list of what is left, the best moved out of it."""
    left, done = list(range(len(boxes))), {}
    scores = list(scores)
    while left:
        best = max(left, key=lambda n: scores[n])
        left.remove(best)
        done[best] = scores[best]
        for n in left:
            low, high = np.maximum(boxes[n], boxes[best]), np.minimum(boxes[n], boxes[best])
            shared = max(high[2] - low[0], 0) * max(high[3] - low[1], 0)
            area = [np.prod(boxes[k][2:] - boxes[k][:2]) for k in (n, best)]
            scores[n] *= math.exp(-((shared / (sum(area) - shared)) ** 2) / sigma)
    return [done[n] for n in range(len(boxes))]


def test_soft_nms():
    boxes, scores = random_boxes(25, seed=1)
    expected = soft_nms_by_the_paper(boxes, scores, 0.5)
    np.testing.assert_allclose(soft_nms(box_iou(boxes), scores), expected, rtol=1e-5)
    twins = soft_nms(np.ones((2, 2)), [0.5, 0.9])
    np.testing.assert_allclose(twins, [0.5 * math.exp(-2), 0.9])
    apart = soft_nms(among_equals(np.ones((2, 2)), [0, 1]), [0.5, 0.9])
    np.testing.assert_allclose(apart, [0.5, 0.9])


def test_terciles_keep_equal_values_together():
    assert terciles([5, 1, 3, 2, 6, 4]).tolist() == [2, 0, 1, 0, 2, 1]
    assert terciles([1, 1, 1, 1, 9]).tolist() == [0, 0, 0, 0, 2]
    assert terciles([]).tolist() == []


def test_capacities_lie_on_both_sides_of_the_number_of_objects():
    assert capacity_values(8, 100) == [1, 2, 4, 6, 8, 16, 32, 100]
    assert capacity_values(8, 5) == [1, 2, 4, 5]
    assert capacity_values(1, 1) == [1]


def test_neighbour_curve():
    curve = neighbour_curve([0, 0.1, 0.69, 0.7, 1.0], [True, False, True, True, False])
    assert [b["objects"] for b in curve] == [1, 1, 0, 1, 2]
    assert [b["recall"] for b in curve] == [1, 0, None, 1, 0.5] and curve[2]["interval"] is None
    # The bounds solve |share - p| = z sqrt(p (1 - p) / n).
    for bound in wilson_interval(3, 10):
        assert abs(0.3 - bound) == pytest.approx(1.96 * math.sqrt(bound * (1 - bound) / 10))
    # Newcombe 1998, Table I: 81 of 263 give 0.2553 to 0.3662.
    assert wilson_interval(81, 263) == pytest.approx([0.2553, 0.3662], abs=1e-4)
    assert wilson_interval(0, 0) is None and wilson_interval(5, 5)[1] == 1


def test_pixels_claimed_for_different_objects():
    masks = np.zeros((4, 1, 8), dtype=bool)
    masks[0, 0, :4] = masks[1, 0, 2:6] = masks[2, 0, 3:5] = masks[3, 0, 7] = True
    # Claims by pixel: 0 0 01 012 12 1 - 3.
    assert pixel_claims(masks, np.array([0, 0, 0, 1])) == Claims(7, 3, 0)
    assert pixel_claims(masks, np.array([0, 0, 1, 1])) == Claims(7, 3, 2)
    assert pixel_claims(masks, np.array([0, -1, -1, 1])) == Claims(7, 3, 2)
    assert pixel_claims(masks[:0], np.zeros(0)) == Claims(0, 0, 0)
    figures = claim_figures(Claims(8, 4, 2) + Claims(2, 0, 0))
    assert figures["share_twice"] == 0.4 and figures["share_disputed"] == 0.2
    assert claim_figures(Claims(0, 0, 0))["share_twice"] is None


def test_what_an_instance_stands_for():
    assert stands_for(np.array([[0.1, 0.2], [0, 0]])).tolist() == [1, -1]
    assert stands_for(np.zeros((2, 0))).tolist() == [-1, -1]


def test_objects_found_by_their_boxes():
    masks = np.zeros((2, 20, 20), dtype=bool)
    masks[0, :10, :10] = masks[1, 10:, 10:] = True
    instances = make_instances(masks, scores=[0.9, 0.2])
    boxes = torch.tensor([[0, 0, 10, 9], [0, 0, 10, 10], [10, 10, 20, 20]])
    assert found_boxes(instances, boxes, score_threshold=0.1).tolist() == [False, True, True]
    assert found_boxes(instances, boxes, score_threshold=0.5).tolist() == [False, True, False]
    assert found_boxes(instances[:0], boxes, score_threshold=0.5).tolist() == [False] * 3


def counts(found, objects, count=None):
    """An image with so many objects, of which some are found."""
    hits = np.arange(objects) < found
    return Counts(hits, hits, found, found if count is None else count, objects)


def test_capacity_curve():
    some = {2: [counts(2, 4), counts(1, 2)], 8: [counts(4, 4, count=5), counts(0, 0)]}
    curve = capacity_curve(some)
    by_edges = {(b["low"], b["high"]): b for b in curve}
    assert by_edges[1, 2]["recall"] == by_edges[1, 2]["bound"] == 0.5
    assert by_edges[0.5, 1]["recall"] == 0.5 and by_edges[0.5, 1]["bound"] == 1
    assert by_edges[0.25, 0.5]["recall"] == 1 and by_edges[0.25, 0.5]["count_error"] == 1
    assert by_edges[0.25, 0.5]["relative_count_error"] == 0.25
    assert sum(b["images"] for b in curve) == 3 and curve[-1]["high"] is None


def test_sensitivity():
    assert middle(list(range(9))) == [2, 3, 4, 5, 6] and middle([1]) == [1]
    assert spread([None, 3, 1]) == 2 and spread([None]) is None
    assert best_of((0.1, 0.2, 0.3), [1, None, 1]) == 0.1
    assert best_of((0.1,), [None]) is None
    ap = {"all": [10, 12, 11], "few": [20, 15, 10], "many": [5, 9, 9.5], "none": [None] * 3}
    assert lost_by_one_value(ap) == {"few": 5, "many": 0.5}
    assert count_error([counts(2, 5), counts(1, 1, count=3)]) == 2.5


def test_facts_about_the_images():
    masks = np.zeros((3, 40, 40), dtype=bool)
    masks[0, :10, :10] = masks[1, :10, :5] = masks[2, 30:, 30:] = True
    records = [make_record(0, masks), make_record(1, masks[:1]), make_record(2, masks[:2])]
    by_number = describe_images(records)
    assert by_number.objects.tolist() == [3, 1, 2] and by_number.groups.tolist() == [2, 0, 1]
    assert by_number.group_names == ("few (1)", "middle (2)", "many (3)")
    by_overlap = describe_images(records, crowding="overlap")
    assert by_overlap.groups.tolist() == [1, 0, 2]
    np.testing.assert_allclose(by_overlap.neighbour_iou[0], [0.5, 0.5, 0])
    assert evenly_spread(list(range(10)), 3) == [0, 4, 9]


# ---- findings -----------------------------------------------------------------------------------


def rule_figures(apart, together, box_apart=None, box_together=None):
    """Figures of limit 1: 100 objects apart from others and 100 together, so many found."""

    def bins(low, high):
        iou = [0.0] * 100 + [0.9] * 100
        hits = [n < low for n in range(100)] + [n < high for n in range(100)]
        return neighbour_curve(iou, hits)

    boxes = bins(box_apart or apart, together if box_together is None else box_together)
    return {"bins": bins(apart, together), "box_bins": boxes}


def model_figures(proposal_based, neighbours, ap_spread, twice, recall_over, middle_spread=0.5):
    """Figures of one model that say what the arguments say."""
    key = "MODEL.RPN.POST_NMS_TOPK_TEST" if "no NMS" in neighbours else "STEPS"
    curve = capacity_curve({1: [counts(recall_over, 4)] * 5, 16: [counts(4, 4)]})
    sweep = {
        "name": "knob", "values": [0.1, 0.9], "AP": {"all": [30.0, 30.0 - ap_spread]},
        "AP_spread": {"all": ap_spread},
        "AP_spread_middle": {"all": middle_spread}, "best_value": {"all": 0.1, "few": 0.9},
        "count_error_spread": {"all": 1.0},
        "lost_by_one_value": {"few": 0.5},
    }  # fmt: skip
    return {
        "proposal_based": proposal_based, "neighbours": neighbours, "sweep": sweep,
        "proposal_limit": key if proposal_based else None,
        "claims": {"share_twice": twice, "share_disputed": 0.0},
        "capacity": {key: {"config": 16, "images_above_config": 0, "curve": curve}},
    }  # fmt: skip


def verdicts(detector, ap_spread=10.0, twice=0.1, recall_over=1, other_spread=2.0):
    figures = {
        "detector": model_figures(True, detector, ap_spread, twice, recall_over, 3.0),
        "other": model_figures(False, {"": rule_figures(90, 90)}, other_spread, 0.0, 1),
    }
    return limits_findings.findings(figures)


def test_claims_hold():
    rules = {"box NMS": rule_figures(90, 40), "no NMS": rule_figures(95, 85)}
    found = verdicts(rules)
    assert [f.holds for f in found] == [True] * 4 and [f.limit for f in found] == [1, 2, 3, 4]
    assert "detector, box NMS 0.90 and 0.40" in found[0].sentence
    assert "other's knob from 0.1 to 0.9 moves AP by 2.0 (0.5 in" in found[1].sentence
    assert "detector 10.0 %, 0.0 %" in found[2].sentence
    assert "detector (POST_NMS_TOPK_TEST 16, which 0 images exceed) 1.00" in found[3].sentence


def test_claims_fail():
    rules = {"box NMS": rule_figures(90, 40), "no NMS": rule_figures(95, 42)}
    found = verdicts(rules, ap_spread=1.0, twice=0.001, recall_over=4)
    # The recall falls without NMS, too.
    assert [f.holds for f in found] == [False] * 4
    level = {"box NMS": rule_figures(90, 88), "no NMS": rule_figures(95, 95)}
    assert verdicts(level)[0].holds is False


def test_sensitive_at_the_ends_only():
    sweeps = {
        "a": {"AP_spread": {"all": 9.0}, "AP_spread_middle": {"all": 0.5}, "AP": {"all": [9]}},
        "b": {"AP_spread": {"all": 2.0}, "AP_spread_middle": {"all": 1.0}, "AP": {"all": [9]}},
    }
    assert limits_findings.most_sensitive(sweeps, "a") is False
    assert limits_findings.most_sensitive({"a": sweeps["a"]}, "a") is None
    sweeps["a"]["AP_spread_middle"]["all"] = 3.0
    assert limits_findings.most_sensitive(sweeps, "a") is True
    # A model that finds nothing has nothing to lose; a difference of less than 1 AP is none.
    assert (
        limits_findings.most_sensitive(sweeps | {"b": {**sweeps["b"], "AP": {"all": [0.1]}}}, "a")
        is None
    )
    sweeps["b"]["AP_spread_middle"]["all"] = 2.5
    assert limits_findings.most_sensitive(sweeps, "a") is False


def test_duplicates_of_one_object_are_not_its_neighbour():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8]])
    masks = np.zeros((3, 20, 20), dtype=bool)
    masks[0, :10, :10] = masks[1, :10, 1:10] = masks[2, 1:10, :10] = True
    twice = make_instances(masks, scores=[0.9, 0.8, 0.7])
    assert found_boxes(twice, boxes, score_threshold=0.1).tolist() == [True, False]
    same_box = boxes[[0, 0]]
    assert found_boxes(twice, same_box, score_threshold=0.1).tolist() == [True, True]
    # What NMS removes everywhere is no matter of shared boxes.
    everywhere = {"box NMS": rule_figures(70, 40), "no NMS": rule_figures(95, 65)}
    assert verdicts(everywhere)[0].holds is False


def test_masks_that_are_lost_anyway():
    rules = {"box NMS": rule_figures(90, 2, 95, 30), "no NMS": rule_figures(90, 2, 95, 80)}
    found = verdicts(rules)[0]
    assert found.holds is True and "for boxes only" in found.sentence


def test_what_cannot_be_told():
    few = neighbour_curve([0.0] * 50 + [0.9] * 3, [True] * 53)
    rules = {name: {"bins": few, "box_bins": few} for name in ("box NMS", "no NMS")}
    assert verdicts(rules)[0].holds is None
    weak = verdicts(rules, ap_spread=1.0)
    assert weak[1].holds is False
    other = {"other": model_figures(False, {"": rule_figures(9, 9)}, 1.0, 0.0, 1)}
    assert [f.holds for f in limits_findings.findings(other)] == [None] * 4


def test_no_verdict_where_the_detector_segments_next_to_nothing():
    rules = {"box NMS": rule_figures(90, 40), "no NMS": rule_figures(95, 85)}
    figures = {"detector": model_figures(True, rules, 0.05, 0.1, 1)}
    figures["detector"]["sweep"]["AP"]["all"] = [0.1, 0.05]
    found = limits_findings.findings(figures)
    assert found[2].holds is None and "an AP of 0.1 at best" in found[2].sentence


def test_no_verdict_on_shared_boxes_without_enough_objects_apart():
    few = neighbour_curve([0.0] * 3 + [0.9] * 100, [True] * 3 + [False] * 100)
    free = neighbour_curve([0.0] * 3 + [0.9] * 100, [True] * 103)
    rules = {"box NMS": {"bins": few, "box_bins": few}, "no NMS": {"bins": free, "box_bins": free}}
    found = verdicts(rules)
    assert found[0].holds is None and "too few objects" in found[0].sentence
