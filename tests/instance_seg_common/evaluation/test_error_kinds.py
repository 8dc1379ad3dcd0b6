import numpy as np
import pytest

from instance_seg_common.evaluation.error_kinds import (
    InstanceErrors,
    classify_errors,
    same_object,
)


def bar(*segments, length=100):
    """A one-row label map of (start, stop, id)."""
    labels = np.zeros((1, length), dtype=np.int64)
    for start, stop, label in segments:
        labels[0, start:stop] = label
    return labels


EMPTY = {name: [] for name in InstanceErrors._fields}


@pytest.mark.parametrize(
    ("gt", "pred", "expected"),
    [
        (bar(), bar(), {}),
        (bar((0, 10, 1)), bar((1, 11, 5)), {"matched": [(1, 5)]}),
        (bar((0, 10, 4)), bar(), {"missed": [4]}),
        (bar(), bar((0, 10, 4)), {"invented": [4]}),
        (bar((0, 10, 1)), bar((50, 60, 2)), {"missed": [1], "invented": [2]}),
        (bar((0, 10, 1), (10, 20, 2)), bar((0, 20, 3)), {
            "matched": [(1, 3)], "merged": [3], "merged_objects": [1, 2]}),
        (bar((0, 10, 1), (10, 20, 2), (20, 30, 5)), bar((0, 30, 3)), {
            "merged": [3], "merged_objects": [1, 2, 5]}),
        (bar((0, 30, 1)), bar((0, 10, 1), (10, 20, 2), (20, 30, 3)), {
            "split": [1], "split_pieces": [1, 2, 3]}),
        (bar((0, 20, 1)), bar((0, 12, 1), (12, 20, 2)), {
            "matched": [(1, 1)], "split": [1], "split_pieces": [1, 2]}),
        (bar((0, 20, 1)), bar((0, 10, 1), (15, 23, 2)), {
            "matched": [(1, 1)], "split": [1], "split_pieces": [1, 2]}),
        (bar((0, 20, 1)), bar((0, 10, 1), (17, 25, 2)), {
            "matched": [(1, 1)], "poor_predictions": [2]}),
        (bar((0, 10, 1)), bar((6, 16, 2)), {"poor": [1], "poor_predictions": [2]}),
        (bar((0, 30, 1)), bar((0, 10, 2)), {"poor": [1], "poor_predictions": [2]}),
        (bar((0, 10, 1)), bar((0, 60, 2)), {"poor": [1], "poor_predictions": [2]}),
        (bar((0, 20, 1)), bar((19, 39, 2)), {"missed": [1], "invented": [2]}),
        # A speck in an object is no piece of it, and no sign of it either.
        (bar((0, 40, 1)), bar((0, 37, 1), (38, 39, 2)), {
            "matched": [(1, 1)], "poor_predictions": [2]}),
        (bar((0, 40, 1)), bar((38, 39, 2)), {"missed": [1], "poor_predictions": [2]}),
        (bar((0, 40, 1)), bar((0, 36, 1), (36, 40, 2)), {
            "matched": [(1, 1)], "split": [1], "split_pieces": [1, 2]}),
        # An object within a much larger prediction is not merged with the one that it shows.
        (bar((0, 37, 1), (38, 40, 2)), bar((0, 40, 1)), {"matched": [(1, 1)], "poor": [2]}),
        (bar((0, 36, 1), (36, 40, 2)), bar((0, 40, 1)), {
            "matched": [(1, 1)], "merged": [1], "merged_objects": [1, 2]}),
    ],
)  # fmt: skip
def test_each_kind(gt, pred, expected):
    assert classify_errors(gt, pred)._asdict() == {**EMPTY, **expected}


def test_iou_of_exactly_the_threshold_matches():
    gt, pred = bar((0, 20, 1)), bar((0, 10, 1))
    assert classify_errors(gt, pred, iou_threshold=0.5).matched == [(1, 1)]


def test_two_objects_that_tie_over_predictions_are_both_matched():
    gt, pred = bar((0, 20, 1), (30, 40, 2)), bar((0, 10, 1), (30, 40, 2))
    assert classify_errors(gt, pred).matched == [(1, 1), (2, 2)]


def test_classes_are_compared_when_given():
    gt = bar((0, 10, 1), (20, 30, 2))
    errors = classify_errors(gt, gt, gt_classes={1: 0, 2: 1}, pred_classes={1: 0, 2: 0})
    assert errors.wrong_class == [(2, 2)]
    assert classify_errors(gt, gt).wrong_class == []


def test_every_object_and_prediction_is_in_some_kind():
    rng = np.random.default_rng(0)
    for _ in range(30):
        gt = np.repeat(np.repeat(rng.integers(0, 12, (6, 6)), 4, 0), 4, 1)
        pred = np.roll(np.repeat(np.repeat(rng.integers(0, 12, (8, 8)), 3, 0), 3, 1), 1, 0)
        e = classify_errors(gt, pred)
        gt_seen = {g for g, _ in e.matched} | {*e.missed, *e.split, *e.poor, *e.merged_objects}
        pred_seen = {p for _, p in e.matched} | {
            *e.invented, *e.merged, *e.poor_predictions, *e.split_pieces}  # fmt: skip
        assert gt_seen == set(np.unique(gt)) - {0}
        assert pred_seen == set(np.unique(pred)) - {0}


def test_same_object_is_mutual():
    gt = bar((0, 20, 3), (20, 30, 4))
    pred = bar((0, 18, 1), (18, 20, 2), (20, 30, 9))
    assert same_object(gt, pred) == {1: 3, 9: 4}
    assert same_object(gt, bar()) == {}
