"""Times our functions against the plain form of the same computation, in one run on one thread.

    python tools/benchmark.py [--rows sbd] [--repeats 10] [--memory] [--json FILE] [--strict]

A way adds rows with a function that returns a list of Row; ROW_SOURCES lists these functions.
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

from instance_seg_common.analysis.benchmark import (
    run_row,
    select_rows,
    timings_json,
    timings_table,
)
from instance_seg_common.errors import UserError

ROW_SOURCES = [
    evaluation_rows,
    embedding_loss_rows,
    embedding_clustering_rows,
    embedding_inference_rows,
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
