#!/usr/bin/env python
"""Export the network of a trained model, for onnxruntime or for torch without this code.

python tools/export.py --model M --format onnx --output DIR [KEY VALUE ...]
DIR gets NAME.json and a file for each part of the network. The JSON file is a model to
tools/predict.py.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

from instance_seg_common.engine.command_line import model_parser, run_tool
from instance_seg_common.export import Export, export_model
from instance_seg_common.export.formats import FORMATS


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Arguments of this tool."""
    parser = model_parser(__doc__)
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="of the files")
    parser.add_argument("--output", required=True, metavar="DIR", help="made if absent")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Export and say where it lies."""
    args = parse_args(argv)
    print("exporting: this takes about a minute", file=sys.stderr)
    path = export_model(args.model, format=args.format, folder=args.output, opts=args.opts)
    export = Export(path)
    for part in export.facts["parts"]:
        shapes = ", ".join(f"{one['name']} {one['shape']}" for one in part["inputs"][:2])
        more = len(part["inputs"]) - 2
        print(f"{part['file']}: {shapes}" + (f" and {more} more" if more > 0 else ""))
    print(f"results: {path}; predict with --model {path}, by {export.backend}")


if __name__ == "__main__":
    run_tool(main)
