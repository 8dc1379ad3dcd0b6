"""RoIAlign against RoIPool: measured misalignment, AP of two trained models, and their small masks.

python tools/compare_pooling.py --align CONFIG WEIGHTS --pool CONFIG WEIGHTS --output DIR
Without models only the measured misalignment is drawn.
"""

import argparse
import json
from pathlib import Path

from detectron2.evaluation import inference_on_dataset
from PIL import Image
from tabulate import tabulate
from ways import load_cfg, run_tool

from instance_seg_analysis import pooling
from instance_seg_common.data.images import load_image
from instance_seg_common.data.loader import build_test_loader
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor, predict
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation import build_evaluator
from instance_seg_common.evaluation.image_report import prediction_of, truth_of

FIGURES = {
    "segm AP": ("segm", "AP"),
    "segm AP75": ("segm", "AP75"),
    "mean IoU of masks matched at 0.5": ("matching", "matched_iou50"),
}


def parse_args(argv=None):
    """Arguments of this tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("align", "pool"):
        parser.add_argument(f"--{name}", nargs=2, metavar=("CONFIG", "WEIGHTS"))
    parser.add_argument("--dataset", help="default: DATASETS.TEST[0] of the first config")
    parser.add_argument("--output", default="output/pooling")
    parser.add_argument("--objects", type=int, default=6, help="drawn of each kind")
    parser.add_argument("--max-area", type=int, default=32**2, help="pixels; larger are not drawn")
    args = parser.parse_args(argv)
    if bool(args.align) != bool(args.pool):
        raise UserError("Give both --align CONFIG WEIGHTS and --pool CONFIG WEIGHTS, or neither.")
    return args


def load(config_file, weights):
    """(cfg, model) of one side."""
    cfg = load_cfg(config_file, ["MODEL.WEIGHTS", weights])
    cfg.freeze()
    return cfg, build_predictor(cfg)


def evaluate(cfg, model, dataset):
    """{figure: value} of one side."""
    evaluator = build_evaluator(cfg, dataset)
    results = inference_on_dataset(model, build_test_loader(cfg, dataset), evaluator)
    return {title: results[group][key] for title, (group, key) in FIGURES.items()}


def label_maps(item, sides):
    """Image, ground truth, and the label map of each side."""
    image = load_image(item["file_name"])
    maps = [
        prediction_of(
            predict(cfg, model, image, file_name=item["file_name"]),
            cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
            cfg.TEST.LABEL_MAP_MIN_AREA,
        ).labels
        for cfg, model in sides
    ]
    return (image, truth_of(item).labels, *maps)


def draw(dicts, sides, args, path):
    """Choose the objects and write the picture; False if the models share no small object."""
    objects = []
    for index, item in enumerate(dicts):
        objects += pooling.compare_objects(index, *label_maps(item, sides)[1:])
    chosen = pooling.choose_objects(objects, args.objects, args.max_area)
    images = {o.image for group in chosen for o in group}
    maps = {index: label_maps(dicts[index], sides) for index in images}
    groups = [
        (
            f"objects of at most {args.max_area} pixels, {title}",
            [pooling.object_tile(*maps[o.image], o) for o in group],
        )
        for title, group in zip(("largest difference in mask IoU", "drawn at random"), chosen)
    ]
    if not any(tiles for _, tiles in groups):
        return False
    Image.fromarray(pooling.comparison_picture(groups)).save(path)
    return True


def compare_models(args, folder):
    """Figures and picture of two trained models; returns the figures."""
    sides = [load(*args.align), load(*args.pool)]
    dataset = args.dataset or next(iter(sides[0][0].DATASETS.TEST), "")
    dicts = get_dataset_dicts(dataset)
    names = ("RoIAlign", "RoIPool")
    figures = {name: evaluate(*side, dataset) for name, side in zip(names, sides)}
    rows = [[name, *values.values()] for name, values in figures.items()]
    print(tabulate(rows, [dataset, *FIGURES], tablefmt="pipe", floatfmt=".3f"))
    picture = folder / "misalignment.png"
    if draw(dicts, sides, args, picture):
        print(f"contours: {picture}")
    else:
        print(f"no object of at most {args.max_area} pixels is found by both: no contours drawn")
    return figures


def main(argv=None):
    """Run the tool."""
    args = parse_args(argv)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    offsets = pooling.offsets_figure(folder / "offsets.png")
    for name, value in offsets.items():
        print(f"{name}: reads {value['mean']:.1f} +- {value['std']:.1f} pixels beside (stride 16)")
    print(f"graph: {folder / 'offsets.png'}")
    results = {"offset_pixels": offsets}
    if args.align:
        results["models"] = compare_models(args, folder)
    (folder / "comparison.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    run_tool(main)
