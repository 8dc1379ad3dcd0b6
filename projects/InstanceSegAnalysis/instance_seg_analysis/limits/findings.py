"""Which of the claims about proposal-based models hold on a data set, in sentences.

A claim is held against the figures of ``limits.figures_of``. It can fail, and where there are too
few objects to tell, that is what is said.
"""

from typing import NamedTuple, Optional

from instance_seg_analysis.limits.adapters import MaskRCNNWay
from instance_seg_common.evaluation.intervals import wilson_interval

PROPOSAL_BASED = "GeneralizedRCNN"
APART, TOGETHER = 0.3, 0.7  # box IoU: no neighbour worth the name; nearly one box
LEAST_RECALL = 0.2  # of a detector with ample places; below it, there is too little to lose
ENOUGH_OBJECTS = 20  # in a bin, for a verdict
NOTABLE = 0.05  # difference in recall that counts
NOTABLE_AP = 1.0  # percent, the same
LEAST_AP = 5.0  # percent; below it, no sweep and no limit tells anything
NOTABLE_SHARE = 0.01  # of the claimed pixels
VERDICTS = {True: "holds", False: "does not hold", None: "cannot be told"}


class Finding(NamedTuple):
    """limit: 1 to 4; claim; holds: None where the data do not tell; sentence."""

    limit: int
    claim: str
    holds: Optional[bool]
    sentence: str


def findings(figures):
    """The four findings.

    Args:
        figures (dict[str, dict]): way -> ``limits.figures_of``, of any architectures.

    Returns:
        list[Finding]: four.
    """
    detector = next((w for w in figures if figures[w]["architecture"] == PROPOSAL_BASED), None)
    if detector is None:
        nothing = "no proposal-based model (GeneralizedRCNN) was given"
        return [_finding(n, claim, None, nothing) for n, claim in enumerate(CLAIMS, start=1)]
    rules = (shared_boxes, threshold, double_claims, capacity)
    return [
        _finding(n, claim, *rule(figures, detector))
        for n, (claim, rule) in enumerate(zip(CLAIMS, rules), start=1)
    ]


CLAIMS = (
    "box NMS loses objects that share a box with a neighbour",
    "the result hangs on the NMS threshold more than other ways' on their knobs",
    "instances of a proposal-based model claim the same pixels, more than other ways' do",
    "more objects than proposals are not found",
)


def _finding(limit, claim, holds, facts):
    return Finding(limit, claim, holds, f"Limit {limit} ({claim}) {VERDICTS[holds]}: {facts}.")


def part_of(curve, low=0.0, high=1.0):
    """(recall or None, objects, interval) of the bins of a neighbour curve within bounds."""
    bins = [b for b in curve if b["low"] >= low and b["high"] <= high]
    objects, found = sum(b["objects"] for b in bins), sum(b["found"] for b in bins)
    return found / objects if objects else None, objects, wilson_interval(found, objects)


def shared_boxes(figures, detector):
    """Limit 1: (holds, facts)."""
    rules = figures[detector]["neighbours"]
    curve = next(iter(rules.values()))["bins"]
    (_, apart, _), (_, together, _) = part_of(curve, high=APART), part_of(curve, low=TOGETHER)
    facts = (
        f"recall of masks at box IoU below {APART:g} with the nearest neighbour ({apart} objects) "
        f"and from {TOGETHER:g} on ({together}), and of boxes in brackets: "
        + "; ".join(_recalls(figures))
    )
    if "no NMS" not in rules:
        return None, f"{detector} could not be run without NMS; {facts}"
    if together < ENOUGH_OBJECTS or not apart:
        return None, f"too few objects for a verdict; {facts}"
    of_masks, of_boxes = (loses(rules, kind) for kind in ("bins", "box_bins"))
    if of_boxes and not of_masks:
        facts = f"for boxes only, the masks are not found without NMS, either; {facts}"
    return of_masks or of_boxes, facts


def loses(rules, kind):
    """Whether recall falls where boxes coincide, and without NMS would clearly fall less.

    Args:
        rules (dict): ``limits.neighbour_figures`` of a way with "box NMS" and "no NMS".
        kind (str): "bins" for masks, "box_bins" for boxes.

    Returns:
        bool
    """
    curve = rules["box NMS"][kind]
    apart, together = part_of(curve, high=APART), part_of(curve, low=TOGETHER)
    free = rules["no NMS"][kind]
    apart_free, together_free = part_of(free, high=APART), part_of(free, low=TOGETHER)
    falls = apart[0] - together[0] > NOTABLE and apart[2][0] > together[2][1]
    gain = together_free[0] - together[0]
    # All that NMS removes is found again without it, wherever it is: more of it must be here.
    more = gain - max(apart_free[0] - apart[0], 0.0) > NOTABLE
    return falls and more and together_free[2][0] > together[2][1]


def _recalls(figures):
    """A text for each way and rule."""
    for way, figure in figures.items():
        for rule, found in figure["neighbours"].items():
            apart, together, box_apart, box_together = (
                _two(part_of(found[kind], **bounds)[0])
                for kind in ("bins", "box_bins")
                for bounds in ({"high": APART}, {"low": TOGETHER})
            )
            name = f"{way}, {rule}" if rule else way
            if found.get("AP") is not None:
                name += f" (AP {_one(found['AP'])})"
            yield f"{name} {apart} and {together} ({box_apart} and {box_together})"


def threshold(figures, detector):
    """Limit 2: (holds, facts)."""
    sweeps = {way: f["sweep"] for way, f in figures.items() if f["sweep"]}
    spreads = {way: sweep["AP_spread"]["all"] for way, sweep in sweeps.items()}
    if spreads.get(detector) is None:
        return None, f"no sweep of {detector}'s NMS threshold"
    best = _best(sweeps[detector])
    parts = [
        f"{way}'s {sweep['name']} from {sweep['values'][0]:g} to {sweep['values'][-1]:g} moves AP "
        f"by {_one(spreads[way])} ({_one(sweep['AP_spread_middle']['all'])} in its middle half) "
        f"and the count error by {_two(sweep['count_error_spread']['all'])}"
        for way, sweep in sweeps.items()
    ]
    lost = max(sweeps[detector]["lost_by_one_value"].values(), default=0.0)
    bests = {n: v for n, v in sweeps[detector]["best_value"].items() if n != "all"}
    parts.append(
        f"the best NMS threshold is {', '.join(f'{_one(v)} for {n}' for n, v in bests.items())}, "
        f"and one for all costs a group at most {_one(lost)} AP"
    )
    facts = "; ".join(parts)
    if best < LEAST_AP:
        return None, f"{detector} has an AP of {_one(best)} at best, too little to lose; {facts}"
    return most_sensitive(sweeps, detector), facts


def _best(sweep):
    """The highest AP of all images; 0 without any."""
    return max((v for v in sweep["AP"]["all"] if v is not None), default=0.0)


def most_sensitive(sweeps, way):
    """Whether AP moves most with one way's knob, over the sweep and over its middle half.

    Args:
        sweeps (dict[str, dict]): way -> ``limits.sweep_figures``.
        way (str): one of them.

    Returns:
        bool or None: None without another way that has any AP to lose.
    """
    verdicts = []
    sweeps = {w: sweep for w, sweep in sweeps.items() if w == way or _best(sweep) >= LEAST_AP}
    for key in ("AP_spread", "AP_spread_middle"):
        spreads = {w: sweep[key]["all"] for w, sweep in sweeps.items()}
        others = [value for w, value in spreads.items() if w != way and value is not None]
        verdicts.append(spreads[way] - max(others) > NOTABLE_AP if others else None)
    return None if None in verdicts else all(verdicts)


def double_claims(figures, detector):
    """Limit 3: (holds, facts)."""
    shares = {way: f["claims"]["share_twice"] for way, f in figures.items()}
    facts = "of the pixels that a way claims, two or more instances claim, and for different " + (
        "objects: "
    )
    facts += "; ".join(
        f"{way} {_percent(f['claims']['share_twice'])}, {_percent(f['claims']['share_disputed'])}"
        for way, f in figures.items()
    )
    if shares[detector] is None:
        return None, facts
    others = [s for way, s in shares.items() if s is not None and way != detector]
    return shares[detector] > max([NOTABLE_SHARE, *others]), facts


def capacity(figures, detector):
    """Limit 4: (holds, facts)."""
    rows, holds = [], None
    for way, figure in figures.items():
        for key, found in figure["capacity"].items():
            ample, scarce, over = (pooled(found["curve"], *bounds) for bounds in _REGIONS)
            rows.append(
                f"{way} ({key.rsplit('.', 1)[-1]} {found['config']}, which "
                f"{found['images_above_config']} images exceed) {_two(ample[0])}, "
                f"{_two(scarce[0])} and {_two(over[0])}, where {_two(over[1])} is possible"
            )
            if way == detector and key == MaskRCNNWay.PROPOSALS and over[2] >= ENOUGH_OBJECTS:
                enough = (ample[0] or 0) >= LEAST_RECALL
                holds = ample[0] - over[0] > NOTABLE if enough else None
    facts = (
        "limits lowered step by step from the config's; recall with 4 times as many places as "
        "objects or more, with 1 to 2 times, with fewer: "
    )
    return holds, facts + "; ".join(rows)


# Objects / limit: many more places than objects, about as many, fewer.
_REGIONS = ((0.0, 0.25), (0.5, 1.0), (1.0, None))


def pooled(curve, low, high):
    """(recall, largest recall possible, objects) of a capacity curve's bins; None, None, 0 without
    objects."""
    bins = [
        b
        for b in curve
        if b["low"] >= low and (high is None or (b["high"] is not None and b["high"] <= high))
    ]
    objects = sum(b["objects"] for b in bins)
    if not objects:
        return None, None, 0
    reach = sum(b["bound"] * b["objects"] for b in bins if b["objects"])
    return sum(b["found"] for b in bins) / objects, reach / objects, objects


def _two(value):
    return "-" if value is None else f"{value:.2f}"


def _one(value):
    return "-" if value is None else f"{value:.1f}"


def _percent(share):
    return "-" if share is None else f"{100 * share:.1f} %"
