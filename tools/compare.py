"""Several ways on one data set, side by side: index.html, comparison.png and comparison.json.

python tools/compare.py --configs A B C [--weights WA WB WC] [--dataset D] --output DIR
The page is one file that needs no network. The classical baseline and, where an embedding model is
among the ways, connected components of its semantic output are added to the ways.
"""

import json
import logging
import platform
import sys
import time
from pathlib import Path

import torch
from detectron2.data import MetadataCatalog
from detectron2.utils.logger import setup_logger
from tqdm import tqdm
from ways import check_at_least, common_test_set, load_cfg, load_ways, run_tool, ways_parser

from instance_seg_analysis.comparison import comparison, page
from instance_seg_analysis.comparison.static import static_comparison
from instance_seg_analysis.methods.base import (
    analysis_of,
    compute_internals,
    internals_panel,
)
from instance_seg_common.data.images import load_image
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.errors import UserError

CLASSICAL = "OtsuWatershed"


def parse_args(argv=None):
    """Arguments of this tool."""
    parser = ways_parser(__doc__, "what training left in OUTPUT_DIR, or MODEL.WEIGHTS")
    parser.add_argument("--max-images", type=int, metavar="N", help="the first N; default: all")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the three files")
    parser.add_argument(
        "--internals", type=int, metavar="N",
        help="look into the models on N images, where they differ most; default: as many as fit",
    )  # fmt: skip
    parser.add_argument("--no-baselines", action="store_true", help="only the given ways")
    args = parser.parse_args(argv)
    check_at_least(args, {"max_images": 1, "internals": 0})
    args.weights = args.weights or [default_weights(c, args.opts) for c in args.configs]
    return args


def default_weights(config, opts):
    """The checkpoint that training with this config left, or its MODEL.WEIGHTS."""
    cfg = load_cfg(config, opts)
    trained = Path(cfg.OUTPUT_DIR) / "model_final.pth"
    return str(trained) if trained.is_file() else cfg.MODEL.WEIGHTS


def classical_cfg(config, cfg, dataset, opts=()):
    """A config of the classical baseline for a data set.

    Args:
        config (str): the leaf of a way; one of ``classical*.yaml`` beside it serves, if its test
            set is the data set or one whose name starts alike.
        cfg (CfgNode): of that way, from which the rest is taken otherwise.
        dataset (str): registered.
        opts (list[str]): keys and values in turn, for the leaf.

    Returns:
        CfgNode
    """
    for leaf in sorted(Path(config).parent.glob("classical*.yaml")):
        found = load_cfg(str(leaf), opts)
        if found.DATASETS.TEST and dataset.startswith(found.DATASETS.TEST[0]):
            return found
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.WEIGHTS = CLASSICAL, ""
    cfg.MODEL.OTSU_WATERSHED.NUM_CLASSES = len(MetadataCatalog.get(dataset).thing_classes)
    cfg.TEST.LABEL_MAP_SCORE_THRESHOLD = 0.5
    return cfg


def build_ways(args):
    """The ways of the arguments and their baselines; the data set."""
    cfgs = load_ways(args.configs, args.weights, args.opts)
    dataset = args.dataset or common_test_set(cfgs.values())
    get_dataset_dicts(dataset)  # fills the metadata of some sets
    kinds = {name: cfg.MODEL.META_ARCHITECTURE for name, cfg in cfgs.items()}
    ways = [
        comparison.Way(
            name, cfg, build_predictor(cfg), "classical" if kinds[name] == CLASSICAL else "trained"
        )
        for name, cfg in cfgs.items()
    ]
    if args.no_baselines:
        return ways, dataset
    components = [comparison.components_way(way) for way in ways]
    ways += [way for way in components if way is not None]
    if CLASSICAL not in kinds.values():
        cfg = classical_cfg(args.configs[0], ways[0].cfg, dataset, args.opts)
        ways.append(comparison.Way("Otsu + watershed", cfg, build_predictor(cfg), "classical"))
    return ways, dataset


def run_images(contest, records):
    """All ways on all images; what fails is told at the end.

    Returns:
        tuple: cards of the images, one for each of ``contest.images``; sentences.
    """
    failures, cards = comparison.Failures(), []

    def add(record):
        image = contest.add(record)
        cards.append(page.image_card(image, contest.ways))

    failures.attempt(contest.warm_up, records[0])
    failures.sentences.clear()  # an image that fails does so again
    for record in tqdm(records, unit="image", desc="images"):
        failures.attempt(add, record)
    return cards, failures.sentences


def add_internals(contest, cards, most, class_names):
    """Pictures of the insides, where the ways differ most first, as long as they fit.

    Returns:
        list[str]: sentences on those that could not be drawn; the page goes on without.
    """
    failures = comparison.Failures()
    left = page.MAX_BYTES - sum(page.card_bytes(card) for card in cards) - page.REST_BYTES
    ways = [w for w in contest.ways if analysis_of(w.cfg.MODEL.META_ARCHITECTURE).draw_internals]
    ways = [way for way in ways if way.kind == "trained"]
    records = {image.record["image_id"]: image.record for image in contest.images}
    ranked = sorted(cards, key=lambda card: -card["spread"])[:most]
    for card in tqdm(ranked, unit="image", desc="insides") if ways else ():
        record = {**records[card["image_id"]], "thing_classes": class_names}
        drawn = [failures.attempt(inside, contest, way, record) for way in ways]
        layers = [layer for layer in drawn if layer is not None]
        left -= sum(len(layer.uri) for layer in layers)
        if left < 0:
            break
        card["internals"] = layers
    return sorted(set(failures.sentences))


@torch.no_grad()
def inside(contest, way, record):
    """What happens in one way on one image, as a Layer."""
    architecture = way.cfg.MODEL.META_ARCHITECTURE
    internals = compute_internals(architecture, way.model, [contest.item(way, record)])[0]
    name = Path(record["file_name"]).name
    image = load_image(record["file_name"])
    picture = internals_panel(
        architecture, image, internals, dataset_dict=record, name=f"{way.name}   {name}"
    )
    return page.internals_layer(picture, way, name)


def machine():
    """The machine in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return (
        f"{platform.machine()}, CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )


def to_json(dataset, contest, summaries, bins, failures):
    """The results as plain dicts, for ``json.dump``."""
    ways = [
        {"way": s.name, "kind": s.kind, "architecture": s.architecture, "weights": s.weights}
        | page.figures_of(s)
        for s in summaries
    ]
    return {
        "dataset": dataset,
        "machine": machine(),
        "mask_iou": comparison.IOU,
        "ways": ways,
        "bins": {key: [b._asdict() for b in values] for key, values in bins.items()},
        "images": [image_json(image) for image in contest.images],
        "failures": failures,
    }


def image_json(image):
    """One image of :func:`to_json`."""
    ways = {}
    for name, outcome in image.outcomes.items():
        matching = outcome.scores.matchings[0]
        ways[name] = {
            "tp": matching.tp, "fp": matching.fp, "fn": matching.fn,
            "accuracy": matching.accuracy, "SBD": outcome.scores.sbd, "DiC": outcome.scores.dic,
            "errors": page.error_counts(outcome.errors), "seconds": outcome.seconds,
            "network_seconds": outcome.network_seconds,
        }  # fmt: skip
    return {"file_name": image.record["file_name"], "objects": len(image.area), "ways": ways}


def main(argv=None):
    """Run all ways; write page, picture and figures."""
    start = time.perf_counter()
    args = parse_args(argv)
    # The evaluators' own tables, one a way, would bury the one at the end.
    setup_logger(name="instance_seg_common").setLevel(logging.WARNING)
    ways, dataset = build_ways(args)
    records = get_dataset_dicts(dataset)[: args.max_images]
    if not records:
        raise UserError(f"Data set {dataset!r} has no image; nothing can be compared.")
    contest = comparison.Contest(ways, dataset)
    cards, failures = run_images(contest, records)
    for sentence in failures:
        print(f"error: {sentence}", file=sys.stderr)
    if not cards:
        raise UserError(f"None of the {len(records)} images could be done; see above.")
    summaries = [contest.summary(way) for way in tqdm(ways, unit="way", desc="scores")]
    write(args, dataset, contest, cards, summaries, failures)
    seconds = time.perf_counter() - start
    print(page.text_table(summaries))
    print(f"{len(cards)} images, {len(ways)} ways, {seconds:.0f} s; written to {args.output}:")
    print("index.html, comparison.png, comparison.json")
    return 1 if failures else 0


def write(args, dataset, contest, cards, summaries, failures):
    """The three files."""
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    bins = contest.bins()
    result = to_json(dataset, contest, summaries, bins, failures)
    (folder / "comparison.json").write_text(json.dumps(result, indent=1))
    static_comparison(cards, summaries, folder / "comparison.png", dataset)
    chosen = page.choose_cards(cards)
    class_names = MetadataCatalog.get(dataset).get("thing_classes", ())
    for sentence in add_internals(contest, chosen, args.internals, class_names):
        print(f"without the insides: {sentence}", file=sys.stderr)
    title = f"{dataset}: {len([w for w in contest.ways if w.kind == 'trained'])} ways side by side"
    context = page.context(title, chosen, summaries, bins, failures, machine())
    context["hidden_images"] = len(cards) - len(chosen)
    (folder / "index.html").write_text(page.render(context))


if __name__ == "__main__":
    run_tool(main)
