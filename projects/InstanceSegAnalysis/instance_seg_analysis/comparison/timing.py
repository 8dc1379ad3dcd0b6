"""Seconds of a model, in its network and after it, and the memory of a call.

Seconds are split where the maps of the network are complete: a proposal-based model's
post-processing is decoding and NMS of proposals and of detections, and pasting masks into the
image; an embedding model's is enlarging its maps, clustering, and making instances of clusters; a
recurrent model's is making instances of its masks. Reading the image is in neither.
"""

import multiprocessing
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import torch
from detectron2.structures import Instances
from torch import nn

from instance_seg_analysis.benchmark.timing import peak_memory
from instance_seg_analysis.comparison.models import COMPONENTS, ComparedModel, takes_tiles
from instance_seg_analysis.methods import analysis_of
from instance_seg_analysis.methods.base import MethodAnalysis, Split
from instance_seg_common.tiling.tiled_model import needs_tiles, with_tiles

Item = Mapping[str, Any]


class TimedInstances(NamedTuple):
    """instances: of one image, on the CPU; seconds: of the whole call; network_seconds: of these,
    in the network, None where that cannot be told."""

    instances: Instances
    seconds: float
    network_seconds: Optional[float]


class NetworkClock:
    """Adds up the seconds within some parts of a model while it is entered.

    Args:
        model (nn.Module)
        names (sequence[str]): of its parts, such as "backbone" or "roi_heads.box_head"; one that
            runs within another counts once.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]):
        self.seconds = 0.0
        self._modules = [model.get_submodule(name) for name in names]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._depth, self._start = 0, 0.0

    def __enter__(self) -> "NetworkClock":
        for module in self._modules:
            self._handles.append(module.register_forward_pre_hook(self._begin))
            self._handles.append(module.register_forward_hook(self._end))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def _begin(self, module: nn.Module, inputs: Any) -> None:
        if self._depth == 0:
            self._start = _now()
        self._depth += 1

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += _now() - self._start


def _now() -> float:
    """Seconds; work that was handed to a GPU before is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def network_modules(model: nn.Module, analysis: MethodAnalysis) -> "Optional[tuple[str, ...]]":
    """Names of a model's parts that are its network, or None where its seconds cannot be split."""
    if analysis.network_modules is None or not analysis.fits(model):
        return None
    present = {name for name, _ in model.named_modules()}
    absent = sorted(set(analysis.network_modules) - present)
    if absent:
        warnings.warn(  # said once, not for every image
            f"{type(model).__name__} has no part {absent[0]!r}, which the network_modules of its "
            "MethodAnalysis name: its seconds are not split.",
            stacklevel=2,
        )
        return None
    return analysis.network_modules


@torch.no_grad()
def timed_call(compared: ComparedModel, item: Item) -> TimedInstances:
    """One image through a model.

    Args:
        compared (ComparedModel)
        item (dict): what the model takes.

    Returns:
        TimedInstances
    """
    analysis = analysis_of(compared.cfg.MODEL.META_ARCHITECTURE)
    if compared.kind == COMPONENTS:
        return _timed_components(compared, item, analysis)
    tiled = needs_tiles(compared.cfg, (item["height"], item["width"]))
    if analysis.split is not None and analysis.fits(compared.model) and not tiled:
        return _timed_halves(analysis.split(compared.model), item)
    names = network_modules(compared.model, analysis)
    model = with_tiles(compared.cfg, compared.model)
    with NetworkClock(compared.model, names or ()) as clock:
        start = _now()
        instances = model([item])[0]["instances"]
        seconds = _now() - start
    network = None if names is None or analysis.split is not None else clock.seconds
    return TimedInstances(instances.to("cpu"), seconds, network)


def _timed_halves(split: Split, item: Item) -> TimedInstances:
    start = _now()
    maps = split.run_network([item])
    network = _now() - start
    instances = split.finish([item], maps)[0]["instances"]
    return TimedInstances(instances.to("cpu"), _now() - start, network)


def _timed_components(
    compared: ComparedModel, item: Item, analysis: MethodAnalysis
) -> TimedInstances:
    """As :func:`timed_call`, without the clustering that ``internals`` does besides."""
    components = compared.model
    with NetworkClock(components.model, analysis.network_modules or ()) as clock:
        internals = components.model.internals([item])[0]
    start = _now()
    instances = components.instances(item, internals)
    return TimedInstances(instances, clock.seconds + _now() - start, clock.seconds)


def peak_of(compared: ComparedModel, item: Item) -> Optional[int]:
    """Memory that a call adds at its peak.

    On a GPU what torch allocates there; else what the process grows by, measured in a forked copy
    of it that has called the model once before, on one thread.

    Args:
        compared (ComparedModel)
        item (dict): what the model takes.

    Returns:
        int or None: bytes; None where it cannot be measured (not Linux).
    """

    takes = takes_tiles(compared)
    model = with_tiles(compared.cfg, compared.model) if takes else compared.model

    @torch.no_grad()
    def call() -> None:
        model([item])

    if compared.cfg.MODEL.DEVICE != "cpu" and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    if "fork" not in multiprocessing.get_all_start_methods():
        return None
    try:
        return peak_memory(call)
    except (EOFError, OSError):  # the copy ended without an answer: no /proc
        return None
