"""Measure speed and memory against references in the same run.

python tools/benchmark.py time [--rows sbd] [--repeats 10] [--memory] [--strict] [--json FILE]
python tools/benchmark.py memory [--steps 2 4 8 12 16 20] [--json FILE]
python tools/benchmark.py export --model M [--threads 1 2] [--sizes 256 512] [--json FILE]
python tools/benchmark.py levers [--levers rsis guided] [--seconds 360] [--json FILE]
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

import torch

from instance_seg_analysis.benchmark import export_speed, recurrent_cost, rows, timing
from instance_seg_analysis.benchmark import levers as lever_runs
from instance_seg_common.engine.command_line import MODEL_HELP, check_at_least, run_tool


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Command line; ``args.run`` is the function of the subcommand."""
    first, _, *rest = __doc__.splitlines()
    parser = argparse.ArgumentParser(description=first)
    commands = parser.add_subparsers(required=True, metavar="SUBCOMMAND")
    _add_time(commands)
    _add_memory(commands)
    _add_levers(commands)
    _add_export(commands)
    return parser.parse_args(argv)


def _add_command(commands: Any, name: str, *, run: Any) -> argparse.ArgumentParser:
    """A subcommand, its help the docstring of the function that runs it."""
    first, *rest = run.__doc__.splitlines()
    parser = commands.add_parser(name, help=first, description=first, epilog=" ".join(rest))
    parser.set_defaults(run=run)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser


def _add_time(commands: Any) -> None:
    parser = _add_command(commands, "time", run=measure_time)
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each; the minimum counts")
    parser.add_argument("--memory", action="store_true", help="also peak memory (Linux)")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a ratio is missed")


def _add_memory(commands: Any) -> None:
    parser = _add_command(commands, "memory", run=measure_memory)
    steps = recurrent_cost.STEPS
    parser.add_argument("--steps", nargs="+", type=int, default=steps, help="of a training step")


def _add_levers(commands: Any) -> None:
    parser = _add_command(commands, "levers", run=measure_levers)
    names = list(lever_runs.LEVERS)
    parser.add_argument("--model", default=lever_runs.CONFIG, metavar="M", help=MODEL_HELP)
    parser.add_argument(
        "--levers", nargs="+", choices=names, default=names, metavar="NAME",
        help=f"of {', '.join(names)}",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=360, help="CPU time of each, at most")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override config keys")


def _add_export(commands: Any) -> None:
    parser = _add_command(commands, "export", run=measure_export)
    parser.add_argument("--model", required=True, metavar="M", help=MODEL_HELP)
    parser.add_argument("--threads", nargs="+", type=int, default=export_speed.THREADS)
    parser.add_argument("--sizes", nargs="+", type=int, default=export_speed.SIZES, help="pixels")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each; the minimum counts")


def measure_time(args: argparse.Namespace) -> int:
    """Time our functions against the plain form of the same computation, on one thread.

    A row that cannot be measured, for want of its weights or because what it computes is wrong, is
    reported after the table of the others; the exit status is then 1.
    """
    chosen = timing.select_rows(rows.all_rows(), args.rows)
    timings, problems = timing.run_rows(chosen, repeats=args.repeats, memory=args.memory)
    print(timing.timings_table(timings), flush=True)
    write_json(timing.timings_json(timings), args.json)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    missed = args.strict and not all(one.met for one in timings)
    return int(bool(problems) or missed)


def measure_memory(args: argparse.Namespace) -> int:
    """Count what a recurrent model costs, in figures that no busy machine changes.

    Multiply-adds of the decoder against one convolution of all inputs at every step, and the peak
    memory of a training step by its number of steps, with and without CHECKPOINTING (Linux).
    """
    torch.set_num_threads(1)
    decoders = recurrent_cost.decoder_figures()
    print("Multiply-adds (fvcore)\n" + recurrent_cost.decoder_table(decoders), flush=True)
    memory = recurrent_cost.memory_figures(args.steps)
    print("\nPeak memory of a training step, 8x128x128\n" + recurrent_cost.memory_table(memory))
    figures = {"decoders": [asdict(one) for one in decoders], "memory": asdict(memory)}
    write_json(figures, args.json)
    return 0


def measure_levers(args: argparse.Namespace) -> int:
    """Measure how fast recurrent models begin to tell objects apart, from scratch.

    By CPU time, one thread, until the running mean of 1 - soft IoU, near 0.8 while every step
    paints all objects at once, is below 0.6.
    """
    torch.set_num_threads(1)
    figures = {}
    for name in args.levers:
        cfg = lever_runs.lever_cfg(args.model, lever_runs.LEVERS[name], args.opts)
        figures[name] = lever_runs.time_to_break(cfg, args.seconds)
        print(lever_runs.levers_table({name: figures[name]}).splitlines()[-1], flush=True)
        # After each, so that a failure of a later one loses nothing.
        write_json({name: asdict(one) for name, one in figures.items()}, args.json)
    print("\n" + lever_runs.levers_table(figures))
    return 0


def measure_export(args: argparse.Namespace) -> int:
    """Time the network of a model by torch and, in turn, its export by onnxruntime."""
    chosen = {name: getattr(args, name) for name in ("threads", "sizes", "repeats")}
    check_at_least(args, {"repeats": 1})
    timings = list(export_speed.time_export(args.model, **chosen))
    print(export_speed.export_table(timings))
    write_json([asdict(one) for one in timings], args.json)
    return 0


def write_json(figures: Any, path: Optional[Path]) -> None:
    """Write figures, if a file is named; its folder is made."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the subcommand; returns the exit status."""
    args = parse_args(argv)
    return args.run(args)


if __name__ == "__main__":
    run_tool(main)
