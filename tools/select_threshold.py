#!/usr/bin/env python
"""Choose the score threshold that turns predictions into label maps, on the training split.

python tools/select_threshold.py --model M [--dataset NAME] [--max-images N]
Prints the accuracy at IoU 0.5, pooled, for each threshold and the lines to put into the config.
"""

import argparse
from collections.abc import Sequence
from typing import Optional

from detectron2.utils.logger import setup_logger

from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.command_line import check_at_least, model_parser, run_tool
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.engine.setup import load_model_cfg, warn_of_choice_on_test_set
from instance_seg_common.evaluation.threshold import (
    best_threshold,
    sweep_score_threshold,
    sweep_table,
)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Command line."""
    parser = model_parser(__doc__)
    parser.add_argument("--dataset", metavar="NAME", help="default: the first of DATASETS.TRAIN")
    parser.add_argument("--max-images", type=int, metavar="N", help="use N images, evenly spread")
    args = parser.parse_args(argv)
    check_at_least(args, {"max_images": 1})
    return args


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the model over the images and print the table."""
    args = parse_args(argv)
    setup_logger()
    setup_logger(name="instance_seg_common")
    cfg = load_model_cfg(args.model, args.opts)
    dataset_name = args.dataset or next(iter(cfg.DATASETS.TRAIN), "")
    get_dataset_dicts(dataset_name)
    model = build_predictor(cfg)
    warn_of_choice_on_test_set(cfg.DATASETS.TEST, dataset_name, "a threshold")
    pooled = sweep_score_threshold(cfg, model, dataset_name, max_images=args.max_images)
    print(sweep_table(pooled))
    print("\nTEST:")
    print(f"  LABEL_MAP_SCORE_THRESHOLD: {best_threshold(pooled)}  # chosen on {dataset_name}")


if __name__ == "__main__":
    run_tool(main)
