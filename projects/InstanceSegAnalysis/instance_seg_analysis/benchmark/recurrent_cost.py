"""What a recurrent model costs, in figures that do not depend on how busy the machine is."""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from fvcore.nn import FlopCountAnalysis
from tabulate import tabulate
from torch import Tensor, nn

from .decoders import MakeDecoder, configured_decoder, decoder_pair, released_decoder
from .inputs import training_batch
from .models import MAX_STEPS, plain_model, training_step
from .timing import Function, peak_memory

DECODERS = {"recurrent_R18": configured_decoder, "RSIS as released": released_decoder}
REQUIRED = 1.5
STEPS = (2, 4, 8, 12, 16, MAX_STEPS)
MIB = 2**20
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


@dataclass(frozen=True)
class DecoderFigures:
    """Multiply-adds of a decoder and of its reference, from features to the end of the steps."""

    decoder: str
    ours: float
    reference: float
    ratio: float
    required: float


@dataclass(frozen=True)
class MemoryFigures:
    """Bytes that a training step adds at its peak, for each number of steps: with all that the
    backward pass needs ``kept``, and with ``checkpointing``."""

    steps: "list[int]"
    kept: "list[int]"
    checkpointing: "list[int]"


def multiply_adds(module: nn.Module, inputs: "tuple[Tensor, ...]") -> int:
    """As fvcore counts them, one for a multiplication and an addition.

    Args:
        module (nn.Module)
        inputs (tuple[Tensor]): of its forward.
    """
    analysis = FlopCountAnalysis(module, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analysis.tracer_warnings("none").total()


def decoder_figures(
    decoders: Mapping[str, MakeDecoder] = DECODERS, *, size: int = 256, images: int = 2
) -> "list[DecoderFigures]":
    """Multiply-adds of each decoder and of its reference.

    Args:
        decoders (dict[str, callable]): arguments of ``decoder_pair`` by a name.
        size, images: of ``decoder_pair``.
    """
    figures = []
    for name, make in decoders.items():
        *modules, features = decoder_pair(make, size=size, images=images)
        ours, reference = (multiply_adds(module, features) for module in modules)
        ratio = reference / ours
        figures.append(
            DecoderFigures(name, ours, reference=reference, ratio=ratio, required=REQUIRED)
        )
    return figures


def memory_figures(steps: Sequence[int], **options: Any) -> MemoryFigures:
    """Memory of a training step, each number measured in a process of its own (Linux).

    Args:
        steps (sequence[int]): numbers of steps, whatever the batch needs.
        **options: of ``training_batch``.
    """
    batch = training_batch(**options)
    curves = []
    for checkpointing in (False, True):
        cfg, model = plain_model(CHECKPOINTING=checkpointing)
        parts = [training_step(cfg, model, batch, num_steps=n) for n in steps]
        curves.append([peak_memory(partial(_without_gaps, part)) for part in parts])
    return MemoryFigures(list(steps), *curves)


def _without_gaps(step: Function) -> Any:
    """Tensors in pages of their own, given back when they go: gaps between them, which differ from
    run to run by a third of the memory, are not counted. Only for the process of a measurement."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**16)
    return step()


def slope(steps: Sequence[int], values: Sequence[float]) -> float:
    """Of the line through the values with the least squares; 0 for one value."""
    return float(np.polyfit(steps, values, 1)[0]) if len(steps) > 1 else 0.0


def decoder_table(figures: "Sequence[DecoderFigures]") -> str:
    """Text of :func:`decoder_figures`."""
    headers = ["decoder, 10 steps, 2x256x256", "ours G", "reference G", "ratio", "required", "met"]
    rows = [
        [
            f.decoder,
            f"{f.ours / 1e9:.2f}",
            f"{f.reference / 1e9:.2f}",
            f"{f.ratio:.3f}",
            f.required,
            "yes" if f.ratio >= f.required else "NO",
        ]
        for f in figures
    ]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def memory_table(figures: MemoryFigures) -> str:
    """Text of :func:`memory_figures`, its last line the memory that one more step takes."""
    curves = [[value / MIB for value in curve] for curve in (figures.kept, figures.checkpointing)]
    rows = [
        [n, f"{kept:.0f}", f"{checkpointed:.0f}", f"{kept / checkpointed:.2f}"]
        for n, kept, checkpointed in zip(figures.steps, *curves)
    ]
    slopes = [slope(figures.steps, curve) for curve in curves]
    rows.append(["MiB a step", *(f"{value:.1f}" for value in slopes), ""])
    headers = ["steps", "kept, MiB", "CHECKPOINTING, MiB", "ratio"]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)
