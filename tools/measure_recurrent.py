"""What the recurrent way costs, in figures that do not depend on how busy the machine is.

    python tools/measure_recurrent.py [--steps 2 4 8 12 16 20] [--json FILE]

Multiply-adds of the decoder against one convolution of all inputs at every step, and the peak
memory of a training step against its number of steps, with and without CHECKPOINTING (Linux).
"""

import argparse
import ctypes
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from benchmark_recurrent import (
    MAX_STEPS,
    configured_decoder,
    decoder_pair,
    plain_model,
    released_decoder,
    training_batch,
    training_step,
)
from fvcore.nn import FlopCountAnalysis
from tabulate import tabulate
from ways import run_tool

from instance_seg_analysis.benchmark.timing import peak_memory

DECODERS = {"recurrent_R18": configured_decoder, "RSIS as released": released_decoder}
REQUIRED = 1.5
STEPS = (2, 4, 8, 12, 16, MAX_STEPS)
MIB = 2**20
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def parse_args(argv=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS, help="of a training step")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser.parse_args(argv)


def multiply_adds(module, inputs):
    """As fvcore counts them, one for a multiplication and an addition.

    Args:
        module (nn.Module)
        inputs (tuple[Tensor]): of its forward.

    Returns:
        int
    """
    analysis = FlopCountAnalysis(module, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analysis.tracer_warnings("none").total()


def decoder_figures(decoders=DECODERS, size=256, images=2):
    """Multiply-adds of each decoder and of its reference, from features to the end of the steps.

    Args:
        decoders (dict[str, callable]): arguments of ``decoder_pair`` by a name.
        size, images: of ``decoder_pair``.

    Returns:
        list[dict]: ``decoder``, ``ours``, ``reference``, ``ratio``, ``required``.
    """
    figures = []
    for name, make in decoders.items():
        *modules, features = decoder_pair(make, size, images)
        ours, reference = (multiply_adds(module, features) for module in modules)
        counts = {"ours": ours, "reference": reference, "ratio": reference / ours}
        figures.append({"decoder": name, **counts, "required": REQUIRED})
    return figures


def memory_figures(steps, **scene):
    """Memory that a training step adds at its peak, each number measured in a process of its own.

    Args:
        steps (sequence[int]): numbers of steps, whatever the batch needs.
        **scene: of ``training_batch``.

    Returns:
        dict: ``steps``; ``kept`` and ``checkpointing``: bytes for each number of steps.
    """
    batch = training_batch(**scene)
    figures = {"steps": list(steps)}
    for name, checkpointing in (("kept", False), ("checkpointing", True)):
        cfg, model = plain_model(CHECKPOINTING=checkpointing)
        parts = [training_step(cfg, model, batch, n) for n in steps]
        figures[name] = [peak_memory(partial(_without_gaps, part)) for part in parts]
    return figures


def _without_gaps(step):
    """Tensors in pages of their own, given back when they go: gaps between them, which differ from
    run to run by a third of the memory, are not counted. Only for the process of a measurement."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**16)
    return step()


def slope(steps, values):
    """Of the line through the values with the least squares; 0 for one value."""
    return float(np.polyfit(steps, values, 1)[0]) if len(steps) > 1 else 0.0


def decoder_table(figures):
    """Text of :func:`decoder_figures`."""
    headers = ["decoder, 10 steps, 2x256x256", "ours G", "reference G", "ratio", "required", "met"]
    rows = [
        [
            f["decoder"],
            f"{f['ours'] / 1e9:.2f}",
            f"{f['reference'] / 1e9:.2f}",
            f"{f['ratio']:.3f}",
            f["required"],
            "yes" if f["ratio"] >= f["required"] else "NO",
        ]
        for f in figures
    ]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def memory_table(figures):
    """Text of :func:`memory_figures`, its last line the memory that one more step takes."""
    curves = [[value / MIB for value in figures[name]] for name in ("kept", "checkpointing")]
    rows = [
        [n, f"{kept:.0f}", f"{checkpointed:.0f}", f"{kept / checkpointed:.2f}"]
        for n, kept, checkpointed in zip(figures["steps"], *curves)
    ]
    slopes = [slope(figures["steps"], curve) for curve in curves]
    rows.append(["MiB a step", *(f"{value:.1f}" for value in slopes), ""])
    headers = ["steps", "kept, MiB", "CHECKPOINTING, MiB", "ratio"]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def main(argv=None):
    """Print and write the figures."""
    args = parse_args(argv)
    torch.set_num_threads(1)
    decoders = decoder_figures()
    print("Multiply-adds (fvcore)\n" + decoder_table(decoders), flush=True)
    memory = memory_figures(args.steps)
    print("\nPeak memory of a training step, 8x128x128\n" + memory_table(memory))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"decoders": decoders, "memory": memory}, indent=2) + "\n")


if __name__ == "__main__":
    run_tool(main)
