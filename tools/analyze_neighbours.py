"""Which objects each way finds, by how much their box coincides with a neighbour's.

python tools/analyze_neighbours.py --configs A B --weights WA WB [--dataset D] [--opts KEY VALUE]
Recall at mask IoU 0.5: predictions of any class with a score of at least the config's
TEST.LABEL_MAP_SCORE_THRESHOLD are given to objects one to one, the best score first.
"""

import json
from pathlib import Path

from detectron2.utils.logger import setup_logger
from ways import common_test_set, run_tool, warn_of_choice_on_test_set, ways_parser
from ways import load_ways as ways_of_configs

from instance_seg_analysis.limits import neighbours
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor

# The architectures whose boxes go through MODEL.ROI_HEADS.NMS_THRESH_TEST.
WITH_NMS = ("GeneralizedRCNN",)


def parse_args(argv=None):
    """Arguments of this tool."""
    parser = ways_parser(__doc__)
    parser.add_argument("--output", default="output/neighbours", help="folder for JSON and plot")
    parser.add_argument(
        "--nms-thresholds",
        nargs="+",
        type=float,
        default=[],
        metavar="IOU",
        help="run a way that has NMS with these thresholds, too",
    )
    return parser.parse_args(argv)


def load_ways(args):
    """{way: cfg}, with a way of its own for each NMS threshold; the data set of all of them."""
    ways = {}
    for name, cfg in ways_of_configs(args.configs, args.weights, args.opts).items():
        ways[name] = cfg
        for threshold in args.nms_thresholds if has_nms(cfg) else ():
            variant = ways[f"{name}, NMS {threshold:g}"] = cfg.clone()
            variant.MODEL.ROI_HEADS.NMS_THRESH_TEST = threshold
    return ways, args.dataset or common_test_set(ways.values())


def has_nms(cfg):
    """Whether the way removes boxes by NMS."""
    return cfg.MODEL.META_ARCHITECTURE in WITH_NMS


def to_json(dataset, ways, results):
    """The results as plain dicts, for ``json.dump``."""
    entries = [
        {
            "way": way,
            "weights": ways[way].MODEL.WEIGHTS,
            "score_threshold": result.score_threshold,
            "predictions": result.predictions,
            "bins": [
                {**b._asdict(), "recall": b.recall if b.objects else None} for b in result.bins
            ],
        }
        for way, result in results.items()
    ]
    return {"dataset": dataset, "mask_iou": neighbours.MASK_IOU, "ways": entries}


def main(argv=None):
    """Run all ways; print the table, write JSON and plot."""
    args = parse_args(argv)
    setup_logger(name="instance_seg_common")
    ways, dataset = load_ways(args)
    dicts = get_dataset_dicts(dataset)
    if args.nms_thresholds:
        test_sets = {name for cfg in ways.values() if has_nms(cfg) for name in cfg.DATASETS.TEST}
        warn_of_choice_on_test_set(test_sets, dataset, "an NMS threshold")
    results = {}
    for way, cfg in ways.items():
        results[way] = neighbours.neighbour_recall(cfg, build_predictor(cfg), dicts)
    print(
        f"{dataset}, {len(dicts)} images: recall at mask IoU {neighbours.MASK_IOU:g}, by box IoU "
        f"with the nearest neighbour\n\n{neighbours.recall_table(results)}"
    )
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_json(dataset, ways, results), indent=1)
    (folder / "neighbours.json").write_text(text)
    neighbours.recall_figure(results, folder / "neighbours.png", dataset)
    print(f"figures: {folder / 'neighbours.json'}\nplot: {folder / 'neighbours.png'}")


if __name__ == "__main__":
    run_tool(main)
