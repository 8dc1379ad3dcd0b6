"""Measure what the methods can and cannot do.

python tools/analyze.py limits --model A --model B      the four limits of proposals
python tools/analyze.py order --model M                 in which order objects are found
python tools/analyze.py pooling --align M --pool M      RoIAlign against RoIPool
python tools/analyze.py oracle --model M                what true semantics or centres would gain
python tools/analyze.py neighbours --model A --model B  recall by a neighbour in the same box
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from detectron2.utils.logger import setup_logger

from instance_seg_analysis.limits import neighbours
from instance_seg_analysis.limits import plots as limits_plots
from instance_seg_analysis.limits import run as limits
from instance_seg_analysis.oracle import ablate_oracle, oracle_table
from instance_seg_analysis.order import run as order
from instance_seg_analysis.pooling import run as pooling
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.chosen_images import choose_images
from instance_seg_common.engine.command_line import (
    MODEL_HELP,
    add_model_arguments,
    check_at_least,
    part_opts_from_images,
    run_tool,
)
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.engine.setup import common_test_set, load_model_cfg, load_models
from instance_seg_common.errors import UserError


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Command line; ``args.run`` is the function of the subcommand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="SUBCOMMAND")
    _add_limits(commands)
    _add_order(commands)
    _add_pooling(commands)
    _add_oracle(commands)
    _add_neighbours(commands)
    args = parser.parse_args(argv)
    least = {"max_images": 1, "fresh": 0, "objects": 1, "max_area": 1}
    check_at_least(args, {name: n for name, n in least.items() if hasattr(args, name)})
    return args


def _add_command(commands: Any, name: str, *, run: Any) -> argparse.ArgumentParser:
    """A subcommand, its help the docstring of the function that runs it."""
    first, *rest = run.__doc__.splitlines()
    parser = commands.add_parser(name, help=first, description=first, epilog=" ".join(rest))
    parser.set_defaults(run=run)
    return parser


def _add_limits(commands: Any) -> None:
    parser = _add_command(commands, "limits", run=analyze_limits)
    add_model_arguments(parser, several=True)
    parser.add_argument("--output", default="output/limits", help="folder for JSON and plots")
    parser.add_argument("--max-images", type=int, metavar="N", help="use N images, evenly spread")
    parser.add_argument(
        "--crowding",
        choices=sorted(limits.CROWDINGS),
        default="objects",
        help="terciles of limit 2: number of objects, or mean box IoU with the nearest neighbour",
    )


def analyze_limits(args: argparse.Namespace) -> int:
    """Measure the four limits of proposal-based models, for models of any method.

    (1) Recall of objects that share a box with a neighbour: box NMS, mask NMS, soft-NMS. (2) AP and
    count error as the NMS threshold moves, by crowding; beside it the bandwidth of an embedding
    model and the stop threshold of a recurrent one. (3) Pixels claimed by several instances. (4)
    Recall and count error as the objects of an image outnumber proposals, steps, instances. The
    network runs once an image and model. The folder gets limits.json and a plot for each limit.
    """
    cfgs = load_models(args.model, args.opts)
    dataset = args.dataset or common_test_set(cfgs.values())
    folder = Path(args.output)
    result = limits.run(cfgs, dataset, folder, max_images=args.max_images, crowding=args.crowding)
    print(f"{limits.text(result)}\n\nfigures: {folder / 'limits.json'}")
    _print_paths("plot", limits_plots.write_plots(result.figures, folder, result.title))
    return 0


def _add_order(commands: Any) -> None:
    parser = _add_command(commands, "order", run=analyze_order)
    add_model_arguments(parser)
    parser.add_argument(
        "--before", metavar="FILE",
        help="weights with which training began; default: MODEL.WEIGHTS of the config if the model "
        'has others, else fresh ones, as with ""',
    )  # fmt: skip
    parser.add_argument(
        "--fresh", type=int, default=5, metavar="N", help="how many fresh encoders; default: 5"
    )
    parser.add_argument("--dataset", metavar="NAME", help="default: the first of DATASETS.TEST")
    parser.add_argument("--images", nargs="+", metavar="PATH", help="files, or folders of images")
    parser.add_argument("--max-images", type=int, metavar="N", help="default: all")
    parser.add_argument("--output", default="output/order", help="folder for JSON and plots")


def analyze_order(args: argparse.Namespace) -> int:
    """Say in which order a recurrent model finds objects: by place, by size, by activation.

    The sequence: the predicted instances in the order of their steps, overlap resolved as the
    config says, without those whose score is below TEST.LABEL_MAP_SCORE_THRESHOLD. Needs no
    annotations.
    """
    part_opts_from_images(args)
    model = order.load_order_model(args.model, args.opts, before=args.before, fresh=args.fresh)
    dataset = args.dataset or next(iter(model.cfg.DATASETS.TEST), None)
    images = choose_images(args.images, dataset, limit=args.max_images)
    result = order.run(model, images.records, name=images.name, class_names=images.class_names)
    for sentence in result.failures:
        print(f"error: {sentence}", file=sys.stderr)
    print(order.text(result))
    _print_paths("written", order.write(result, Path(args.output)))
    return 1 if result.failures else 0


def _add_pooling(commands: Any) -> None:
    parser = _add_command(commands, "pooling", run=analyze_pooling)
    for name, pooler in (("align", "RoIAlign"), ("pool", "RoIPool")):
        parser.add_argument(
            f"--{name}", metavar="M", help=f"Mask R-CNN with {pooler}: {MODEL_HELP}"
        )
    parser.add_argument("--dataset", metavar="NAME", help="default: the first of DATASETS.TEST")
    parser.add_argument("--output", default="output/pooling", help="folder for JSON and pictures")
    parser.add_argument("--objects", type=int, default=6, help="drawn of each kind")
    parser.add_argument("--max-area", type=int, default=32**2, help="pixels; larger are not drawn")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override config keys")


def analyze_pooling(args: argparse.Namespace) -> int:
    """Compare RoIAlign with RoIPool: where they read, two trained models, their small masks.

    Without models only the measured misalignment is drawn.
    """
    if bool(args.align) != bool(args.pool):
        raise UserError("Give both --align MODEL and --pool MODEL, or neither.")
    folder = Path(args.output)
    offsets = pooling.measure_offsets(folder)
    print(pooling.text_of_offsets(offsets))
    _print_paths("graph", [folder / "offsets.png"])
    result = None
    if args.align:
        cfgs = [load_model_cfg(text, args.opts) for text in (args.align, args.pool)]
        dataset = args.dataset or common_test_set(cfgs)
        result = pooling.run_models(
            *cfgs, dataset, folder=folder, objects=args.objects, max_area=args.max_area
        )
        print(pooling.text(result))
    _write_json(pooling.to_json(offsets, result), folder / "comparison.json")
    return 0


def _add_oracle(commands: Any) -> None:
    parser = _add_command(commands, "oracle", run=analyze_oracle)
    add_model_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--max-images", type=int, metavar="N", help="use N images, evenly spread")


def analyze_oracle(args: argparse.Namespace) -> int:
    """Say what true semantics or true cluster centres would gain an embedding model."""
    cfg = load_model_cfg(args.model, args.opts)
    dataset = next(iter(cfg.DATASETS.TEST), "")
    get_dataset_dicts(dataset)
    rows, images = ablate_oracle(cfg, build_predictor(cfg), dataset, max_images=args.max_images)
    print(f"{dataset}, {images} images\n\n{oracle_table(rows)}")
    if args.json:
        facts = {"dataset": dataset, "images": images, "weights": cfg.MODEL.WEIGHTS}
        _write_json({**facts, "rows": [row._asdict() for row in rows]}, args.json)
        _print_paths("figures", [args.json])
    return 0


def _add_neighbours(commands: Any) -> None:
    parser = _add_command(commands, "neighbours", run=analyze_neighbours)
    add_model_arguments(parser, several=True)
    parser.add_argument("--output", default="output/neighbours", help="folder for JSON and plot")
    parser.add_argument("--max-images", type=int, metavar="N", help="use the first N images")
    parser.add_argument(
        "--nms-thresholds", nargs="+", type=float, default=[], metavar="IOU",
        help="run a model that has NMS with these thresholds, too",
    )  # fmt: skip


def analyze_neighbours(args: argparse.Namespace) -> int:
    """Measure which objects are found, by how much their box coincides with a neighbour's.

    Recall at mask IoU 0.5: predictions of any class with a score of at least the config's
    TEST.LABEL_MAP_SCORE_THRESHOLD are given to objects one to one, the best score first.
    """
    check_at_least(args, {"max_images": 1})
    cfgs = load_models(args.model, args.opts)
    dataset = args.dataset or common_test_set(cfgs.values())
    result = neighbours.run(
        cfgs, dataset, nms_thresholds=args.nms_thresholds, max_images=args.max_images
    )
    print(neighbours.text(result))
    _print_paths("written", neighbours.write(result, Path(args.output)))
    return 0


def _write_json(content: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def _print_paths(what: str, paths: Sequence[Path]) -> None:
    for path in paths:
        print(f"{what}: {path}")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the subcommand; returns the exit status."""
    args = parse_args(argv)
    setup_logger(name="instance_seg_common")
    return args.run(args)


if __name__ == "__main__":
    run_tool(main)
