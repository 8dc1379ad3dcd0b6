"""The figures of the four limits, for JSON, sentences and plots.

Shape shorthand in this module:
    I: images   G: true objects
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from instance_seg_analysis.limits.adapters import SUPPRESSION, Knob
from instance_seg_analysis.limits.images import MeasuredImages
from instance_seg_analysis.limits.measure import Measured
from instance_seg_analysis.limits.scoring import Claims, Counts
from instance_seg_analysis.methods import analysis_of
from instance_seg_common.evaluation.intervals import wilson_interval

# Box IoU with the nearest neighbour: bin i is from edge i to edge i + 1, the last one closed.
IOU_EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
# Objects of the image divided by what the setting allows: bin i ends with edge i + 1, included.
RATIO_EDGES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, math.inf)
Figures = dict[str, Any]
Values = Sequence[Optional[float]]


def figures_of(measured: Measured, images: MeasuredImages) -> Figures:
    """All figures of one model, for JSON.

    Returns:
        dict: ``neighbours``, ``sweep``, ``claims``, ``capacity`` of the limits; ``architecture``,
        ``proposal_based``, ``proposal_limit`` (a config key or None), ``score_threshold``,
        ``note``.
    """
    architecture = measured.adapter.cfg.MODEL.META_ARCHITECTURE
    return {
        "architecture": architecture,
        "proposal_based": analysis_of(architecture).proposal_based,
        "proposal_limit": measured.adapter.proposal_limit,
        "score_threshold": measured.score_threshold,
        "note": measured.adapter.note,
        "neighbours": neighbour_figures(measured, images),
        "sweep": sweep_figures(measured, images),
        "claims": claim_figures(measured.claims),
        "capacity": capacity_figures(measured, images),
    }


def neighbour_curve(
    neighbour_iou: "np.ndarray | Sequence[float]",
    found: "np.ndarray | Sequence[bool]",
    *,
    edges: Sequence[float] = IOU_EDGES,
) -> "list[Figures]":
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


def neighbour_figures(measured: Measured, images: MeasuredImages) -> "dict[str, Figures]":
    """Limit 1 for one model: {rule against duplicates: curve and totals}."""
    iou, figures = np.concatenate([np.zeros(0), *images.neighbour_iou]), {}
    for rule in measured.adapter.suppressions:
        counts = measured.counts[SUPPRESSION, rule]
        found, boxes = (
            np.concatenate([np.zeros(0, dtype=bool), *(getattr(c, name) for c in counts)])
            for name in ("found", "found_boxes")
        )
        predictions = sum(c.predictions for c in counts)
        figures[rule] = {
            "bins": neighbour_curve(iou, found),
            "box_bins": neighbour_curve(iou, boxes),
            "AP": measured.rule_precision.get(rule),
            "recall": float(found.mean()) if len(found) else None,
            "precision": float(found.sum() / predictions) if predictions else None,
            "predictions": predictions,
        }
    return figures


def count_error(counts: Sequence[Counts]) -> Optional[float]:
    """Mean over images of the absolute difference in count; None without images."""
    if not counts:
        return None
    return float(np.mean([abs(c.count - c.true_count) for c in counts]))


def sweep_figures(measured: Measured, images: MeasuredImages) -> Optional[Figures]:
    """Limit 2 for one model: AP and count error by knob value and crowding; None without a knob."""
    knob = measured.adapter.knob
    if knob is None:
        return None
    ap, error = defaultdict(list), defaultdict(list)
    for value in knob.values:
        for name, precision in measured.precision_values[value].items():
            ap[name].append(precision)
        for name, mean in _count_errors(measured.counts[knob.key, value], images).items():
            error[name].append(mean)
    return {
        **_knob_facts(knob), "AP": dict(ap), "count_error": dict(error),
        "AP_spread": {name: spread(values) for name, values in ap.items()},
        "AP_spread_middle": {name: spread(middle(values)) for name, values in ap.items()},
        "count_error_spread": {name: spread(values) for name, values in error.items()},
        "best_value": {name: best_of(knob.values, values) for name, values in ap.items()},
        "lost_by_one_value": lost_by_one_value(ap),
    }  # fmt: skip


def _knob_facts(knob: Knob) -> Figures:
    values = list(knob.values)
    return {"knob": knob.key, "name": knob.name, "config": knob.default, "values": values}


def _count_errors(counts: Sequence[Counts], images: MeasuredImages) -> "dict[str, Optional[float]]":
    """:func:`count_error` of all images and of each group."""
    errors = {"all": count_error(counts)}
    for g, name in enumerate(images.group_names):
        errors[name] = count_error([c for c, group in zip(counts, images.groups) if group == g])
    return errors


def spread(values: Values) -> Optional[float]:
    """Largest minus smallest; None where there is nothing.

    Args:
        values (list): of float or None.
    """
    known = [value for value in values if value is not None]
    return max(known) - min(known) if known else None


def middle(values: Values) -> Values:
    """The middle half of a sweep, without the ends, at which few would put a knob."""
    quarter = len(values) // 4
    return values[quarter : len(values) - quarter]


def best_of(settings: Sequence[float], values: Values) -> Optional[float]:
    """The setting with the largest value, the first of several; None where there is nothing."""
    known = [(value, -i) for i, value in enumerate(values) if value is not None]
    return settings[-max(known)[1]] if known else None


def lost_by_one_value(ap: Mapping[str, Values]) -> "dict[str, float]":
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


def claim_figures(claims: Claims) -> Figures:
    """Limit 3 for one model: shares of the pixels claimed by at least one instance."""
    shares = [n / claims.claimed if claims.claimed else None for n in claims[1:]]
    return {**claims._asdict(), "share_twice": shares[0], "share_disputed": shares[1]}


def capacity_curve(
    counts_by_limit: Mapping[int, Sequence[Counts]], *, edges: Sequence[float] = RATIO_EDGES
) -> "list[Figures]":
    """Recall and count error by the number of objects over the limit, all limits pooled.

    Args:
        counts_by_limit (dict[int, list[Counts]])
        edges (sequence of float): ascending; a bin includes its upper edge.

    Returns:
        list[dict]: ``low``, ``high``, ``images``, ``objects``, ``found``, ``recall``, ``bound``
        (the most that so many instances can find), ``count_error`` and
        ``relative_count_error``, as a share of the true count.
    """
    pairs = [(limit, c) for limit, some in counts_by_limit.items() for c in some if len(c.found)]
    bins = np.searchsorted(edges, [len(c.found) / limit for limit, c in pairs], side="left") - 1
    return [
        {"low": low, "high": high if math.isfinite(high) else None}
        | _pooled([pair for pair, b in zip(pairs, bins) if b == index])
        for index, (low, high) in enumerate(zip(edges, edges[1:]))
    ]


def _pooled(pairs: "Sequence[tuple[int, Counts]]") -> Figures:
    """Figures of (limit, Counts) pairs."""
    objects = sum(len(c.found) for _, c in pairs)
    found = sum(int(c.found.sum()) for _, c in pairs)
    reach = sum(min(limit, len(c.found)) for limit, c in pairs)
    error = count_error([c for _, c in pairs])
    true = sum(c.true_count for _, c in pairs)
    return {
        "images": len(pairs), "objects": objects, "found": found,
        "recall": found / objects if objects else None,
        "bound": reach / objects if objects else None,
        "count_error": error,
        "relative_count_error": error * len(pairs) / true if true else None,
    }  # fmt: skip


def capacity_figures(measured: Measured, images: MeasuredImages) -> "dict[str, Figures]":
    """Limit 4 for one model: {config key: figures by value, and the pooled curve}."""
    figures = {}
    for key, configured in measured.adapter.capacities.items():
        by_value = {v: some for (k, v), some in measured.counts.items() if k == key}
        figures[key] = {
            "config": configured,
            "images_above_config": int((images.objects > configured).sum()),
            "by_value": {str(v): _pooled([(v, c) for c in some]) for v, some in by_value.items()},
            "curve": capacity_curve(by_value),
        }
    return figures
