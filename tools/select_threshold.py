#!/usr/bin/env python
"""Find the score threshold that turns predictions into label maps, on the training split.

python tools/select_threshold.py --config-file F --weights W [--dataset NAME] [--max-images N]

Prints the accuracy at IoU 0.5, pooled, for each threshold and the lines to put into the config.
"""

from detectron2.utils.logger import setup_logger
from ways import config_parser, load_cfg, run_tool, warn_of_choice_on_test_set

from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.evaluation.threshold import (
    best_threshold,
    sweep_score_threshold,
    sweep_table,
)


def parse_args(argv=None):
    """Command line."""
    parser = config_parser(__doc__.splitlines()[0])
    parser.add_argument("--weights", metavar="FILE", help="default: MODEL.WEIGHTS of the config")
    parser.add_argument("--dataset", metavar="NAME", help="default: the first of DATASETS.TRAIN")
    parser.add_argument("--max-images", type=int, metavar="N", help="use N images, evenly spread")
    return parser.parse_args(argv)


def main(argv=None):
    """Run the model over the images and print the table."""
    args = parse_args(argv)
    setup_logger()
    setup_logger(name="instance_seg_common")
    cfg = load_cfg(args.config_file, args.opts)
    cfg.MODEL.WEIGHTS = args.weights or cfg.MODEL.WEIGHTS
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
