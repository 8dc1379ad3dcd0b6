"""Figures of the order as text tables."""

from collections.abc import Mapping, Sequence

import numpy as np
from tabulate import tabulate

from instance_seg_analysis.order.pairs import PairShares
from instance_seg_analysis.order.tau import ORDERS, BlockTaus, TauSummary


def order_table(orders: Mapping[str, TauSummary]) -> str:
    """Tau against simple orders as a text table.

    Args:
        orders (dict[str, TauSummary]): by the names of ORDERS.

    Returns:
        str
    """
    headers = ["order", "tau", "95 % interval", "random, 99 %", "spread", "images"]
    rows = [
        [f"{name}, {ORDERS[name]}", signed(s.mean), f"{signed(s.low)} to {signed(s.high)}",
         f"+-{s.null:.3f}", f"{s.spread:.2f}", s.images]
        for name, s in orders.items()
    ]  # fmt: skip
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def activation_table(activations: Mapping[str, BlockTaus]) -> str:
    """Tau of activations with the predicted order as a text table.

    Args:
        activations (dict[str, BlockTaus]): by block, deepest first.

    Returns:
        str
    """
    headers = ["block", "before", "of all before", "after", "95 % interval", "random, 99 %"]
    rows = []
    for block, taus in activations.items():
        before, after = [s.mean for s in taus.before], taus.after
        between = f"{signed(min(before))} to {signed(max(before))}" if before else "-"
        mean = signed(float(np.mean(before))) if before else "-"
        interval = f"{signed(after.low)} to {signed(after.high)}"
        rows.append([block, mean, between, signed(after.mean), interval, f"+-{after.null:.3f}"])
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def pair_table(pairs: Sequence[PairShares], class_names: Sequence[str]) -> str:
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


def pair_name(pair: PairShares, class_names: Sequence[str]) -> str:
    """Names of the two classes of a PairShares."""
    if pair.first is None:
        return "all pairs"
    return " -> ".join(class_name(c, class_names) for c in (pair.first, pair.second))


def class_name(index: int, class_names: Sequence[str]) -> str:
    """The name of a 0-based class, if there is one."""
    return class_names[index] if index < len(class_names) else f"class {index}"


def signed(value: float) -> str:
    """With its sign and three digits."""
    return f"{value:+.3f}"
