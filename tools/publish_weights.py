#!/usr/bin/env python
"""Make files of weights: of a run, with its config and its measured figures, or of torchvision.

python tools/publish_weights.py --model CONFIG[:CHECKPOINT] --target weights/NAME [KEY VALUE ...]
writes weights/NAME.pth (float16) and weights/NAME.json; the figures are those of the published
file. The checkpoint and its results.json are those that training left in OUTPUT_DIR, if none is
named.
python tools/publish_weights.py --torchvision resnet18.pth --model CONFIG --target DIR/NAME
writes DIR/NAME.pth, with which MODEL.WEIGHTS of that config can start.
python tools/publish_weights.py --table
writes the table of weights/README.md anew.
"""

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import torch
from tabulate import tabulate
from torch import Tensor

from instance_seg_common.engine.command_line import MODEL_HELP, run_tool
from instance_seg_common.engine.evaluate import evaluate
from instance_seg_common.engine.setup import load_cfg, load_model_cfg, parse_model
from instance_seg_common.engine.torchvision_weights import convert_torchvision
from instance_seg_common.errors import UserError

MAX_BYTES = 25_000_000
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
# The table of weights/README.md stands between these lines.
MARKERS = ("<!-- table: made by tools/publish_weights.py --table -->", "<!-- end of table -->")
# Column: group and name in the JSON, and decimals.
FIGURES = {
    "segm AP": ("segm", "AP", 1),
    "AP50": ("segm", "AP50", 1),
    "accuracy at IoU 0.5": ("matching", "accuracy50", 3),
    "SBD": ("sbd", "SBD", 3),
    "\\|DiC\\|": ("dic", "DiC", 2),
}


def halve(state: Mapping[str, Tensor]) -> "dict[str, Tensor]":
    """Floating-point tensors as float16, the rest as it is."""
    return {
        name: value.half() if value.is_floating_point() else value for name, value in state.items()
    }


def write_half_precision(checkpoint: Path, target: Path) -> None:
    """Write the model of a checkpoint as float16; a file that is too large is not left behind."""
    state = torch.load(checkpoint, map_location="cpu")["model"]
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": halve(state)}, target)
    if target.stat().st_size > MAX_BYTES:
        target.unlink()
        raise UserError(f"{target} would exceed {MAX_BYTES // 10**6} MB; use a lighter model.")


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Arguments of this tool."""
    first, _, *rest = __doc__.splitlines()
    parser = argparse.ArgumentParser(description=first, epilog=" ".join(rest))
    parser.add_argument("--model", metavar="M", help=MODEL_HELP)
    parser.add_argument("--target", metavar="NAME", help="path of the new files, without suffix")
    parser.add_argument(
        "--torchvision", metavar="FILE", help="a state dict of torchvision's ResNet to convert"
    )
    parser.add_argument("--table", action="store_true", help="write the table of weights/README.md")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="those of the training")
    args = parser.parse_args(argv)
    if not (args.model and args.target) and (args.torchvision or not args.table):
        raise UserError(
            "Give --model and --target to publish a model (or, with --torchvision, to convert "
            "weights for one), or --table."
        )
    return args


def publish(args: argparse.Namespace) -> None:
    """Publish the weights of a finished run."""
    cfg = load_model_cfg(args.model, args.opts)
    checkpoint = Path(cfg.MODEL.WEIGHTS or Path(cfg.OUTPUT_DIR) / "model_final.pth")
    run = checkpoint.parent
    for file in (checkpoint, run / "results.json"):
        if not file.is_file():
            raise UserError(
                f"{run} has no {file.name}: is it the OUTPUT_DIR of a finished run? Name the "
                "checkpoint of one: --model CONFIG:CHECKPOINT."
            )
    weights = f"{args.target}.pth"
    write_half_precision(checkpoint, Path(weights))
    training = json.loads((run / "results.json").read_text())
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = weights, str(run / "published")
    evaluate(cfg)
    measured = json.loads((run / "published" / "results.json").read_text())
    config = parse_model(args.model).config
    facts = {
        "config": config,
        "command": " ".join(["python tools/train_net.py --config-file", config, *args.opts]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "training": {key: training.get(key) for key in ("iteration", "seconds")},
        "datasets": measured["datasets"],
        "metrics": measured["metrics"],
    }
    Path(f"{args.target}.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{weights}: {Path(weights).stat().st_size / 1e6:.1f} MB")


def convert(args: argparse.Namespace) -> None:
    """Turn weights of torchvision into a start for the config's model."""
    cfg = load_cfg(parse_model(args.model).config, args.opts)
    target = f"{args.target}.pth"
    for sentence in convert_torchvision(args.torchvision, cfg, target):
        print(sentence)
    print(f"{target}: start with MODEL.WEIGHTS {target}")


def models_table(folder: Path = WEIGHTS) -> str:
    """The published models and their figures, as Markdown.

    Args:
        folder (Path): of NAME.pth beside NAME.json.

    Returns:
        str: a line for each model, by name.
    """
    rows = []
    for file in sorted(folder.glob("*.json")):
        facts = json.loads(file.read_text())
        figures = [
            format_figure(facts["metrics"].get(group, {}).get(name), decimals)
            for group, name, decimals in FIGURES.values()
        ]
        training = facts["training"]
        cost = f"{training['iteration']} in {training['seconds'] / 60:.0f} min"
        size = f"{file.with_suffix('.pth').stat().st_size / 1e6:.1f}"
        test_set = ", ".join(facts["datasets"])
        rows.append([f"`{file.stem}`", f"`{facts['config']}`", test_set, *figures, cost, size])
    headers = ["name", "config", "measured on", *FIGURES, "iterations", "MB"]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def format_figure(value: Optional[float], decimals: int) -> str:
    """A figure of the JSON; "-" where it is not defined."""
    return "-" if value is None else f"{value:.{decimals}f}"


def with_table(text: str, table: str) -> str:
    """A README with its table replaced.

    Raises:
        UserError: the lines between which it belongs are not there.
    """
    start, end = (text.find(marker) for marker in MARKERS)
    if start < 0 or end < start:
        raise UserError(f"weights/README.md needs the lines {MARKERS[0]} and {MARKERS[1]}.")
    return f"{text[: start + len(MARKERS[0])]}\n\n{table}\n\n{text[end:]}"


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Publish a model, or write the table of all."""
    args = parse_args(argv)
    if args.torchvision:
        convert(args)
    elif args.model:
        publish(args)
    if args.table:
        readme = WEIGHTS / "README.md"
        readme.write_text(with_table(readme.read_text(), models_table()))
        print(f"table: {readme}")


if __name__ == "__main__":
    run_tool(main)
