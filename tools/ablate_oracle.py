"""What true semantics or true cluster centres would gain a clustering model.

python tools/ablate_oracle.py --config-file F MODEL.WEIGHTS W [--max-images N] [--json FILE]
"""

import json
from pathlib import Path

from ways import config_parser, load_cfg, run_tool

from instance_seg_analysis.oracle import ablate_oracle, oracle_table
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.errors import UserError


def parse_args(argv=None):
    """Command line."""
    parser = config_parser(__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the figures into this file, too")
    parser.add_argument("--max-images", type=int, metavar="N", help="use N images, evenly spread")
    args = parser.parse_args(argv)
    if args.max_images is not None and args.max_images < 1:
        raise UserError(f"--max-images is {args.max_images}; use 1 or more.")
    return args


def main(argv=None):
    """Evaluate the four rows and print the table."""
    args = parse_args(argv)
    cfg = load_cfg(args.config_file, args.opts)
    cfg.freeze()
    dataset = next(iter(cfg.DATASETS.TEST), "")
    get_dataset_dicts(dataset)
    rows, images = ablate_oracle(cfg, build_predictor(cfg), dataset, max_images=args.max_images)
    print(f"{dataset}, {images} images\n\n{oracle_table(rows)}")
    if args.json:
        path = Path(args.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"dataset": dataset, "images": images, "weights": cfg.MODEL.WEIGHTS}
        rows = [row._asdict() for row in rows]
        path.write_text(json.dumps({**facts, "rows": rows}, indent=1))
        print(f"figures: {path}")


if __name__ == "__main__":
    run_tool(main)
