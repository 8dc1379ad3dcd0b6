"""Compare several models on one data set, on a page, in a picture and in figures.

python tools/compare.py --model A --model B --model C [--dataset D] --output DIR
writes index.html, one file that needs no network, comparison.png and comparison.json. Two
baselines are added: Otsu + watershed and, for a method with a semantic output, connected
components of its semantic output.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from detectron2.utils.logger import setup_logger

from instance_seg_analysis.comparison.models import build_models
from instance_seg_analysis.comparison.run import run
from instance_seg_analysis.comparison.table import text_table
from instance_seg_analysis.comparison.write import write
from instance_seg_common.engine.command_line import check_at_least, model_parser, run_tool


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Arguments of this tool."""
    parser = model_parser(__doc__, several=True)
    parser.add_argument("--max-images", type=int, metavar="N", help="the first N; default: all")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the three files")
    parser.add_argument(
        "--internals", type=int, metavar="N",
        help="look into the models on N images, where they differ most; default: as many as fit",
    )  # fmt: skip
    parser.add_argument("--no-baselines", action="store_true", help="only the given models")
    args = parser.parse_args(argv)
    check_at_least(args, {"max_images": 1, "internals": 0})
    return args


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run all models; write page, picture and figures. Returns the exit status."""
    start = time.perf_counter()
    args = parse_args(argv)
    # The evaluators' own tables, one a model, would bury the one at the end.
    setup_logger(name="instance_seg_common").setLevel(logging.WARNING)
    models, dataset = build_models(
        args.model, args.opts, dataset=args.dataset, baselines=not args.no_baselines
    )
    result = run(models, dataset, max_images=args.max_images)
    for sentence in result.failures:
        print(f"error: {sentence}", file=sys.stderr)
    for sentence in write(result, Path(args.output), internals=args.internals):
        print(f"without the insides: {sentence}", file=sys.stderr)
    seconds = time.perf_counter() - start
    print(text_table(result.summaries))
    for summary in result.summaries:
        for limit in summary.limits:
            print(f"{summary.name}: {limit.sentence}")
    counts = f"{len(result.images)} images, {len(models)} models, {seconds:.0f} s"
    print(f"{counts}; written to {args.output}: index.html, comparison.png, comparison.json")
    return 1 if result.failures else 0


if __name__ == "__main__":
    run_tool(main)
