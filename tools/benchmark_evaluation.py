"""Rows of tools/benchmark.py about instance_seg_common.evaluation."""

import numpy as np

from instance_seg_analysis.benchmark.timing import Row
from instance_seg_common.evaluation.matching import symmetric_best_dice


def leaf_like_maps(height=530, width=500, count=20, seed=0, radius=(0.3, 0.5)):
    """Two label maps of overlapping discs, the second one moved a little.

    Args:
        height, width (int): pixels.
        count (int): discs, in rows of five.
        seed (int)
        radius (tuple[float, float]): smallest and largest, as a fraction of their spacing.

    Returns:
        tuple[ndarray, ndarray]: (height, width) int64, ids 0..count, all present.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    gt, pred = np.zeros((2, height, width), dtype=np.int64)
    columns = 5
    step = np.array([height / np.ceil(count / columns), width / columns])
    for label in range(1, count + 1):
        cell = np.array(divmod(label - 1, columns)) + 0.5
        for target in (gt, pred):
            cy, cx = cell * step + rng.uniform(-8, 8, 2)
            target[(y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(*radius) ** 2 * step.min() ** 2] = (
                label
            )
    return gt, pred


def sbd_over_pairs(gt, pred):
    """SBD in its plain form: a loop over all pairs of labels, in both directions."""
    return min(_best_dice_over_pairs(gt, pred), _best_dice_over_pairs(pred, gt))


def _best_dice_over_pairs(a, b):
    total = 0.0
    for i in range(a.min() + 1, a.max() + 1):
        best = 0.0
        for j in range(b.min() + 1, b.max() + 1):
            mask_a, mask_b = a == i, b == j
            dice = 2 * (mask_a & mask_b).sum() / (mask_a.sum() + mask_b.sum())
            best = max(best, dice)
        total += best
    return total / (a.max() - a.min())


def _build_sbd():
    gt, pred = leaf_like_maps()
    return lambda: symmetric_best_dice(gt, pred), lambda: sbd_over_pairs(gt, pred)


def evaluation_rows():
    """Rows of instance_seg_common.evaluation."""
    what = "SBD, 20 instances, 530x500"
    return [Row("sbd", what, "loop over pairs, both directions", 30, _build_sbd)]
