"""Tables, sentences and plots of the order in which a recurrent model finds objects.

``activations`` are everywhere a dict by block, deepest first: ``{"after": TauSummary, "before":
list[TauSummary]}``, the latter one for each encoder before training, empty where it is not known.
"""

import numpy as np
from tabulate import tabulate

from instance_seg_analysis.order.measure import (
    OPPOSITES,
    ORDERS,
    PAIR_EXTENT,
    density_map,
    discovery_centers,
    discovery_places,
    has_spread,
)
from instance_seg_common.visualization.colors import OKABE_ITO
from instance_seg_common.visualization.figures import new_figure

ORDINALS = ("first", "second", "third")
# Up to this |tau| a pattern is called weak, moderate; above the last, strong.
STRENGTHS = ((0.2, "weakly"), (0.5, "moderately"), (1.01, "strongly"))
MOST_PAIRS = 16  # that are drawn
BEFORE, AFTER, MEAN = (
    tuple(c / 255 for c in OKABE_ITO[name]) for name in ("orange", "blue", "vermillion")
)
NULL_COLOR, RANDOM = "0.88", "white"


def order_table(orders):
    """Tau against simple orders as a text table.

    Args:
        orders (dict[str, TauSummary]): by the names of ORDERS.

    Returns:
        str
    """
    headers = ["order", "tau", "95 % interval", "random, 99 %", "spread", "images"]
    rows = [
        [f"{name}, {ORDERS[name]}", _signed(s.mean), f"{_signed(s.low)} to {_signed(s.high)}",
         f"+-{s.null:.3f}", f"{s.spread:.2f}", s.images]
        for name, s in orders.items()
    ]  # fmt: skip
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def activation_table(activations):
    """Tau of activations with the predicted order as a text table.

    Args:
        activations (dict): see the module.

    Returns:
        str
    """
    headers = ["block", "before", "of all before", "after", "95 % interval", "random, 99 %"]
    rows = []
    for block, taus in activations.items():
        before, after = [s.mean for s in taus["before"]], taus["after"]
        between = f"{_signed(min(before))} to {_signed(max(before))}" if before else "-"
        mean = _signed(np.mean(before)) if before else "-"
        interval = f"{_signed(after.low)} to {_signed(after.high)}"
        rows.append([block, mean, between, _signed(after.mean), interval, f"+-{after.null:.3f}"])
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def pair_table(pairs, class_names):
    """Directions of consecutive pairs in percent as a text table.

    Args:
        pairs (list[PairShares])
        class_names (sequence[str])

    Returns:
        str
    """
    headers = ["pair", "pairs", "at random", *(f"{d} (random)" for d in pairs[0].shares)]
    rows = []
    for pair in pairs:
        shares = [
            f"{100 * share:.0f} ({100 * pair.expected_shares[d]:.0f})"
            + ("*" if abs(pair.excess(d)) > 1 else "")
            for d, share in pair.shares.items()
        ]
        rows.append([pair_name(pair, class_names), pair.pairs, f"{pair.expected:.0f}", *shares])
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def pair_name(pair, class_names):
    """Names of the two classes of a PairShares."""
    if pair.first is None:
        return "all pairs"
    return " -> ".join(class_name(c, class_names) for c in (pair.first, pair.second))


def class_name(index, class_names):
    """The name of a 0-based class, if there is one."""
    return class_names[index] if index < len(class_names) else f"class {index}"


def _signed(value):
    return f"{value:+.3f}"


def sentences(orders, activations, pairs, images, class_names=()):
    """What holds, a sentence for each figure.

    Args:
        orders (dict[str, TauSummary]), activations (dict), pairs (list[PairShares]): as above.
        images (list[FoundObjects])
        class_names (sequence[str])

    Returns:
        list[str]
    """
    found = [order_sentence(name, summary) for name, summary in orders.items()]
    if pairs[0].pairs:
        found += [direction_sentence(pairs[0], ("left", "right"), "width")]
        found += [direction_sentence(pairs[0], ("up", "down"), "height")]
        found += category_sentences(pairs, class_names)
    found += activation_sentences(activations)
    return found + discovery_sentences(images)


def order_sentence(name, summary):
    """Whether objects are found in one of the ORDERS."""
    if not summary.images:
        return f"{name}: no image has two objects that this order tells apart."
    pattern, opposite = ORDERS[name], OPPOSITES[name]
    figures = (
        f"tau {_signed(summary.mean)} over {summary.images} images; 99 % of random orders lie "
        f"within +-{summary.null:.3f}"
    )
    if summary.is_pattern:
        strength = next(word for limit, word in STRENGTHS if abs(summary.mean) <= limit)
        way = pattern if summary.mean > 0 else opposite
        return f"Objects are found {strength} {way}: {figures}."
    text = f"Objects are found neither {pattern} nor {opposite}: {figures}"
    if has_spread(summary):
        text += f"; yet images have orders of their own (spread {summary.spread:.1f}, random 1)"
    return text + "."


def direction_sentence(pair, directions, extent):
    """Where the next object lies on one axis, of all pairs."""
    parts = [f"{100 * pair.shares[d]:.0f} % {d}" for d in directions]
    chance = 100 * pair.expected_shares[directions[0]]
    beyond = any(abs(pair.excess(d)) > 1 for d in directions)
    verdict = "unlike" if beyond else "like"
    return (
        f"Of {pair.pairs} pairs of consecutive objects {parts[0]} and {parts[1]}, by more than "
        f"{100 * PAIR_EXTENT:.0f} % of the {extent}: {verdict} random orders, {chance:.0f} % each."
    )


def category_sentences(pairs, class_names):
    """Which pair of classes differs most from random orders; none with a single class."""
    found = [(abs(row.excess(d)), i, d) for i, row in enumerate(pairs) if i for d in row.shares]
    if not found:
        return []
    beyond = sum(excess > 1 for excess, _, _ in found)
    text = (
        f"Of {len(found)} shares of directions, of {len(pairs) - 1} pairs of classes, {beyond} lie "
        "beyond 99 % of random orders"
    )
    if not beyond:
        return [text + "."]
    _, index, direction = max(found)
    row = pairs[index]
    return [
        f"{text}; most of all {pair_name(row, class_names)}: {100 * row.shares[direction]:.0f} % "
        f"{direction} of {row.pairs}, at random {100 * row.expected_shares[direction]:.0f} %."
    ]


def activation_sentences(activations):
    """Which block's activations go with the order, and whether training made it so."""
    told = {block: taus for block, taus in activations.items() if taus["after"].images}
    if not told:
        return []
    block, taus = max(told.items(), key=lambda item: abs(item[1]["after"].mean))
    after = taus["after"]
    if not after.is_pattern:
        return ["The order goes with the activations of no block: all lie within random orders."]
    which = "most" if after.mean > 0 else "least"
    text = (
        f"The order goes most with the activations of {block}: tau {_signed(after.mean)} (random "
        f"+-{after.null:.3f}), the {which} active first"
    )
    before = [s.mean for s in taus["before"]]
    if before:
        learned = abs(after.mean) - max(map(abs, before)) > after.null
        text += (
            f"; before training {_signed(np.mean(before))}"
            + (f" ({_signed(min(before))} to {_signed(max(before))})" if len(before) > 1 else "")
            + (", so it came with training" if learned else ", so it may not come from training")
        )
    return [text + "."]


def discovery_sentences(images):
    """Where first, second and third discoveries lie, beside random orders."""
    return [
        discovery_sentence(ordinal, place)
        for ordinal, place in zip(ORDINALS, discovery_places(images))
    ] or ["No object is found."]


def discovery_sentence(ordinal, place):
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


def tau_figure(orders, activations, path, title=""):
    """Draw tau against simple orders and of activations, with what random orders give; a PNG.

    Args:
        orders (dict[str, TauSummary])
        activations (dict): see the module; may be empty.
        path (Path): the file.
        title (str): names data set and model.
    """
    figure = new_figure(9, 1.9 + 0.36 * max(len(orders) + 1, len(activations)))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    labels = [f"{name}\n{ORDERS[name]}" for name in orders]
    _tau_axes(left, labels, list(orders.values()), "tau with simple orders")
    _tau_axes(right, list(activations), [t["after"] for t in activations.values()],
              "tau with activations, the most active first")  # fmt: skip
    for place, taus in enumerate(activations.values()):
        values = [s.mean for s in taus["before"]]
        right.plot(values, [place + 0.18] * len(values), "D", color=BEFORE, markersize=4.5)
    marks = [
        {"marker": "o", "color": AFTER, "label": "after training, 95 % of resampled images"},
        {"marker": "D", "color": BEFORE, "label": "before training"},
        {"marker": "s", "color": NULL_COLOR, "markersize": 10, "label": "99 % of random orders"},
    ]
    _legend(figure, marks)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)


def _tau_axes(axes, labels, summaries, title):
    for place, s in enumerate(summaries):
        if not s.images:
            continue
        axes.barh(place, 2 * s.null, left=-s.null, height=0.8, color=NULL_COLOR)
        axes.plot([s.low, s.high], [place, place], color=AFTER, linewidth=2.5)
        axes.plot(s.mean, place, "o", color=AFTER)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(-1, 1)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)


def _legend(figure, marks):
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle="none", **mark) for mark in marks]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9
    )


def pair_figure(pairs, class_names, path, title=""):
    """Draw the directions of consecutive pairs, with what random orders give; a PNG.

    Args:
        pairs (list[PairShares]): the first MOST_PAIRS are drawn.
        class_names (sequence[str])
        path (Path): the file.
        title (str): names data set and model.
    """
    drawn = pairs[:MOST_PAIRS]
    figure = new_figure(9, 1.7 + 0.32 * len(drawn))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, directions in zip(panels, (("left", "right"), ("up", "down"))):
        for place, pair in enumerate(drawn):
            for sign, direction, color in zip((-1, 1), directions, (BEFORE, AFTER)):
                share, chance = pair.shares[direction], pair.expected_shares[direction]
                axes.barh(place, sign * 100 * share, height=0.7, color=color)
                ends = [place - 0.42, place + 0.42]
                axes.plot([sign * 100 * chance] * 2, ends, color="black", linewidth=2)
        axes.set_title(f"next object: {directions[0]} | {directions[1]}", fontsize=10)
        axes.axvline(0, color="white", linewidth=1.5)
        axes.set_xlim(-100, 100)
        axes.set_xticks([-100, -50, 0, 50, 100])
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f} %")
        axes.grid(alpha=0.3, axis="x")
        axes.set_axisbelow(True)
    labels = [f"{pair_name(pair, class_names)}  (n = {pair.pairs})" for pair in drawn]
    panels[0].set_yticks(range(len(drawn)), labels, fontsize=9)
    panels[0].set_ylim(len(drawn) - 0.5, -0.5)
    marks = [
        {"marker": "s", "color": BEFORE, "label": "left, up"},
        {"marker": "s", "color": AFTER, "label": "right, down"},
        {"marker": "|", "color": "black", "markeredgewidth": 2, "label": "random orders"},
    ]
    _legend(figure, marks)
    figure.suptitle(f"{title}\nby more than {100 * PAIR_EXTENT:.0f} % of the image", fontsize=10)
    figure.savefig(path, dpi=110)


def discovery_figure(images, path, title=""):
    """Draw where all, first, second and third discoveries lie, in normalised coordinates; a PNG.

    Args:
        images (list[FoundObjects])
        path (Path): the file.
        title (str): names data set and model.
    """
    figure = new_figure(11, 3.8)
    panels = figure.subplots(1, len(ORDINALS) + 1, sharey=True)
    points = [discovery_centers(images, rank) for rank in (None, *range(len(ORDINALS)))]
    maps = [density_map(p) for p in points]
    most = max(2.0, *(m.max() for m in maps))
    for axes, name, place, density in zip(panels, ("all", *ORDINALS), points, maps):
        heat = axes.imshow(
            density, cmap="cividis", vmin=0, vmax=most, extent=(0, 1, 1, 0),
            interpolation="bilinear",
        )  # fmt: skip
        axes.plot(*place.T, ".", color="white", markersize=3 if len(place) < 500 else 1, alpha=0.6)
        axes.set_title(f"{name} found: {len(place)}", fontsize=10)
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
    for axes, place in zip(panels[1:], discovery_places(images)):
        axes.plot(*place.expected, "o", color=RANDOM, markeredgecolor="black", markersize=8)
        axes.plot(*place.mean, "P", color=MEAN, markeredgecolor="black", markersize=11)
    figure.colorbar(heat, ax=panels, label="density, 1: even", shrink=0.75)
    edge = {"markeredgecolor": "black", "markersize": 9}
    marks = [
        {"marker": "P", "color": MEAN, "label": "mean", **edge},
        {"marker": "o", "color": RANDOM, "label": "mean in random orders", **edge},
    ]
    _legend(figure, marks)
    figure.suptitle(f"{title}\nx and y as shares of width and height", fontsize=10)
    figure.savefig(path, dpi=110)
