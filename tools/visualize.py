"""Draw a data set, what training sees of it, or predictions.

python tools/visualize.py --model M --source annotation|dataloader|prediction [KEY VALUE ...]
With several --model their predictions stand side by side in one picture.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from detectron2.config import CfgNode
from torch import nn

from instance_seg_analysis.methods.base import check_drawable, compute_internals, internals_panel
from instance_seg_common.engine import picture_run
from instance_seg_common.engine.chosen_images import ChosenImages, choose_images
from instance_seg_common.engine.command_line import (
    check_at_least,
    model_parser,
    part_opts_from_images,
    run_tool,
)
from instance_seg_common.engine.picture_run import PictureWriter, PredictionPictures, TitledModel
from instance_seg_common.engine.predictor import build_predictor, model_input
from instance_seg_common.engine.setup import load_model_cfg, parse_model
from instance_seg_common.errors import UserError
from instance_seg_common.visualization.false_colors import record_title

DEFAULT_IMAGES = 16
SOURCES = ("annotation", "dataloader", "prediction")


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Arguments of this tool; KEY VALUE pairs after the files are told from them by their form."""
    parser = model_parser(__doc__, several=True)
    parser.add_argument("--source", required=True, choices=SOURCES)
    parser.add_argument(
        "--images", nargs="+", metavar="PATH", help="predict these files, or all of a folder"
    )
    parser.add_argument("--output", metavar="DIR", help="default: OUTPUT_DIR/pictures/SOURCE")
    parser.add_argument("--max-images", type=int, help=f"default: {DEFAULT_IMAGES}; files: all")
    parser.add_argument("--sort", choices=("worst",), help="lowest accuracy, then SBD, first")
    parser.add_argument("--internals", action="store_true", help="also what happens in the model")
    parser.add_argument("--save", choices=("label-map",), help="annotations as label maps, too")
    args = parser.parse_args(argv)
    part_opts_from_images(args)
    return args


def check_args(args: argparse.Namespace) -> None:
    """Say which options do not go together."""
    several = len(args.model) > 1
    prediction_only = {
        "--images": args.images,
        "A second --model": several,
        "--internals": args.internals,
        "--sort": args.sort,
    }
    given = [name for name, value in prediction_only.items() if value]
    if given and args.source != "prediction":
        raise UserError(f"{given[0]} needs --source prediction, not {args.source}.")
    if args.sort and args.images:
        raise UserError("--sort needs a data set with annotations; leave out --images.")
    if several and (args.internals or args.sort):
        raise UserError(
            "Several --model give pictures of predictions only; leave out --internals, --sort, or "
            "all but one --model."
        )
    if args.save and args.source != "annotation":
        raise UserError(
            "--save writes annotations (--source annotation); tools/predict.py writes predictions."
        )
    check_at_least(args, {"max_images": 1})


def images_to_draw(cfg: CfgNode, args: argparse.Namespace) -> ChosenImages:
    """--images, or a data set; as many as --max-images, to sort all of them."""
    named = cfg.DATASETS.TRAIN if args.source == "dataloader" else cfg.DATASETS.TEST
    limit = args.max_images or (None if args.images else DEFAULT_IMAGES)
    dataset = args.dataset or next(iter(named), None)
    return choose_images(args.images, dataset, limit=None if args.sort else limit)


def model_titles(models: "Sequence[tuple[str, str]]") -> "list[str]":
    """Names of (name, weights): the name, and that of the weights where it is not enough."""
    names = [name for name, _ in models]
    return [
        f"{name}, {Path(weights).stem}" if names.count(name) > 1 and weights else name
        for name, weights in models
    ]


def internals_drawer(cfg: CfgNode, model: nn.Module) -> picture_run.DrawInternals:
    """What draws the insides of the model: from an image (H, W, 3) uint8 RGB to such a picture."""
    architecture = cfg.MODEL.META_ARCHITECTURE

    def draw(image: np.ndarray, record: Mapping[str, Any]) -> np.ndarray:
        internals = compute_internals(architecture, model, [model_input(cfg, record)])[0]
        name = record_title(record)
        return internals_panel(architecture, image, internals, dataset_dict=dict(record), name=name)

    return draw


def draw_predictions(cfg: CfgNode, args: argparse.Namespace, writer: PictureWriter) -> None:
    """--source prediction of one model, on a data set or on image files."""
    images = images_to_draw(cfg, args)
    if args.internals:
        check_drawable(cfg.MODEL.META_ARCHITECTURE)
    model = build_predictor(cfg)
    draw_internals = internals_drawer(cfg, model) if args.internals else None
    pictures = PredictionPictures(cfg, model, images, writer=writer, draw_internals=draw_internals)
    if args.sort:
        pictures.draw_worst(args.max_images or DEFAULT_IMAGES)
    else:
        pictures.draw_all()


def draw(cfgs: "list[CfgNode]", args: argparse.Namespace, writer: PictureWriter) -> None:
    """Draw what --source names."""
    if args.source == "prediction" and len(cfgs) == 1:
        draw_predictions(cfgs[0], args, writer)
        return
    images = images_to_draw(cfgs[0], args)
    if args.source == "prediction":
        named = [(parse_model(text).name, c.MODEL.WEIGHTS) for text, c in zip(args.model, cfgs)]
        models = [TitledModel(*pair) for pair in zip(cfgs, model_titles(named))]
        picture_run.draw_side_by_side(models, images, writer)
    elif args.source == "dataloader":
        picture_run.draw_training_images(cfgs[0], images, writer)
    else:
        picture_run.draw_annotations(images, writer, save_label_maps=bool(args.save))


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Draw and sum up; returns the exit status."""
    args = parse_args(argv)
    check_args(args)
    cfgs = [load_model_cfg(text, args.opts) for text in args.model]
    writer = PictureWriter(Path(args.output or Path(cfgs[0].OUTPUT_DIR) / "pictures" / args.source))
    draw(cfgs, args, writer)
    if args.save:
        print(f"label maps: {writer.folder / 'label_maps'}")
    for sentence in writer.limits:
        print(sentence)
    print(f"pictures ({writer.pictures}): {writer.folder}")
    if writer.failures:
        print(f"images that could not be done: {writer.failures}, see above", file=sys.stderr)
    return 1 if writer.failures else 0


if __name__ == "__main__":
    run_tool(main)
