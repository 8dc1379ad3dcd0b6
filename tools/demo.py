#!/usr/bin/env python
"""Train, evaluate and draw every method on rendered images, with the commands a user types.

Ends with a table and a page to look at; exit 1 if a trained model stays below segm AP50 40.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from tabulate import tabulate

from instance_seg_common.engine.command_line import run_tool
from instance_seg_common.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = Path("output") / "demo"
REQUIRED_AP50 = 40.0
PICTURES = 8


class Demonstration(NamedTuple):
    """One line of the table: a method on the rendered shapes.

    weights: a file to start from, for a method that cannot learn the task within minutes.
    """

    name: str
    config: str
    opts: tuple[str, ...]
    trained: bool
    weights: str = ""


class Row(NamedTuple):
    """A line of the table; AP in percent."""

    method: str
    AP: float
    AP50: float
    SBD: float
    DiC: float
    seconds: float
    training: str
    pictures: str


# In this order; each method adds an entry.
DEMO = [
    Demonstration("classical", "configs/Synthetic/classical_shapes.yaml", (), trained=False),
    Demonstration(
        "mask_rcnn",
        "configs/Synthetic/mask_rcnn_R18_shapes.yaml",
        ("SOLVER.MAX_ITER", "420", "SOLVER.BASE_LR", "0.002", "TEST.EVAL_PERIOD", "0"),
        trained=True,
    ),
    Demonstration(
        "embedding",
        "configs/Synthetic/embedding_R18_shapes.yaml",
        ("SOLVER.MAX_ITER", "700", "SOLVER.BASE_LR", "0.002", "TEST.EVAL_PERIOD", "0"),
        trained=True,
    ),
    Demonstration(
        "recurrent",
        "configs/Synthetic/recurrent_R18_shapes.yaml",
        ("SOLVER.MAX_ITER", "30", "SOLVER.BASE_LR", "0.0002", "TEST.EVAL_PERIOD", "0"),
        trained=True,
        weights="weights/recurrent_R18_shapes.pth",
    ),
]


def call(tool: str, arguments: Sequence[str]) -> None:
    """Run a tool of this folder as a user does; a failure ends the demo with its name."""
    command = [sys.executable, f"tools/{tool}", *arguments]
    print("$ python " + " ".join(command[1:]), flush=True)
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise UserError(f"tools/{tool} failed; its own words are above.")


def named_model(one: Demonstration) -> str:
    """Its config and what the demo trained, as ``--model`` takes them."""
    return f"{one.config}:{OUTPUT / one.name / 'model_final.pth' if one.trained else ''}"


def run(one: Demonstration) -> Row:
    """Train or evaluate with one config and draw predictions; a row of the table."""
    folder = OUTPUT / one.name
    mode = [] if one.trained else ["--eval-only"]
    opts = [*one.opts, "OUTPUT_DIR", str(folder)]
    start = time.perf_counter()
    call(
        "train_net.py",
        ["--config-file", one.config, *mode, *opts, "MODEL.WEIGHTS", one.weights],
    )
    seconds = time.perf_counter() - start
    pictures = str(folder / "pictures")
    call(
        "visualize.py",
        [
            *("--model", named_model(one), "--source", "prediction", "--output", pictures),
            *("--max-images", str(PICTURES), *opts),
        ],
    )
    metrics = json.loads((ROOT / folder / "results.json").read_text())["metrics"]
    return Row(
        method=one.name,
        AP=metrics["segm"]["AP"],
        AP50=metrics["segm"]["AP50"],
        SBD=metrics["sbd"]["SBD"],
        DiC=metrics["dic"]["DiC"],
        seconds=seconds,
        training=f"from {one.weights or 'scratch'}" if one.trained else "none",
        pictures=pictures,
    )


def compare(demo: Sequence[Demonstration]) -> Optional[Path]:
    """Put the models on one page, on the same images.

    Args:
        demo (list[Demonstration]): that were run; fewer than two make no comparison.

    Returns:
        Path or None: the page.
    """
    if len(demo) < 2:
        return None
    models = [part for one in demo for part in ("--model", named_model(one))]
    folder = OUTPUT / "comparison"
    call("compare.py", [*models, "--output", str(folder), *demo[0].opts])
    return folder / "index.html"


def main() -> int:
    """Run all methods and print the table."""
    rows = [run(one) for one in DEMO]
    trained = [row for row, one in zip(rows, DEMO) if one.trained]
    page = compare(DEMO)
    print()
    print(tabulate(rows, headers="keys", floatfmt=("", ".1f", ".1f", ".3f", ".2f", ".0f")))
    print("AP in percent, SBD from 0 to 1, DiC in instances an image, on the fixed validation set.")
    if page:
        print(f"All models side by side on one page, to be opened in a browser: {page}")
    weak = [row.method for row in trained if row.AP50 < REQUIRED_AP50]
    if weak:
        print(f"error: segm AP50 below {REQUIRED_AP50:.0f}: {', '.join(weak)}.", file=sys.stderr)
    return 1 if weak else 0


if __name__ == "__main__":
    run_tool(main)
