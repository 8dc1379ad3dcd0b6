"""Times our functions against the plain form of the same computation, in one run on one thread.

    python tools/benchmark.py [--rows sbd] [--repeats 10] [--memory] [--json FILE] [--strict]

A package adds rows with a function that returns a list of Row; ROW_SOURCES lists these functions.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from instance_seg_common.analysis.benchmark import (
    Row,
    run_row,
    select_rows,
    timings_json,
    timings_table,
)
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.matching import symmetric_best_dice


def leaf_like_maps(height=530, width=500, count=20, seed=0):
    """Two label maps of overlapping discs, the second one moved a little.

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
            target[(y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(0.3, 0.5) ** 2 * step.min() ** 2] = (
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


ROW_SOURCES = [evaluation_rows]


def parse_args(argv=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each; the minimum counts")
    parser.add_argument("--memory", action="store_true", help="also peak memory (Linux)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a ratio is missed")
    return parser.parse_args(argv)


def main(argv=None):
    """Returns the exit status."""
    args = parse_args(argv)
    rows = select_rows([row for source in ROW_SOURCES for row in source()], args.rows)
    timings = [run_row(row, args.repeats, args.memory) for row in rows]
    print(timings_table(timings))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(timings_json(timings), indent=2) + "\n")
    return int(args.strict and not all(timing.met for timing in timings))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
