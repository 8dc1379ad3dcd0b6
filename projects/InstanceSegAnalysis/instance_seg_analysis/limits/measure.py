"""The four limits of proposal-based models, measured for every way on one data set.

1. Objects that share a box with a neighbour. 2. The NMS threshold, beside the knob of each other
way. 3. Pixels claimed by several instances. 4. More objects than proposals, steps or instances.

Shape shorthand in this module:
    I: images   G: true objects of an image   N: predicted instances   H, W: image
"""

import contextlib
import copy
import io
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou

from instance_seg_analysis.internals.proposals_drawing import ground_truth_boxes
from instance_seg_analysis.limits.adapters import SUPPRESSION, adapt
from instance_seg_analysis.limits.neighbours import (
    encoded,
    encoded_iou,
    encoded_objects,
    found_objects,
    match_by_score,
    neighbour_box_iou,
)
from instance_seg_common.data.loader import build_test_mapper
from instance_seg_common.evaluation.coco import InstanceCOCOEvaluator
from instance_seg_common.evaluation.ground_truth import GroundTruth
from instance_seg_common.evaluation.intervals import wilson_interval
from instance_seg_common.evaluation.label_map import predicted_label_map
from instance_seg_common.evaluation.restriction import restrict_instances, supplied_foreground

# Box IoU with the nearest neighbour: bin i is from edge i to edge i + 1, the last one closed.
IOU_EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
# Objects of the image divided by what the setting allows: bin i ends with edge i + 1, included.
RATIO_EDGES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, math.inf)
# Of the most crowded image's number of objects: what a capacity is set to.
CAPACITY_FACTORS = (0.125, 0.25, 0.5, 0.75, 1, 2, 4)
TIE = 1e-6  # of box IoU: a detection fits objects of one and the same box alike
GROUPS = ("few", "middle", "many")
CROWDINGS = {"objects": "objects", "overlap": "mean box IoU with the nearest neighbour"}


class Outcome(NamedTuple):
    """One image under one setting: (G,) bool found by mask, (G,) bool found by box; predictions
    above the score threshold; objects in the predicted and in the true label map."""

    found: np.ndarray
    found_boxes: np.ndarray
    predictions: int
    count: int
    true_count: int


class Claims(NamedTuple):
    """Pixels claimed by one or more instances, by two or more, and by instances that stand for
    different objects."""

    claimed: int
    twice: int
    disputed: int

    def __add__(self, other):
        return Claims(*(a + b for a, b in zip(self, other)))


@dataclass
class Measured:
    """What was measured of one way.

    Attributes:
        way (PlainWay): its knob, rules and limits; without its model.
        outcomes (dict): (key, value) of a setting -> list of I Outcomes.
        precision_values (dict): knob value -> {group or "all": AP in percent}.
        rule_precision (dict): rule against duplicates -> AP of all images in percent, to which a
            rule's scores matter and no threshold does; without "no NMS".
        claims (Claims): of all images.
        score_threshold (float): predictions below it did not count, except for AP.
    """

    way: object
    score_threshold: float
    outcomes: dict = field(default_factory=lambda: defaultdict(list))
    precision_values: dict = field(default_factory=dict)
    rule_precision: dict = field(default_factory=dict)
    claims: Claims = Claims(0, 0, 0)


class Scene(NamedTuple):
    """The images of the measurement: records, (I,) objects each, neighbours' box IoU (G,) each,
    (I,) group of crowding and the groups' names."""

    records: list
    objects: np.ndarray
    neighbour_iou: list
    groups: np.ndarray
    group_names: tuple


def scene_of(records, crowding="objects"):
    """Facts about the images that no model changes.

    Args:
        records (list[dict]): data set dicts with annotations.
        crowding (str): of ``CROWDINGS``, by which images are divided into terciles.

    Returns:
        Scene
    """
    iou = [neighbour_box_iou(ground_truth_boxes(record)) for record in records]
    objects = np.array([len(image) for image in iou])
    means = np.array([image.mean() if len(image) else 0.0 for image in iou])
    values = objects if crowding == "objects" else means
    groups = terciles(values)
    names = tuple(_group_name(name, values[groups == g]) for g, name in enumerate(GROUPS))
    return Scene(records, objects, iou, groups, names)


def _group_name(name, values):
    if not len(values):
        return name
    low, high = (f"{value:.3g}" for value in (values.min(), values.max()))
    return f"{name} ({low})" if low == high else f"{name} ({low} to {high})"


def terciles(values):
    """The third of the values that each belongs to; equal values stay together.

    Args:
        values (ndarray): (I,) numbers.

    Returns:
        ndarray: (I,) int64: 0, 1 or 2; with many equal values a third can be empty.
    """
    values = np.asarray(values)
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    return np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values, side="left")


def evenly_spread(records, number=None):
    """So many of the records, evenly spread over the list; all of them for None."""
    number = min(number or len(records), len(records))
    picked = np.unique(np.linspace(0, len(records) - 1, number).astype(int))
    return [records[index] for index in picked]


def capacity_values(most_objects, configured):
    """What a limit is set to, so that images have fewer objects than it and more.

    Args:
        most_objects (int): of an image.
        configured (int): the limit in the config; no more is tried.

    Returns:
        list[int]: ascending, the configured one last.
    """
    tried = {math.ceil(most_objects * factor) for factor in CAPACITY_FACTORS}
    return sorted({n for n in tried if 0 < n < configured} | {configured})


def settings_of(way, most_objects):
    """Everything that is tried on each image.

    Args:
        way (PlainWay)
        most_objects (int): of an image of the data set.

    Returns:
        list[tuple]: (key, value)
    """
    settings = [(SUPPRESSION, name) for name in way.suppressions]
    if way.knob:
        settings += [(way.knob.key, value) for value in way.knob.values]
    for key, configured in way.capacities.items():
        settings += [(key, value) for value in capacity_values(most_objects, configured)]
    return settings


@torch.no_grad()
def measure_way(cfg, model, dataset_name, scene, progress=iter):
    """Run a model once on each image and try every setting on what it gave.

    Args:
        cfg (CfgNode): with ``TEST.LABEL_MAP_SCORE_THRESHOLD`` and ``LABEL_MAP_MIN_AREA``.
        model (nn.Module): in evaluation mode.
        dataset_name (str): registered, of which the scene's records are.
        scene (Scene)
        progress (callable): wraps the records.

    Returns:
        Measured
    """
    way, mapper = adapt(cfg, model), build_test_mapper(cfg)
    measured = Measured(way, cfg.TEST.LABEL_MAP_SCORE_THRESHOLD)
    judge = Judge(cfg, GroundTruth(dataset_name))
    settings = settings_of(way, int(scene.objects.max(initial=1)))
    rules = [(SUPPRESSION, rule) for rule in way.suppressions if rule not in ("", "no NMS")]
    swept = [(way.knob.key, value) for value in way.knob.values] if way.knob else []
    evaluators = _evaluators(cfg, dataset_name, rules + swept)
    for record in progress(scene.records):
        item = mapper(record)
        state = way.run(item)
        for key, value in settings:
            instances = judge.cut(record, way.predict(state, {key: value}))
            measured.outcomes[key, value].append(judge(record, instances))
            if (key, value) in evaluators:
                evaluators[key, value].process([item], [{"instances": instances}])
        claimants = judge.cut(record, way.claims(state))
        measured.claims += judge.claims(record, claimants)
    for key, value in swept:
        measured.precision_values[value] = _precision_by_group(evaluators[key, value], scene)
    ids = [record["image_id"] for record in scene.records]
    for key, rule in rules:
        measured.rule_precision[rule] = evaluators[key, rule].precision(ids)
    way.model = None
    return measured


class Judge:
    """Compares predictions with the ground truth of their image.

    Args:
        cfg (CfgNode): ``TEST.*``.
        ground_truth (GroundTruth)
    """

    def __init__(self, cfg, ground_truth):
        self.cfg = cfg
        self.ground_truth = ground_truth
        self._truth = None  # of the last image, which all settings share

    def _truth_of(self, record):
        """Label map, ignored region, encoded objects and their boxes of an image."""
        if self._truth is None or self._truth[0] != record["image_id"]:
            facts = self.ground_truth(record["image_id"])
            facts = *facts, encoded_objects(record), ground_truth_boxes(record)
            self._truth = record["image_id"], facts
        return self._truth[1]

    def cut(self, record, instances):
        """Only what lies in the supplied foreground, where the config wants that."""
        if not self.cfg.TEST.FOREGROUND_GIVEN:
            return instances
        return restrict_instances(instances, supplied_foreground(record))

    def __call__(self, record, instances):
        """The Outcome of one image."""
        threshold, min_area = self._least()
        truth, ignore, objects, gt_boxes = self._truth_of(record)
        found, predictions = found_objects(instances, record, threshold, objects)
        labels = predicted_label_map(
            instances, truth, ignore, score_threshold=threshold, min_area=min_area
        )
        boxes = found_boxes(instances, gt_boxes, threshold)
        return Outcome(found, boxes, predictions, int(labels.max()), int(truth.max()))

    def claims(self, record, instances):
        """The Claims of one image."""
        masks = instances.pred_masks[instances.scores >= self._least()[0]].numpy()
        objects = self._truth_of(record)[2]
        return pixel_claims(masks, stands_for(encoded_iou(encoded(masks), objects)))

    def _least(self):
        return self.cfg.TEST.LABEL_MAP_SCORE_THRESHOLD, self.cfg.TEST.LABEL_MAP_MIN_AREA


def found_boxes(instances, gt_boxes, score_threshold, iou_threshold=0.5):
    """The objects whose box was found, whatever the mask.

    A detection counts for the object that its box fits best, so that a second one of an object does
    not pass for the neighbour that shares the box.

    Args:
        instances (Instances): ``pred_boxes`` (N, 4) XYXY in pixels, ``scores`` (N,).
        gt_boxes (array_like or Tensor): (G, 4) XYXY in the same pixels.
        score_threshold (float): instances with a lower score are left out.
        iou_threshold (float): a pair may match where its box IoU is greater or equal.

    Returns:
        ndarray: (G,) bool.
    """
    instances = instances[instances.scores >= score_threshold]
    iou = pairwise_iou(
        Boxes(instances.pred_boxes.tensor.float()),
        Boxes(torch.as_tensor(gt_boxes, dtype=torch.float32)),
    )
    iou = iou.numpy()
    fits = iou >= iou.max(axis=1, keepdims=True, initial=0) - TIE
    matches = match_by_score(iou * fits, instances.scores.numpy(), iou_threshold)
    found = np.zeros(len(gt_boxes), dtype=bool)
    found[matches[matches >= 0]] = True
    return found


def stands_for(iou):
    """The object that each prediction overlaps best.

    Args:
        iou (ndarray): (N, G) float.

    Returns:
        ndarray: (N,) int64, -1 where it overlaps none.
    """
    if not iou.shape[1]:
        return np.full(len(iou), -1, dtype=np.int64)
    return np.where(iou.max(axis=1, initial=0) > 0, iou.argmax(axis=1), -1)


def pixel_claims(masks, owners):
    """Count pixels that several instances claim.

    Args:
        masks (ndarray): (N, H, W) bool, free to overlap.
        owners (ndarray): (N,) int64, the object each instance stands for, of
            :func:`stands_for`; two that stand for the same object do not disagree.

    Returns:
        Claims
    """
    if not len(masks):
        return Claims(0, 0, 0)
    number = np.zeros(masks.shape[1:], dtype=np.int64)
    low = np.full(masks.shape[1:], np.iinfo(np.int64).max)
    high = np.full(masks.shape[1:], -2)
    for mask, owner in zip(masks, owners):
        number += mask
        low[mask] = np.minimum(low[mask], owner)
        high[mask] = np.maximum(high[mask], owner)
    twice = number > 1
    return Claims(int((number > 0).sum()), int(twice.sum()), int((twice & (low != high)).sum()))


class _MaskAP(InstanceCOCOEvaluator):
    """COCO's AP of masks alone, for some of the images at a time."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._tasks = ("segm",)
        self.reset()

    def for_another_setting(self):
        """An evaluator of the same ground truth with predictions of its own."""
        other = copy.copy(self)
        other.reset()
        return other

    def precision(self, image_ids):
        """AP in percent over these images; None where there is nothing to find."""
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its table
            value = self.evaluate(img_ids=image_ids)["segm"]["AP"]
        return None if math.isnan(value) else float(value)


def _evaluators(cfg, dataset_name, settings):
    """{setting: _MaskAP}"""
    if not settings:
        return {}
    first = _MaskAP(
        dataset_name, max_dets_per_image=cfg.TEST.DETECTIONS_PER_IMAGE, distributed=False
    )
    return {setting: first.for_another_setting() for setting in settings}


def _precision_by_group(evaluator, scene):
    """{"all" or name of a group: AP in percent or None}"""
    ids = np.array([record["image_id"] for record in scene.records], dtype=object)
    chosen = {"all": ids}
    chosen |= {name: ids[scene.groups == g] for g, name in enumerate(scene.group_names)}
    return {
        name: evaluator.precision(list(some)) if len(some) else None
        for name, some in chosen.items()
    }


# ---- figures ------------------------------------------------------------------------------------


def neighbour_curve(neighbour_iou, found, edges=IOU_EDGES):
    """Recall by box IoU with the nearest neighbour.

    Args:
        neighbour_iou (ndarray): float in [0, 1], of the objects of all images.
        found (ndarray): bool, of the same objects.
        edges (sequence of float): ascending; the last bin is closed.

    Returns:
        list[dict]: ``low``, ``high``, ``objects``, ``found``, ``recall`` (None without objects) and
        ``interval``, where the recall is with a probability of 95 %.
    """
    neighbour_iou, found = np.asarray(neighbour_iou), np.asarray(found, dtype=bool)
    bins = np.clip(np.searchsorted(edges, neighbour_iou, side="right") - 1, 0, len(edges) - 2)
    curve = []
    for index, (low, high) in enumerate(zip(edges, edges[1:])):
        objects, hits = int((bins == index).sum()), int(found[bins == index].sum())
        curve.append({
            "low": low, "high": high, "objects": objects, "found": hits,
            "recall": hits / objects if objects else None,
            "interval": wilson_interval(hits, objects),
        })  # fmt: skip
    return curve


def neighbour_figures(measured, scene):
    """Limit 1 for one way: {rule against duplicates: curve and totals}."""
    iou, figures = np.concatenate([np.zeros(0), *scene.neighbour_iou]), {}
    for rule in measured.way.suppressions:
        outcomes = measured.outcomes[SUPPRESSION, rule]
        found, boxes = (
            np.concatenate([np.zeros(0, dtype=bool), *(getattr(o, name) for o in outcomes)])
            for name in ("found", "found_boxes")
        )
        predictions = sum(o.predictions for o in outcomes)
        figures[rule] = {
            "bins": neighbour_curve(iou, found),
            "box_bins": neighbour_curve(iou, boxes),
            "AP": measured.rule_precision.get(rule),
            "recall": float(found.mean()) if len(found) else None,
            "precision": float(found.sum() / predictions) if predictions else None,
            "predictions": predictions,
        }
    return figures


def count_error(outcomes):
    """Mean over images of the absolute difference in count; None without images."""
    if not outcomes:
        return None
    return float(np.mean([abs(o.count - o.true_count) for o in outcomes]))


def sweep_figures(measured, scene):
    """Limit 2 for one way: AP and count error by knob value and crowding; None without a knob."""
    knob = measured.way.knob
    if knob is None:
        return None
    ap, error = defaultdict(list), defaultdict(list)
    for value in knob.values:
        outcomes = measured.outcomes[knob.key, value]
        for name, precision in measured.precision_values[value].items():
            ap[name].append(precision)
        error["all"].append(count_error(outcomes))
        for g, name in enumerate(scene.group_names):
            some = [o for o, group in zip(outcomes, scene.groups) if group == g]
            error[name].append(count_error(some))
    return {
        "knob": knob.key, "name": knob.name, "config": knob.default, "values": list(knob.values),
        "AP": dict(ap), "count_error": dict(error),
        "AP_spread": {name: spread(values) for name, values in ap.items()},
        "AP_spread_middle": {name: spread(middle(values)) for name, values in ap.items()},
        "count_error_spread": {name: spread(values) for name, values in error.items()},
        "best_value": {name: best_of(knob.values, values) for name, values in ap.items()},
        "lost_by_one_value": lost_by_one_value(ap),
    }  # fmt: skip


def spread(values):
    """Largest minus smallest; None where there is nothing.

    Args:
        values (list): of float or None.
    """
    known = [value for value in values if value is not None]
    return max(known) - min(known) if known else None


def middle(values):
    """The middle half of a sweep, without the ends, at which few would put a knob."""
    cut = len(values) // 4
    return values[cut : len(values) - cut]


def best_of(settings, values):
    """The setting with the largest value, the first of several; None where there is nothing."""
    known = [(value, -i) for i, value in enumerate(values) if value is not None]
    return settings[-max(known)[1]] if known else None


def lost_by_one_value(ap):
    """AP that groups lose because one knob value serves all of them.

    Args:
        ap (dict[str, list]): by group and "all", AP by knob value.

    Returns:
        dict[str, float]: by group, AP with the best value of its own minus AP with the value that
        is best for all.
    """
    if not ap or all(value is None for value in ap["all"]):
        return {}
    shared = best_of(range(len(ap["all"])), ap["all"])
    groups = {name: values for name, values in ap.items() if name != "all"}
    return {
        name: max(v for v in values if v is not None) - values[shared]
        for name, values in groups.items()
        if values[shared] is not None
    }


def claim_figures(claims):
    """Limit 3 for one way: shares of the pixels claimed by at least one instance."""
    shares = [n / claims.claimed if claims.claimed else None for n in claims[1:]]
    return {**claims._asdict(), "share_twice": shares[0], "share_disputed": shares[1]}


def capacity_curve(outcomes_by_limit, edges=RATIO_EDGES):
    """Recall and count error by the number of objects over the limit, all limits pooled.

    Args:
        outcomes_by_limit (dict[int, list[Outcome]])
        edges (sequence of float): ascending; a bin includes its upper edge.

    Returns:
        list[dict]: ``low``, ``high``, ``images``, ``objects``, ``found``, ``recall``, ``bound``
        (the most that so many instances can find), ``count_error`` and
        ``relative_count_error``, as a share of the true count.
    """
    pairs = [(limit, o) for limit, some in outcomes_by_limit.items() for o in some if len(o.found)]
    bins = np.searchsorted(edges, [len(o.found) / limit for limit, o in pairs], side="left") - 1
    return [
        {"low": low, "high": high if math.isfinite(high) else None}
        | _pooled([pair for pair, b in zip(pairs, bins) if b == index])
        for index, (low, high) in enumerate(zip(edges, edges[1:]))
    ]


def _pooled(pairs):
    """Figures of (limit, Outcome) pairs."""
    objects = sum(len(o.found) for _, o in pairs)
    found = sum(int(o.found.sum()) for _, o in pairs)
    reach = sum(min(limit, len(o.found)) for limit, o in pairs)
    error = count_error([o for _, o in pairs])
    true = sum(o.true_count for _, o in pairs)
    return {
        "images": len(pairs), "objects": objects, "found": found,
        "recall": found / objects if objects else None,
        "bound": reach / objects if objects else None,
        "count_error": error,
        "relative_count_error": error * len(pairs) / true if true else None,
    }  # fmt: skip


def capacity_figures(measured, scene):
    """Limit 4 for one way: {config key: figures by value, and the pooled curve}."""
    figures = {}
    for key, configured in measured.way.capacities.items():
        by_value = {v: some for (k, v), some in measured.outcomes.items() if k == key}
        figures[key] = {
            "config": configured,
            "images_above_config": int((scene.objects > configured).sum()),
            "by_value": {str(v): _pooled([(v, o) for o in some]) for v, some in by_value.items()},
            "curve": capacity_curve(by_value),
        }
    return figures


def figures_of(measured, scene):
    """All figures of one way, for JSON.

    Args:
        measured (Measured)
        scene (Scene)

    Returns:
        dict: ``neighbours``, ``sweep``, ``claims``, ``capacity``, ``score_threshold``, ``note``.
    """
    return {
        "architecture": measured.way.cfg.MODEL.META_ARCHITECTURE,
        "score_threshold": measured.score_threshold,
        "note": measured.way.note,
        "neighbours": neighbour_figures(measured, scene),
        "sweep": sweep_figures(measured, scene),
        "claims": claim_figures(measured.claims),
        "capacity": capacity_figures(measured, scene),
    }
