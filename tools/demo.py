#!/usr/bin/env python
"""Train, evaluate and draw every way on rendered images, with the commands a user types.

Ends with a table and a page to look at; exit 1 if a way stays below segm AP50 40.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from tabulate import tabulate
from ways import DEMO, run_tool

from instance_seg_common.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = Path("output") / "demo"
REQUIRED_AP50 = 40.0
PICTURES = 8


def call(tool, *arguments):
    """Run a tool of this folder as a user does; a failure ends the demo with its name."""
    command = [sys.executable, f"tools/{tool}", *arguments]
    print("$ python " + " ".join(command[1:]), flush=True)
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise UserError(f"tools/{tool} failed; its own words are above.")


def run_way(way):
    """Train or load one way, evaluate it, draw it.

    Args:
        way (DemoWay): of ``tools/ways.py``.

    Returns:
        dict: a row of the table.
    """
    folder = OUTPUT / way.name
    mode = [] if way.trained else ["--eval-only"]
    opts = [*way.opts, "OUTPUT_DIR", str(folder)]
    start = time.perf_counter()
    call("train_net.py", "--config-file", way.config, *mode, *opts, "MODEL.WEIGHTS", way.weights)
    seconds = time.perf_counter() - start
    source = ["--weights", str(folder / "model_final.pth")] if way.trained else []
    call(
        "visualize.py", "--config-file", way.config, "--source", "prediction", *source,
        "--output", str(folder / "pictures"), "--max-images", str(PICTURES), *opts,
    )  # fmt: skip
    metrics = json.loads((ROOT / folder / "results.json").read_text())["metrics"]
    return {
        "way": way.name,
        "AP": metrics["segm"]["AP"],
        "AP50": metrics["segm"]["AP50"],
        "SBD": metrics["sbd"]["SBD"],
        "DiC": metrics["dic"]["DiC"],
        "seconds": seconds,
        "training": f"from {way.weights or 'scratch'}" if way.trained else "none",
        "pictures": str(folder / "pictures"),
    }


def compare(ways):
    """Put the ways on one page, on the same images.

    Args:
        ways (list[DemoWay]): that were run; fewer than two make no comparison.

    Returns:
        Path or None: the page.
    """
    if len(ways) < 2:
        return None
    weights = [str(OUTPUT / way.name / "model_final.pth") if way.trained else "" for way in ways]
    folder = OUTPUT / "comparison"
    call(
        "compare.py", "--configs", *(way.config for way in ways), "--weights", *weights,
        "--output", str(folder), "--opts", *ways[0].opts,
    )  # fmt: skip
    return folder / "index.html"


def main():
    """Run all ways and print the table."""
    rows = [run_way(way) for way in DEMO]
    trained = [row for row, way in zip(rows, DEMO) if way.trained]
    page = compare(DEMO)
    print()
    print(tabulate(rows, headers="keys", floatfmt=("", ".1f", ".1f", ".3f", ".2f", ".0f")))
    print("AP in percent, SBD from 0 to 1, DiC in instances an image, on the fixed validation set.")
    if page:
        print(f"All ways side by side on one page, to be opened in a browser: {page}")
    weak = [row["way"] for row in trained if row["AP50"] < REQUIRED_AP50]
    if weak:
        print(f"error: segm AP50 below {REQUIRED_AP50:.0f}: {', '.join(weak)}.", file=sys.stderr)
    return 1 if weak else 0


if __name__ == "__main__":
    run_tool(main)
