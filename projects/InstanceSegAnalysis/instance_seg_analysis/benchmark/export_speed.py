"""Seconds in the network of a model, by torch and by what runs its export, in turn."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from tabulate import tabulate
from torch import Tensor, nn

from instance_seg_common.engine.build import build_model_quietly
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.engine.setup import load_model_cfg
from instance_seg_common.export import cached_export
from instance_seg_common.export.facts import method_export
from instance_seg_common.meta_arch import Runner, as_buffer

BACKEND = "onnxruntime"
THREADS, SIZES = (1, 2), (256, 512)


@dataclass(frozen=True)
class ExportTiming:
    """Milliseconds of one image in the network, minimum over the repeats; ratio: torch over
    export."""

    model: str
    threads: int
    size: int
    torch_ms: float
    export_ms: float
    ratio: float


class Clocked:
    """Runs a part and adds up its seconds."""

    def __init__(self, runner: Runner) -> None:
        self.runner, self.seconds = runner, 0.0

    def __call__(self, *tensors: Tensor) -> "Sequence[Tensor]":
        start = time.perf_counter()
        found = self.runner(*tensors)
        self.seconds += time.perf_counter() - start
        return found


class ClockedModel:
    """A model of a config whose network is runners, with a clock on each.

    Args:
        cfg (CfgNode)
        runners (dict[str, Runner]): of the parts of its network, by name.
    """

    def __init__(self, cfg: CfgNode, runners: "dict[str, Runner]") -> None:
        self.parts = {name: Clocked(runner) for name, runner in runners.items()}
        self.model: nn.Module = build_model_quietly(cfg.clone()).eval()
        method_export(cfg).attach(self.model, self.parts)
        self.model.eval()

    def milliseconds(self, item: "dict[str, Any]") -> float:
        """In the network, for one input."""
        before = sum(part.seconds for part in self.parts.values())
        self.model([item])
        return 1e3 * (sum(part.seconds for part in self.parts.values()) - before)


@torch.no_grad()
def time_export(
    name: str, *, threads: "Sequence[int]" = THREADS, sizes: "Sequence[int]" = SIZES,
    repeats: int = 10,
) -> "Iterator[ExportTiming]":  # fmt: skip
    """Time the network of a model and its export in turn, on images of noise.

    Args:
        name (str): of the model, see ``engine.setup.parse_model``.
        threads, sizes (list[int]): each of these, with each side of the image in pixels.
        repeats (int): of each; the minimum counts.

    Yields:
        ExportTiming: as soon as it is known.
    """
    cfg = load_model_cfg(name, ["MODEL.DEVICE", "cpu"])
    parts = method_export(cfg).parts(build_predictor(cfg))
    by_torch = ClockedModel(cfg, {part.name: part.module for part in parts})
    export, before = cached_export(cfg, BACKEND), torch.get_num_threads()
    try:
        for count in threads:
            torch.set_num_threads(count)  # the export's threads are as many when it is loaded
            both = (by_torch, ClockedModel(cfg, export.runners()))
            for size in sizes:
                item = _noise(cfg, size)
                turns = [[one.milliseconds(item) for one in both] for _ in range(repeats + 1)]
                best = [min(times[1:]) for times in zip(*turns)]  # the first warms up
                yield ExportTiming(name, count, size, *best, ratio=best[0] / best[1])
    finally:
        torch.set_num_threads(before)


def _noise(cfg: CfgNode, size: int) -> "dict[str, Any]":
    """An input of values as the training images have them."""
    generator = torch.Generator().manual_seed(0)
    mean, std = map(as_buffer, (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD))
    image = mean + std * torch.randn(len(mean), size, size, generator=generator)
    return {"image": image, "height": size, "width": size}


def export_table(timings: "Sequence[ExportTiming]") -> str:
    """As a text table."""
    rows = [astuple(timing) for timing in timings]
    headers = ["model", "threads", "pixels", "torch ms", "export ms", "ratio"]
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=("", "", "", ".1f", ".1f", ".2f"))
