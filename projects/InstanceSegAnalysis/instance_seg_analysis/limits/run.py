"""The whole measurement of the limits: models in, figures, sentences and ``limits.json`` out."""

import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Optional

from detectron2.config import CfgNode
from torch import nn

from instance_seg_analysis.limits.figures import Figures, figures_of
from instance_seg_analysis.limits.findings import Finding, findings
from instance_seg_analysis.limits.images import (
    CROWDINGS,
    MeasuredImages,
    describe_images,
    evenly_spread,
)
from instance_seg_analysis.limits.measure import measure_model
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.chosen_images import progress
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.engine.setup import warn_of_choice_on_test_set

__all__ = ["CROWDINGS", "LimitsResult", "run", "text"]


class LimitsResult(NamedTuple):
    """dataset, images, objects: on what it was measured; findings: the four; figures: by the name
    of the model, of ``figures.figures_of`` and its ``weights`` and ``seconds``."""

    dataset: str
    images: int
    objects: int
    findings: list[Finding]
    figures: dict[str, Figures]

    @property
    def title(self) -> str:
        """Names the data set and the number of images."""
        return f"{self.dataset}, {self.images} images"


def run(
    cfgs: Mapping[str, CfgNode],
    dataset: str,
    folder: Path,
    *,
    max_images: Optional[int] = None,
    crowding: str = "objects",
) -> LimitsResult:
    """Measure all models, one after the other, and write ``limits.json``.

    Args:
        cfgs (dict[str, CfgNode]): with MODEL.WEIGHTS, by the name of the model; not empty.
        dataset (str): registered.
        folder (Path): made if need be; ``limits.json`` is written after each model, so that
            a failure of a later one loses nothing.
        max_images (int or None): use so many images, evenly spread; None: all.
        crowding (str): of ``CROWDINGS``, by which images are divided into terciles.

    Returns:
        LimitsResult
    """
    records = evenly_spread(get_dataset_dicts(dataset), max_images)
    test_sets = {name for cfg in cfgs.values() for name in cfg.DATASETS.TEST}
    warn_of_choice_on_test_set(test_sets, dataset, "a knob's value")
    images = describe_images(records, crowding=crowding)
    # Weights that cannot be used are reported before anything is measured.
    models = {name: build_predictor(cfg) for name, cfg in cfgs.items()}
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Figures] = {}
    for name, cfg in cfgs.items():
        figures[name] = _figures(name, cfg, models.pop(name), images=images, dataset=dataset)
        objects = int(images.objects.sum())
        result = LimitsResult(
            dataset, len(records), objects, findings=findings(figures), figures=figures
        )
        _write_json(result, images, folder / "limits.json", crowding=crowding)
    return result


def _figures(
    name: str, cfg: CfgNode, model: nn.Module, *, images: MeasuredImages, dataset: str
) -> Figures:
    start = time.perf_counter()
    measured = measure_model(
        cfg, model, images, dataset=dataset, progress=lambda records: progress(records, name)
    )
    figures = figures_of(measured, images)
    seconds = round(time.perf_counter() - start, 1)
    return {**figures, "weights": cfg.MODEL.WEIGHTS, "seconds": seconds}


def _write_json(result: LimitsResult, images: MeasuredImages, path: Path, *, crowding: str) -> None:
    facts = {
        "dataset": result.dataset, "images": result.images, "objects": result.objects,
        "crowding": crowding, "groups": images.group_names, "peak_memory_mib": peak_memory_mib(),
        "findings": [finding._asdict() for finding in result.findings], "models": result.figures,
    }  # fmt: skip
    path.write_text(json.dumps(facts, indent=1))


def peak_memory_mib() -> int:
    """The most memory that this process has had, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def text(result: LimitsResult) -> str:
    """What there is to print: the findings, and what was left out."""
    sentences = [finding.sentence for finding in result.findings]
    notes = [f"{name}: {f['note']}" for name, f in result.figures.items() if f["note"]]
    lines = [f"- {line}" for line in (*sentences, *notes)]
    return "\n".join([f"{result.title}, {result.objects} objects", "", *lines])
