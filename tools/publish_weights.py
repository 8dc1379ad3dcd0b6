#!/usr/bin/env python
"""Turn a run into a small file for weights/: float16, its config and its measured figures.

python tools/publish_weights.py --run output/Nuclei/mask_rcnn_R18 --target weights/NAME \\
    --config-file configs/Nuclei/mask_rcnn_R18.yaml
writes weights/NAME.pth and weights/NAME.json; the figures are those of the published file.
"""

import argparse
import json
import os
import platform
from pathlib import Path

import torch
from train_net import evaluate
from ways import load_cfg, run_tool

from instance_seg_common.errors import UserError

MAX_BYTES = 25_000_000


def halve(state):
    """Floating-point tensors as float16, the rest as it is."""
    return {
        name: value.half() if value.is_floating_point() else value for name, value in state.items()
    }


def write_half_precision(checkpoint, target):
    """Write the model of a checkpoint as float16; a file that is too large is not left behind."""
    state = torch.load(checkpoint, map_location="cpu")["model"]
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": halve(state)}, target)
    if target.stat().st_size > MAX_BYTES:
        target.unlink()
        raise UserError(f"{target} would exceed {MAX_BYTES // 10**6} MB; use a lighter model.")


def parse_args(argv=None):
    """Arguments of this tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="OUTPUT_DIR of the training")
    parser.add_argument("--target", required=True, help="path without suffix")
    parser.add_argument("--config-file", required=True, help="the leaf that it was trained with")
    parser.add_argument("--checkpoint", default="model_final.pth", help="file in the run's folder")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="those of the training")
    return parser.parse_args(argv)


def main(argv=None):
    """Publish the weights of a finished run."""
    args = parse_args(argv)
    for name in (args.checkpoint, "results.json"):
        if not (args.run / name).is_file():
            raise UserError(f"{args.run} has no {name}: is it the OUTPUT_DIR of a finished run?")
    weights = f"{args.target}.pth"
    write_half_precision(args.run / args.checkpoint, Path(weights))
    training = json.loads((args.run / "results.json").read_text())
    published = args.run / "published"
    evaluate(
        load_cfg(
            args.config_file,
            [*args.opts, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", str(published)],
        )
    )
    measured = json.loads((published / "results.json").read_text())
    facts = {
        "command": " ".join(
            ["python tools/train_net.py --config-file", args.config_file, *args.opts]
        ),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "training": {key: training.get(key) for key in ("iteration", "seconds")},
        "datasets": measured["datasets"],
        "metrics": measured["metrics"],
    }
    Path(f"{args.target}.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{weights}: {Path(weights).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
