"""What holds of the order in which objects are found, a sentence for each figure."""

from collections.abc import Mapping, Sequence

import numpy as np

from instance_seg_analysis.order.objects import FoundObjects
from instance_seg_analysis.order.pairs import PAIR_EXTENT, PairShares
from instance_seg_analysis.order.places import Place, discovery_places
from instance_seg_analysis.order.tables import pair_name, signed
from instance_seg_analysis.order.tau import OPPOSITES, ORDERS, BlockTaus, TauSummary, has_spread

ORDINALS = ("first", "second", "third")
# Up to this |tau| a pattern is called weak, moderate; above the last, strong.
STRENGTHS = ((0.2, "weakly"), (0.5, "moderately"), (1.01, "strongly"))


def sentences(
    orders: Mapping[str, TauSummary],
    activations: Mapping[str, BlockTaus],
    pairs: Sequence[PairShares],
    *,
    images: Sequence[FoundObjects],
    class_names: Sequence[str] = (),
) -> "list[str]":
    """What holds, a sentence for each figure.

    Args:
        orders (dict[str, TauSummary]): by the names of ORDERS.
        activations (dict[str, BlockTaus]): by block, deepest first.
        pairs (list[PairShares]): all, then by classes.
        images (list[FoundObjects])
        class_names (sequence[str])

    Returns:
        list[str]
    """
    lines = [order_sentence(name, summary) for name, summary in orders.items()]
    if pairs[0].pairs:
        lines += [direction_sentence(pairs[0], ("left", "right"), "width")]
        lines += [direction_sentence(pairs[0], ("up", "down"), "height")]
        lines += category_sentences(pairs, class_names)
    lines += activation_sentences(activations)
    return lines + discovery_sentences(images)


def order_sentence(name: str, summary: TauSummary) -> str:
    """Whether objects are found in one of the ORDERS."""
    if not summary.images:
        return f"{name}: no image has two objects that this order tells apart."
    pattern, opposite = ORDERS[name], OPPOSITES[name]
    figures = (
        f"tau {signed(summary.mean)} over {summary.images} images; 99 % of random orders lie "
        f"within +-{summary.null:.3f}"
    )
    if summary.is_pattern:
        strength = next(word for limit, word in STRENGTHS if abs(summary.mean) <= limit)
        direction = pattern if summary.mean > 0 else opposite
        return f"Objects are found {strength} {direction}: {figures}."
    text = f"Objects are found neither {pattern} nor {opposite}: {figures}"
    if has_spread(summary):
        text += f"; yet images have orders of their own (spread {summary.spread:.1f}, random 1)"
    return text + "."


def direction_sentence(pair: PairShares, directions: "tuple[str, str]", extent: str) -> str:
    """Where the next object lies on one axis, of all pairs."""
    parts = [f"{100 * pair.shares[d]:.0f} % {d}" for d in directions]
    chance = 100 * pair.expected_shares[directions[0]]
    beyond = any(abs(pair.excess(d)) > 1 for d in directions)
    verdict = "unlike" if beyond else "like"
    return (
        f"Of {pair.pairs} pairs of consecutive objects {parts[0]} and {parts[1]}, by more than "
        f"{100 * PAIR_EXTENT:.0f} % of the {extent}: {verdict} random orders, {chance:.0f} % each."
    )


def category_sentences(pairs: Sequence[PairShares], class_names: Sequence[str]) -> "list[str]":
    """Which pair of classes differs most from random orders; none with a single class."""
    shares = [(abs(row.excess(d)), i, d) for i, row in enumerate(pairs) if i for d in row.shares]
    if not shares:
        return []
    beyond = sum(excess > 1 for excess, _, _ in shares)
    text = (
        f"Of {len(shares)} shares of directions, of {len(pairs) - 1} pairs of classes, {beyond} "
        "lie beyond 99 % of random orders"
    )
    if not beyond:
        return [text + "."]
    _, index, direction = max(shares)
    row = pairs[index]
    return [
        f"{text}; most of all {pair_name(row, class_names)}: {100 * row.shares[direction]:.0f} % "
        f"{direction} of {row.pairs}, at random {100 * row.expected_shares[direction]:.0f} %."
    ]


def activation_sentences(activations: Mapping[str, BlockTaus]) -> "list[str]":
    """Which block's activations go with the order, and whether training made it so."""
    told = {block: taus for block, taus in activations.items() if taus.after.images}
    if not told:
        return []
    block, taus = max(told.items(), key=lambda item: abs(item[1].after.mean))
    after = taus.after
    if not after.is_pattern:
        return ["The order goes with the activations of no block: all lie within random orders."]
    which = "most" if after.mean > 0 else "least"
    return [
        f"The order goes most with the activations of {block}: tau {signed(after.mean)} (random "
        f"+-{after.null:.3f}), the {which} active first{_before_training(taus)}."
    ]


def _before_training(taus: BlockTaus) -> str:
    """The end of a sentence: what a block's tau was before training, where that is known."""
    before, after = [summary.mean for summary in taus.before], taus.after
    if not before:
        return ""
    between = f" ({signed(min(before))} to {signed(max(before))})" if len(before) > 1 else ""
    learned = abs(after.mean) - max(map(abs, before)) > after.null
    verdict = "so it came with training" if learned else "so it may not come from training"
    return f"; before training {signed(float(np.mean(before)))}{between}, {verdict}"


def discovery_sentences(images: Sequence[FoundObjects]) -> "list[str]":
    """Where first, second and third discoveries lie, beside random orders."""
    return [
        discovery_sentence(ordinal, place)
        for ordinal, place in zip(ORDINALS, discovery_places(images))
    ] or ["No object is found."]


def discovery_sentence(ordinal: str, place: Place) -> str:
    """Where the objects of one rank lie, if not as in random orders."""
    (x, y), (expected_x, expected_y), (null_x, null_y) = place.mean, place.expected, place.null
    sides = []
    if abs(x - expected_x) > null_x:
        sides.append("further right" if x > expected_x else "further left")
    if abs(y - expected_y) > null_y:
        sides.append("lower" if y > expected_y else "higher")
    where = f"{' and '.join(sides)} than" if sides else "where they lie in"
    return (
        f"The {place.objects} objects found {ordinal} lie {where} random orders: mean x {x:.2f} "
        f"(random {expected_x:.2f} +-{null_x:.2f}), y {y:.2f} ({expected_y:.2f} +-{null_y:.2f}), "
        "shares of width and height."
    )
