#!/usr/bin/env python
"""Turn a run into a small file for weights/: float16, with its config and figures beside it.

python tools/publish_weights.py output/Nuclei/mask_rcnn_R18 weights/mask_rcnn_R18_dsb2018
writes weights/mask_rcnn_R18_dsb2018.pth, .yaml and .json.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from ways import run_tool

from instance_seg_common.errors import UserError

MAX_BYTES = 25_000_000


def halve(state):
    """Floating-point tensors as float16, the rest as it is."""
    return {
        name: value.half() if value.is_floating_point() else value for name, value in state.items()
    }


def main():
    """Publish the weights of a finished run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="OUTPUT_DIR of a training")
    parser.add_argument("target", type=Path, help="path without suffix")
    parser.add_argument("--checkpoint", default="model_final.pth", help="file in the run's folder")
    args = parser.parse_args()
    for name in (args.checkpoint, "config.yaml", "results.json"):
        if not (args.run / name).is_file():
            raise UserError(
                f"{args.run} has no {name}: is it the OUTPUT_DIR of a finished training?"
            )
    state = torch.load(args.run / args.checkpoint, map_location="cpu")["model"]
    target = Path(f"{args.target}.pth")
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": halve(state)}, target)
    if target.stat().st_size > MAX_BYTES:
        target.unlink()
        raise UserError(f"{target} would exceed {MAX_BYTES // 10**6} MB; use a lighter model.")
    shutil.copy(args.run / "config.yaml", f"{args.target}.yaml")
    results = json.loads((args.run / "results.json").read_text())
    Path(f"{args.target}.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_tool(main)
