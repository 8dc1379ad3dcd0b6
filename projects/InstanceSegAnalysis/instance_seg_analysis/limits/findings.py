"""Which of the claims about proposal-based models hold on a data set, in sentences.

A claim is held against the figures of ``figures.figures_of``. It can fail, and where there are too
few objects to tell, that is what is said.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from instance_seg_analysis.limits.figures import Figures
from instance_seg_common.evaluation.intervals import wilson_interval

APART, TOGETHER = 0.3, 0.7  # box IoU: no neighbour worth the name; nearly one box
LEAST_RECALL = 0.2  # of a detector with ample places; below it, there is too little to lose
ENOUGH_OBJECTS = 20  # in a bin, for a verdict
NOTABLE = 0.05  # difference in recall that counts
NOTABLE_AP = 1.0  # percent, the same
LEAST_AP = 5.0  # percent; below it, no sweep and no limit tells anything
NOTABLE_SHARE = 0.01  # of the claimed pixels
FiguresByModel = Mapping[str, Figures]
Verdict = tuple[Optional[bool], str]  # whether a claim holds, facts
VERDICTS = {True: "holds", False: "does not hold", None: "cannot be told"}


class Finding(NamedTuple):
    """limit: 1 to 4; claim; holds: None where the data do not tell; sentence."""

    limit: int
    claim: str
    holds: Optional[bool]
    sentence: str


def findings(figures: FiguresByModel) -> "list[Finding]":
    """The four findings.

    Args:
        figures (dict[str, dict]): of ``figures_of`` by the name of the model, of any architectures.

    Returns:
        list[Finding]: four.
    """
    detector = next((name for name, f in figures.items() if f["proposal_based"]), None)
    if detector is None:
        nothing = "no proposal-based model, such as Mask R-CNN, was given"
        return [
            _finding(n, claim, holds=None, facts=nothing) for n, claim in enumerate(CLAIMS, start=1)
        ]
    rules = (shared_boxes, threshold, double_claims, capacity)
    verdicts = [rule(figures, detector) for rule in rules]
    return [
        _finding(n, claim, holds=holds, facts=facts)
        for n, (claim, (holds, facts)) in enumerate(zip(CLAIMS, verdicts), start=1)
    ]


CLAIMS = (
    "box NMS loses objects that share a box with a neighbour",
    "the result hangs on the NMS threshold more than other methods' on their settings",
    "instances of a proposal-based model claim the same pixels, more than other methods' do",
    "more objects than proposals are not found",
)


def _finding(limit: int, claim: str, *, holds: Optional[bool], facts: str) -> Finding:
    return Finding(limit, claim, holds, f"Limit {limit} ({claim}) {VERDICTS[holds]}: {facts}.")


class PartRecall(NamedTuple):
    """recall: None without objects; objects: how many; interval: of the recall, 95 %."""

    recall: Optional[float]
    objects: int
    interval: "list[float] | None"


def part_of(curve: Sequence[Figures], *, low: float = 0.0, high: float = 1.0) -> PartRecall:
    """The bins of a neighbour curve within bounds, as one."""
    bins = [b for b in curve if b["low"] >= low and b["high"] <= high]
    objects, found = sum(b["objects"] for b in bins), sum(b["found"] for b in bins)
    recall = found / objects if objects else None
    return PartRecall(recall, objects, wilson_interval(found, objects))


def shared_boxes(figures: FiguresByModel, detector: str) -> Verdict:
    """Limit 1."""
    rules = figures[detector]["neighbours"]
    curve = next(iter(rules.values()))["bins"]
    apart, together = part_of(curve, high=APART).objects, part_of(curve, low=TOGETHER).objects
    facts = (
        f"recall of masks at box IoU below {APART:g} with the nearest neighbour ({apart} objects) "
        f"and from {TOGETHER:g} on ({together}), and of boxes in brackets: "
        + "; ".join(_recalls(figures))
    )
    if "no NMS" not in rules:
        return None, f"{detector} could not be run without NMS; {facts}"
    if min(apart, together) < ENOUGH_OBJECTS:
        return None, f"too few objects for a verdict; {facts}"
    of_masks, of_boxes = (loses(rules, kind) for kind in ("bins", "box_bins"))
    if of_boxes and not of_masks:
        facts = f"for boxes only, the masks are not found without NMS, either; {facts}"
    return of_masks or of_boxes, facts


def loses(rules: FiguresByModel, kind: str) -> bool:
    """Whether recall falls where boxes coincide, and without NMS would clearly fall less.

    Args:
        rules (dict): of ``figures.neighbour_figures``, with "box NMS" and "no NMS".
        kind (str): "bins" for masks, "box_bins" for boxes.

    Returns:
        bool
    """
    curve = rules["box NMS"][kind]
    apart, together = part_of(curve, high=APART), part_of(curve, low=TOGETHER)
    free = rules["no NMS"][kind]
    apart_free, together_free = part_of(free, high=APART), part_of(free, low=TOGETHER)
    falls = apart.recall - together.recall > NOTABLE and apart.interval[0] > together.interval[1]
    gain = together_free.recall - together.recall
    # All that NMS removes is found again without it, wherever it is: more of it must be here.
    more = gain - max(apart_free.recall - apart.recall, 0.0) > NOTABLE
    return falls and more and together_free.interval[0] > together.interval[1]


def _recalls(figures: FiguresByModel) -> Iterator[str]:
    """A text for each model and rule."""
    for model, figure in figures.items():
        for rule, recalls in figure["neighbours"].items():
            apart, together, box_apart, box_together = (
                _two(part_of(recalls[kind], **bounds).recall)
                for kind in ("bins", "box_bins")
                for bounds in ({"high": APART}, {"low": TOGETHER})
            )
            name = f"{model}, {rule}" if rule else model
            if recalls.get("AP") is not None:
                name += f" (AP {_one(recalls['AP'])})"
            yield f"{name} {apart} and {together} ({box_apart} and {box_together})"


def threshold(figures: FiguresByModel, detector: str) -> Verdict:
    """Limit 2."""
    sweeps = {model: f["sweep"] for model, f in figures.items() if f["sweep"]}
    spreads = {model: sweep["AP_spread"]["all"] for model, sweep in sweeps.items()}
    if spreads.get(detector) is None:
        return None, f"no sweep of {detector}'s NMS threshold"
    facts = "; ".join([*(_moves(*pair) for pair in sweeps.items()), _best_values(sweeps[detector])])
    best = _best(sweeps[detector])
    if best < LEAST_AP:
        return None, f"{detector} has an AP of {_one(best)} at best, too little to lose; {facts}"
    return most_sensitive(sweeps, detector), facts


def _moves(model: str, sweep: Figures) -> str:
    """How far a knob moves the result of a model."""
    return (
        f"{model}'s {sweep['name']} from {sweep['values'][0]:g} to {sweep['values'][-1]:g} moves "
        f"AP by {_one(sweep['AP_spread']['all'])} "
        f"({_one(sweep['AP_spread_middle']['all'])} in its middle half) "
        f"and the count error by {_two(sweep['count_error_spread']['all'])}"
    )


def _best_values(sweep: Figures) -> str:
    """What NMS threshold is best for each group, and what one for all costs."""
    lost = max(sweep["lost_by_one_value"].values(), default=0.0)
    bests = {name: v for name, v in sweep["best_value"].items() if name != "all"}
    return (
        f"the best NMS threshold is {', '.join(f'{_one(v)} for {n}' for n, v in bests.items())}, "
        f"and one for all costs a group at most {_one(lost)} AP"
    )


def _best(sweep: Figures) -> float:
    """The highest AP of all images; 0 without any."""
    return max((v for v in sweep["AP"]["all"] if v is not None), default=0.0)


def most_sensitive(sweeps: FiguresByModel, model: str) -> Optional[bool]:
    """Whether AP moves most with one model's knob, over the sweep and over its middle half.

    Args:
        sweeps (dict[str, dict]): of ``figures.sweep_figures`` by the name of the model.
        model (str): one of them.

    Returns:
        bool or None: None without another model that has any AP to lose.
    """
    verdicts = []
    others = [s for name, s in sweeps.items() if name != model and _best(s) >= LEAST_AP]
    for key in ("AP_spread", "AP_spread_middle"):
        spreads = [sweep[key]["all"] for sweep in others if sweep[key]["all"] is not None]
        own = sweeps[model][key]["all"]
        verdicts.append(own - max(spreads) > NOTABLE_AP if spreads else None)
    return None if None in verdicts else all(verdicts)


def double_claims(figures: FiguresByModel, detector: str) -> Verdict:
    """Limit 3."""
    claims = {model: f["claims"] for model, f in figures.items()}
    facts = (
        "of the pixels that a model claims, two or more instances claim, and for different "
        "objects: "
    ) + "; ".join(
        f"{model} {_percent(c['share_twice'])}, {_percent(c['share_disputed'])}"
        for model, c in claims.items()
    )
    shares = {model: c["share_twice"] for model, c in claims.items()}
    if shares[detector] is None:
        return None, facts
    sweep = figures[detector]["sweep"]
    if sweep and _best(sweep) < LEAST_AP:
        return None, f"{detector} has an AP of {_one(_best(sweep))} at best; {facts}"
    others = [s for model, s in shares.items() if s is not None and model != detector]
    return shares[detector] > max([NOTABLE_SHARE, *others]), facts


def capacity(figures: FiguresByModel, detector: str) -> Verdict:
    """Limit 4."""
    rows = [
        _capacity_row(model, key, limit)
        for model, figure in figures.items()
        for key, limit in figure["capacity"].items()
    ]
    facts = (
        "limits lowered step by step from the config's; recall with 4 times as many places as "
        "objects or more, with 1 to 2 times, with fewer: "
    )
    proposals = figures[detector]["capacity"].get(figures[detector]["proposal_limit"])
    return proposals and loses_beyond(proposals["curve"]), facts + "; ".join(rows)


def _capacity_row(model: str, key: str, limit: Figures) -> str:
    ample, scarce, over = (pooled(limit["curve"], *bounds) for bounds in _REGIONS)
    return (
        f"{model} ({key.rsplit('.', 1)[-1]} {limit['config']}, which "
        f"{limit['images_above_config']} images exceed) {_two(ample.recall)}, "
        f"{_two(scarce.recall)} and {_two(over.recall)}, where {_two(over.bound)} is possible"
    )


def loses_beyond(curve: Sequence[Figures]) -> Optional[bool]:
    """Whether recall falls where there are more objects than the limit allows.

    Args:
        curve (list[dict]): of ``figures.capacity_curve``.

    Returns:
        bool or None: None with too few objects, or where too few are found with ample places, too.
    """
    ample, _, over = (pooled(curve, *bounds) for bounds in _REGIONS)
    if over.objects < ENOUGH_OBJECTS or (ample.recall or 0) < LEAST_RECALL:
        return None
    return ample.recall - over.recall > NOTABLE


# Objects / limit: many more places than objects, about as many, fewer.
_REGIONS = ((0.0, 0.25), (0.5, 1.0), (1.0, None))


class PooledRecall(NamedTuple):
    """recall, bound: what was found and the most that can be, None without objects; objects."""

    recall: Optional[float]
    bound: Optional[float]
    objects: int


def pooled(curve: Sequence[Figures], low: float, high: Optional[float]) -> PooledRecall:
    """The bins of a capacity curve between two ratios, as one; ``high`` None: without an end."""
    ends = [float("inf") if b["high"] is None else b["high"] for b in curve]
    last = float("inf") if high is None else high
    bins = [b for b, end in zip(curve, ends) if b["low"] >= low and end <= last and b["objects"]]
    objects = sum(b["objects"] for b in bins)
    if not objects:
        return PooledRecall(None, None, 0)
    reach = sum(b["bound"] * b["objects"] for b in bins)
    return PooledRecall(sum(b["found"] for b in bins) / objects, reach / objects, objects)


def _two(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.2f}"


def _one(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.1f}"


def _percent(share: Optional[float]) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
