"""The four limits of proposal-based models, measured for every model on one data set.

1. Objects that share a box with a neighbour. 2. The NMS threshold, beside the knob of each other
method. 3. Pixels claimed by several instances. 4. More objects than proposals, steps or instances.

Shape shorthand in this module:
    I: images
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from instance_seg_analysis.limits.adapters import SUPPRESSION, MethodAdapter
from instance_seg_analysis.limits.images import MeasuredImages, Record
from instance_seg_analysis.limits.precision import ByGroup, MaskAP
from instance_seg_analysis.limits.scoring import Claims, Counts, ImageScorer
from instance_seg_analysis.methods import adapt
from instance_seg_common.data.mapper import build_test_mapper
from instance_seg_common.evaluation.ground_truth import GroundTruth

# Of the most crowded image's number of objects: what a capacity is set to.
CAPACITY_FACTORS = (0.125, 0.25, 0.5, 0.75, 1, 2, 4)
OneSetting = tuple[str, Any]  # key, value


@dataclass
class Measured:
    """What was measured of one model.

    Attributes:
        adapter: with its knob, rules and limits.
        score_threshold: predictions below it did not count, except for AP.
        counts: by setting, of each of the I images.
        precision_values: AP in percent, by knob value and by group or "all".
        rule_precision: AP of all images in percent by rule against duplicates, to which a rule's
            scores matter and no threshold does; without "no NMS".
        claims: of all images.
    """

    adapter: MethodAdapter
    score_threshold: float
    counts: dict[OneSetting, list[Counts]] = field(default_factory=lambda: defaultdict(list))
    precision_values: dict[float, ByGroup] = field(default_factory=dict)
    rule_precision: ByGroup = field(default_factory=dict)
    claims: Claims = Claims(0, 0, 0)


def capacity_values(most_objects: int, configured: int) -> "list[int]":
    """What a limit is set to, so that images have fewer objects than it and more.

    Args:
        most_objects (int): of an image.
        configured (int): the limit in the config; no more is tried.

    Returns:
        list[int]: ascending, the configured one last.
    """
    tried = {math.ceil(most_objects * factor) for factor in CAPACITY_FACTORS}
    return sorted({n for n in tried if 0 < n < configured} | {configured})


def settings_of(adapter: MethodAdapter, most_objects: int) -> "list[OneSetting]":
    """Everything that is tried on each image.

    Args:
        adapter (MethodAdapter)
        most_objects (int): of an image of the data set.

    Returns:
        list[tuple]: (key, value)
    """
    settings: list[OneSetting] = [(SUPPRESSION, name) for name in adapter.suppressions]
    settings += knob_settings(adapter)
    for key, configured in adapter.capacities.items():
        settings += [(key, value) for value in capacity_values(most_objects, configured)]
    return settings


def knob_settings(adapter: MethodAdapter) -> "list[OneSetting]":
    """The values of a method's knob; none without one."""
    knob = adapter.knob
    return [(knob.key, value) for value in knob.values] if knob else []


@torch.no_grad()
def measure_model(
    cfg: CfgNode,
    model: nn.Module,
    images: MeasuredImages,
    *,
    dataset: str,
    progress: "Callable[[Iterable[Record]], Iterable[Record]]" = iter,
) -> Measured:
    """Run a model once on each image and try every setting on what it gave.

    Args:
        cfg (CfgNode): with ``TEST.LABEL_MAP_SCORE_THRESHOLD`` and ``LABEL_MAP_MIN_AREA``.
        model (nn.Module): in evaluation mode.
        images (MeasuredImages)
        dataset (str): registered, of which the images are.
        progress (callable): wraps the records.

    Returns:
        Measured
    """
    adapter, mapper = adapt(cfg, model), build_test_mapper(cfg)
    scorer = ImageScorer(cfg, GroundTruth(dataset))
    measured = Measured(adapter, scorer.score_threshold)
    settings = settings_of(adapter, int(images.objects.max(initial=1)))
    evaluators = _evaluators(dataset, adapter)
    for record in progress(images.records):
        item = mapper(record)
        state = adapter.run(item)
        for key, value in settings:
            instances = scorer.evaluated(record, adapter.predict(state, {key: value}))
            measured.counts[key, value].append(scorer.counts(record, instances))
            if (key, value) in evaluators:
                evaluators[key, value].process([item], [{"instances": instances}])
        claimants = scorer.evaluated(record, adapter.claims(state))
        measured.claims += scorer.claims(record, claimants)
    _measure_precision(measured, evaluators, images)
    return measured


def _evaluators(dataset: str, adapter: MethodAdapter) -> "dict[OneSetting, MaskAP]":
    """An evaluator for each setting whose AP is asked for."""
    rules = [(SUPPRESSION, rule) for rule in adapter.suppressions if rule not in ("", "no NMS")]
    settings = rules + knob_settings(adapter)
    if not settings:
        return {}
    first = MaskAP(dataset)
    return first.for_other_settings(settings)


def _measure_precision(
    measured: Measured, evaluators: "dict[OneSetting, MaskAP]", images: MeasuredImages
) -> None:
    ids = [record["image_id"] for record in images.records]
    for (key, value), evaluator in evaluators.items():
        if key == SUPPRESSION:
            measured.rule_precision[value] = evaluator.precision(ids)
        else:
            measured.precision_values[value] = evaluator.precision_by_group(images)
