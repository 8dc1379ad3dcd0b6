"""The four limits of proposal-based models, measured on a data set for every way.

python tools/analyze_limits.py --configs A B --weights WA WB --output DIR [--dataset D]
(1) Recall of objects that share a box with a neighbour: box NMS, mask NMS, soft-NMS. (2) AP and
count error as the NMS threshold moves, by crowding; beside it the bandwidth of an embedding model
and the stop threshold of a recurrent one. (3) Pixels claimed by several instances. (4) Recall and
count error as the objects of an image outnumber proposals, steps, instances. The network runs once
an image and way. DIR gets limits.json and a plot for each limit.
"""

import json
import resource
import sys
import time
from pathlib import Path

from detectron2.utils.logger import setup_logger
from tqdm import tqdm
from ways import (
    check_at_least,
    common_test_set,
    load_ways,
    run_tool,
    warn_of_choice_on_test_set,
    ways_parser,
)

from instance_seg_analysis.limits import measure as limits
from instance_seg_analysis.limits.findings import findings
from instance_seg_analysis.limits.plots import write_plots
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor


def parse_args(argv=None):
    """Arguments of this tool."""
    parser = ways_parser(__doc__)
    parser.add_argument("--output", default="output/limits", help="folder for JSON and plots")
    parser.add_argument("--max-images", type=int, metavar="N", help="use N images, evenly spread")
    parser.add_argument(
        "--crowding",
        choices=sorted(limits.CROWDINGS),
        default="objects",
        help="terciles of limit 2: number of objects, or mean box IoU with the nearest neighbour",
    )
    args = parser.parse_args(argv)
    check_at_least(args, {"max_images": 1})
    return args


def measure(ways, models, dataset, scene):
    """Measure one way after the other.

    Yields:
        dict: {way: figures} of the ways so far, with the seconds of each.
    """
    figures = {}
    for way, cfg in ways.items():
        start = time.perf_counter()
        bar = lambda records, way=way: tqdm(records, desc=way, file=sys.stderr)  # noqa: E731
        measured = limits.measure_way(cfg, models.pop(way), dataset, scene, bar)
        figures[way] = limits.figures_of(measured, scene)
        figures[way]["weights"] = cfg.MODEL.WEIGHTS
        figures[way]["seconds"] = round(time.perf_counter() - start, 1)
        yield figures


def peak_memory_mib():
    """The most memory that this process has had, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def main(argv=None):
    """Measure all ways; print what holds, write JSON and plots."""
    args = parse_args(argv)
    setup_logger(name="instance_seg_common")
    ways = load_ways(args.configs, args.weights, args.opts)
    dataset = args.dataset or common_test_set(ways.values())
    records = limits.evenly_spread(get_dataset_dicts(dataset), args.max_images)
    test_sets = {name for cfg in ways.values() for name in cfg.DATASETS.TEST}
    warn_of_choice_on_test_set(test_sets, dataset, "a knob's value")
    scene = limits.scene_of(records, args.crowding)
    # Weights that cannot be used are told of before anything is measured.
    models = {way: build_predictor(cfg) for way, cfg in ways.items()}
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    for figures in measure(ways, models, dataset, scene):
        found = findings(figures)
        facts = {
            "dataset": dataset, "images": len(records), "objects": int(scene.objects.sum()),
            "crowding": args.crowding, "groups": scene.group_names,
            "peak_memory_mib": peak_memory_mib(),
            "findings": [finding._asdict() for finding in found], "ways": figures,
        }  # fmt: skip
        # After each way, so that a failure of a later one loses nothing.
        (folder / "limits.json").write_text(json.dumps(facts, indent=1))
    title = f"{dataset}, {len(records)} images"
    print(f"{title}, {facts['objects']} objects\n")
    print("\n".join(f"- {sentence}" for sentence in (f.sentence for f in found)))
    notes = [f"- {way}: {figure['note']}" for way, figure in figures.items() if figure["note"]]
    print("\n".join(notes), f"\nfigures: {folder / 'limits.json'}", sep="\n")
    for path in write_plots(figures, folder, title):
        print(f"plot: {path}")


if __name__ == "__main__":
    run_tool(main)
