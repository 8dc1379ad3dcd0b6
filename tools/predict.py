#!/usr/bin/env python
"""Predict images of any size and number: label maps, COCO, GeoJSON, tables and overlays as files.

python tools/predict.py --model M INPUT... --output DIR [--save FORM...] [KEY VALUE ...]
INPUT is a file, a folder or a pattern. Images larger than 1.5 times --tile are predicted in tiles
that overlap, and put together without seams.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from instance_seg_common.data.reading import CHOICES, Reading
from instance_seg_common.engine.command_line import model_parser, part_opts_from, run_tool
from instance_seg_common.errors import UserError
from instance_seg_common.export import is_export
from instance_seg_common.export.formats import BACKENDS
from instance_seg_common.prediction import load_predictor
from instance_seg_common.prediction.forms import FORMS
from instance_seg_common.prediction.inputs import Inputs, find_inputs
from instance_seg_common.prediction.job import Outcome, run_job
from instance_seg_common.prediction.on_ray import attempt_on_ray, load_model_on_ray
from instance_seg_common.prediction.one_file import Job
from instance_seg_common.prediction.ray_cluster import LOCAL, ray_cluster


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Arguments of this tool; KEY VALUE pairs after the files are told from them by their form."""
    parser = model_parser(__doc__, opts=False)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder or pattern")
    parser.add_argument("--output", required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--save", action="append", choices=FORMS, help="may be repeated; default: label-map"
    )
    parser.add_argument("--recursive", action="store_true", help="also folders of folders")
    parser.add_argument("--resume", action="store_true", help="go on with a run in --output")
    parser.add_argument("--tile", type=int, metavar="N", help="pixels; 0: never; TEST.TILE_SIZE")
    parser.add_argument("--overlap", type=int, metavar="M", help="of tiles; TEST.TILE_OVERLAP")
    parser.add_argument("--pixel-size", type=float, metavar="UM", help="side, in micrometres")
    parser.add_argument("--backend", choices=BACKENDS, help="that runs the network")
    parser.add_argument("--planes", choices=CHOICES["planes"], default="error", help="of stacks")
    parser.add_argument(
        "--ray", nargs="?", const=LOCAL, metavar="ADDRESS",
        help="many processes by Ray, on this machine or a cluster: auto or HOST:PORT",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, metavar="N", help="of Ray; one for each GPU or CPU")
    args = parser.parse_intermixed_args(argv)  # KEY VALUE pairs may come after options
    args.inputs, args.opts = part_opts_from(args.inputs)
    return args


def check_args(args: argparse.Namespace) -> None:
    """Say which values cannot be."""
    if not args.inputs:
        raise UserError("No INPUT is given: name files, folders or patterns.")
    if args.pixel_size is not None and not 0 < args.pixel_size < float("inf"):
        raise UserError(f"--pixel-size is {args.pixel_size}; give micrometres above 0.")
    if args.tile is not None and args.tile < 0:
        raise UserError(f"--tile is {args.tile}; give pixels, or 0 for no tiles.")
    if args.ray is not None and (Path(args.ray).exists() or part_opts_from([args.ray])[1]):
        raise UserError(
            f"--ray took {args.ray} for the address of a cluster: write --ray {LOCAL}, or an "
            "address."
        )
    if args.ray is not None and (args.backend not in (None, "torch") or is_export(args.model)):
        raise UserError("--ray runs models by torch: leave --backend out, or predict without Ray.")
    if args.workers is not None and (args.ray is None or args.workers < 1):
        raise UserError(f"--workers is {args.workers}; give 1 or more, with --ray.")


def run(args: argparse.Namespace, inputs: Inputs, job: Job, *, opts: Sequence[str]) -> Outcome:
    """Predict in this process, or on Ray."""
    facts = {"resume": args.resume, "failures": inputs.failures, "model": args.model}
    if args.ray is None:
        predictor = load_predictor(args.model, opts, backend=args.backend)
        return run_job(predictor, inputs.images, job, **facts)
    with ray_cluster(args.ray):
        model = load_model_on_ray(args.model, opts, workers=args.workers)
        return run_job(model, inputs.images, job, attempts=attempt_on_ray, **facts)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Predict and sum up; returns the exit status."""
    args = parse_args(argv)
    check_args(args)
    tiles = {"TEST.TILE_SIZE": args.tile, "TEST.TILE_OVERLAP": args.overlap}
    opts = [str(x) for key, n in tiles.items() if n is not None for x in (key, n)]
    folder, reading = Path(args.output), Reading(planes=args.planes)
    inputs = find_inputs(args.inputs, recursive=args.recursive, reading=reading, output=folder)
    if inputs.others:
        print(
            f"files that are no images, left out: {len(inputs.others)}, such as {inputs.others[0]}",
            file=sys.stderr,
        )
    for sentence in inputs.failures.values():
        print(f"error: {sentence}", file=sys.stderr)
    forms = tuple(dict.fromkeys(args.save or ["label-map"]))
    job = Job(folder, forms, reading, args.pixel_size)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        outcome = run(args, inputs, job, opts=[*args.opts, *opts])
    except KeyboardInterrupt:
        print(f"stopped; go on with the same command and --resume: {folder}", file=sys.stderr)
        return 130
    for limit in outcome.limits():
        print(limit.sentence)
    print(outcome.sentence)
    print(f"results: {folder}")
    if outcome.failures:
        print(f"images that could not be done: {len(outcome.failures)}, see above", file=sys.stderr)
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    run_tool(main)
