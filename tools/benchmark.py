"""Times our functions against the plain form of the same computation, in one run on one thread.

    python tools/benchmark.py [--rows sbd] [--repeats 10] [--memory] [--json FILE] [--strict]

A way adds rows with a function that returns a list of Row; ROW_SOURCES lists these functions.
A row that cannot be measured, for want of its weights or because what it computes is wrong, is
reported after the table of the others; the exit status is then 1.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmark_embedding import (
    embedding_clustering_rows,
    embedding_inference_rows,
    embedding_loss_rows,
)
from benchmark_evaluation import evaluation_rows
from benchmark_recurrent import (
    recurrent_decoder_rows,
    recurrent_inference_rows,
    recurrent_loss_rows,
    recurrent_training_rows,
)
from ways import run_tool

from instance_seg_analysis.benchmark.timing import (
    run_row,
    select_rows,
    timings_json,
    timings_table,
)

ROW_SOURCES = [
    evaluation_rows,
    embedding_loss_rows,
    embedding_clustering_rows,
    embedding_inference_rows,
    recurrent_loss_rows,
    recurrent_decoder_rows,
    recurrent_training_rows,
    recurrent_inference_rows,
]


def parse_args(argv=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each; the minimum counts")
    parser.add_argument("--memory", action="store_true", help="also peak memory (Linux)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a ratio is missed")
    return parser.parse_args(argv)


def measure(rows, repeats, memory):
    """Time the rows; what keeps one from being measured does not keep the others.

    Args:
        rows (list[Row])
        repeats (int): as in ``run_row``.
        memory (bool): as in ``run_row``.

    Returns:
        tuple[list[Timing], list[str]]: and a sentence for each row without a timing.
    """
    timings, problems = [], []
    for row in rows:
        try:
            timings.append(run_row(row, repeats, memory))
        except ValueError as error:  # UserError is one, too
            problems.append(f"row '{row.name}': {error}")
    return timings, problems


def main(argv=None):
    """Returns the exit status."""
    args = parse_args(argv)
    rows = select_rows([row for source in ROW_SOURCES for row in source()], args.rows)
    timings, problems = measure(rows, args.repeats, args.memory)
    print(timings_table(timings), flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(timings_json(timings), indent=2) + "\n")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    missed = args.strict and not all(timing.met for timing in timings)
    return int(bool(problems) or missed)


if __name__ == "__main__":
    run_tool(main)
