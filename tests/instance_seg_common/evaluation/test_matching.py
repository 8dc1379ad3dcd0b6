"""Matching, SBD and DiC against closed forms and a loop written from the definition."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.contingency import contingency_table, relabel
from instance_seg_common.evaluation.matching import (
    Matching,
    best_dice,
    difference_in_count,
    match_label_maps,
    match_pairs,
    symmetric_best_dice,
)
from instance_seg_common.masks import MaskPairs


def squares(count=3, side=10, shift=0):
    """A row of squares with ids 1..count; a shift by k gives IoU (side - k) / (side + k)."""
    labels = np.zeros((20, count * 30), dtype=np.int64)
    for label in range(1, count + 1):
        left = 30 * (label - 1) + shift
        labels[5 : 5 + side, left : left + side] = label
    return labels


def random_maps(seed, ids=6):
    """Two maps that agree in parts, so that all kinds of overlap occur."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, ids, (8, 9))
    other = np.where(rng.random((8, 9)) < 0.7, coarse, rng.integers(0, ids, (8, 9)))
    return np.kron(coarse, np.ones((3, 2), int)), np.kron(other, np.ones((3, 2), int))


def loop_best_dice(a, b):
    """The definition: labels min + 1 .. max of a, each with its best Dice in b, or 0."""
    if a.max() == a.min():
        return 0.0
    total = 0.0
    for i in range(a.min() + 1, a.max() + 1):
        best = 0.0
        for j in range(b.min() + 1, b.max() + 1):
            pixels = (a == i).sum() + (b == j).sum()
            if pixels:
                best = max(best, 2 * ((a == i) & (b == j)).sum() / pixels)
        total += best
    return total / (a.max() - a.min())


def loop_iou(gt, pred):
    """IoU of each pair of non-zero ids, in ascending order of the ids."""
    return np.array(
        [
            [
                ((gt == i) & (pred == j)).sum() / ((gt == i) | (pred == j)).sum()
                for j in np.unique(pred[pred != 0])
            ]
            for i in np.unique(gt[gt != 0])
        ]
    )


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 5])
def test_shifted_squares(shift):
    iou = (10 - shift) / (10 + shift)
    thresholds = (0.3, 0.5, 0.7, 0.9)
    for m in match_label_maps(squares(), squares(shift=shift), thresholds):
        hit = 3 if iou >= m.iou_threshold else 0
        assert (m.tp, m.fp, m.fn) == (hit, 3 - hit, 3 - hit)
        assert m.precision == m.recall == m.f1 == hit / 3
        assert m.accuracy == hit / (6 - hit)
        assert m.pq == pytest.approx(iou * hit / 3)
        assert m.mean_matched_iou == pytest.approx(iou if hit else 0)
    assert symmetric_best_dice(squares(), squares(shift=shift)) == pytest.approx(1 - shift / 10)


def test_threshold_is_inclusive_and_exact():
    gt = np.ones((1, 10), dtype=int)
    for tenths in range(1, 10):
        pred = (np.arange(10) < tenths).astype(int)[None]
        assert match_label_maps(gt, pred, tenths / 10).tp == 1
        assert match_label_maps(gt, pred, tenths / 10 + 1e-9).tp == 0


def test_ratios_of_unequal_counts():
    m = Matching(0.5, tp=3, fp=1, fn=2, iou_sum=2.4)
    assert (m.precision, m.recall, m.accuracy) == (3 / 4, 3 / 5, 3 / 6)
    assert m.f1 == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert m.pq == pytest.approx(2.4 / 4.5)
    assert m.mean_matched_iou == pytest.approx(0.8)


def test_permuted_and_gappy_ids_change_nothing_but_the_official_sbd():
    gt = squares(4)
    pred = squares(4, shift=2)
    permuted = np.array([0, 3, 1, 4, 2])[pred]
    gappy = np.array([0, 70_000, 5, 2**40, 9])[pred]
    expected = match_label_maps(gt, pred, 0.5)
    assert expected.tp == 4
    for other in (permuted, gappy, pred.astype(np.uint8), pred.astype(np.int32)):
        assert match_label_maps(gt, other, 0.5) == expected
        assert match_label_maps(other, gt, 0.5) == expected
    assert match_label_maps(np.array([0, 9, 5, 2, 7])[gt], pred, 0.5) == expected
    assert symmetric_best_dice(gt, permuted) == pytest.approx(0.8)
    assert symmetric_best_dice(gt, np.array([0, 2, 4, 6, 8])[pred]) == pytest.approx(0.8 * 4 / 8)
    assert symmetric_best_dice(gt, relabel(gappy)) == pytest.approx(0.8)


def test_empty_maps():
    nothing, some = np.zeros((20, 90), int), squares()
    both = match_label_maps(nothing, nothing)
    assert (both.tp, both.fp, both.fn) == (0, 0, 0)
    assert both.accuracy == both.precision == both.recall == both.f1 == both.pq == 1
    missed, invented = match_label_maps(some, nothing), match_label_maps(nothing, some)
    assert (missed.tp, missed.fp, missed.fn) == (0, 0, 3)
    assert (invented.tp, invented.fp, invented.fn) == (0, 3, 0)
    for m in (missed, invented):
        assert m.accuracy == m.precision == m.recall == m.f1 == m.pq == m.mean_matched_iou == 0
    assert missed + both == missed
    for pair in ((nothing, nothing), (some, nothing), (nothing, some)):
        assert symmetric_best_dice(*pair) == 0
    counts = [difference_in_count(*p) for p in ((some, nothing), (nothing, some), (some, some))]
    assert counts == [-3, 3, 0]


def test_pooling_sums_the_counts():
    pooled = match_label_maps(squares(3), squares(3)) + match_label_maps(squares(5), squares(5) * 0)
    assert (pooled.tp, pooled.fn, pooled.accuracy) == (3, 5, 3 / 8)
    with pytest.raises(ValueError, match="pool"):
        _ = pooled + match_label_maps(squares(), squares(), 0.7)


def test_two_exact_halves_match_once():
    gt = np.ones((2, 10), dtype=int)
    pred = np.where(np.arange(10) < 5, 1, 2)[None].repeat(2, axis=0)
    m = match_label_maps(gt, pred, 0.5)
    assert (m.tp, m.fp, m.fn) == (1, 1, 0)


def test_low_thresholds_prefer_more_pairs_then_higher_iou():
    # The best pair alone (0.7) has more IoU than the two others, but leaves an object single.
    rows, columns = match_pairs(MaskPairs.of(np.array([[0.7, 0.3], [0.3, 0.1]])), 0.25)
    assert list(zip(rows, columns)) == [(0, 1), (1, 0)]
    rows, columns = match_pairs(MaskPairs.of(np.array([[0.45, 0.3], [0.3, 0.3]])), 0.25)
    assert list(zip(rows, columns)) == [(0, 0), (1, 1)]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(12))
def test_the_assignment_is_that_of_the_whole_table(seed, threshold):
    """Groups of pairs that share no object are solved one by one."""
    generator = np.random.default_rng(seed)
    iou = np.where(generator.random((9, 7)) < 0.3, generator.random((9, 7)), 0)
    rows, columns = match_pairs(MaskPairs.of(iou), threshold)
    assert len(set(rows)) == len(set(columns)) == len(rows)
    gain = np.where((iou >= threshold) & (iou > 0), 7 + iou, 0)
    best = linear_sum_assignment(gain, maximize=True)
    assert gain[rows, columns].sum() == pytest.approx(gain[best].sum())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("offset", [0, 3, -2])
def test_against_the_loops(seed, offset):
    gt, pred = random_maps(seed)
    overlap = contingency_table(gt, pred).overlap()
    iou = np.zeros((len(overlap.gt_ids), len(overlap.pred_ids)))
    iou[overlap.pairs.rows, overlap.pairs.columns] = overlap.pairs.iou
    np.testing.assert_allclose(iou, loop_iou(gt, pred))
    moved = gt + offset
    expected = min(loop_best_dice(moved, pred), loop_best_dice(pred, moved))
    assert best_dice(moved, pred) == pytest.approx(loop_best_dice(moved, pred), abs=1e-12)
    assert symmetric_best_dice(moved, pred) == pytest.approx(expected, abs=1e-12)
    gappy = np.where(gt == 2, 40, gt)
    assert best_dice(gappy, pred) == pytest.approx(loop_best_dice(gappy, pred), abs=1e-12)
    assert best_dice(pred, gappy) == pytest.approx(loop_best_dice(pred, gappy), abs=1e-12)


def test_the_smallest_label_is_the_challenges_background():
    full = np.array([[1, 1, 2, 2, 3, 3]])
    assert symmetric_best_dice(full, full) == 1
    shrunk = np.array([[1, 1, 2, 1, 3, 3]])
    # Labels 2 and 3 count, 1 does not: Dice 2/3 and 1.
    assert symmetric_best_dice(full, shrunk) == pytest.approx((2 / 3 + 1) / 2)
    one_leaf = np.array([[0, 1, 1, 1, 1, 0]])
    assert difference_in_count(one_leaf, full) == 1
    single = np.full((1, 6), 7)
    assert symmetric_best_dice(single, single) == 0
    assert difference_in_count(one_leaf, single) == -1


def test_an_absent_label_counts_as_an_object_without_overlap():
    gt = np.array([[0, 1, 1, 2, 2, 0]])
    pred = np.array([[0, 1, 1, 3, 3, 0]])
    assert best_dice(gt, pred) == 1
    assert best_dice(pred, gt) == pytest.approx(2 / 3)
    assert symmetric_best_dice(gt, pred) == pytest.approx(2 / 3)
    assert difference_in_count(gt, pred) == 1


def test_sbd_is_the_smaller_direction():
    gt = np.array([[0, 1, 1, 2, 2, 0]])
    pred = np.array([[0, 1, 1, 0, 0, 0]])
    assert best_dice(pred, gt) == 1
    assert best_dice(gt, pred) == symmetric_best_dice(gt, pred) == 0.5


def test_relabel_keeps_the_order_of_ids():
    np.testing.assert_array_equal(
        relabel(np.array([[0, 900, 7], [7, 0, 30]])), [[0, 3, 1], [1, 0, 2]]
    )
    np.testing.assert_array_equal(relabel(np.array([[5, 5]])), [[1, 1]])


def test_errors_name_what_is_wrong():
    with pytest.raises(UserError, match=r"\(20, 90\).*\(20, 60\)"):
        match_label_maps(squares(3), squares(2))
    with pytest.raises(UserError, match="prediction.*float64"):
        match_label_maps(squares(), squares().astype(float))
