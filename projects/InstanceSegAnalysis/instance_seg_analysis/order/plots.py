"""Plots of the order in which a recurrent model finds objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instance_seg_analysis.order.objects import FoundObjects
from instance_seg_analysis.order.pairs import PAIR_EXTENT, PairShares
from instance_seg_analysis.order.places import density_map, discovery_centers, discovery_places
from instance_seg_analysis.order.sentences import ORDINALS
from instance_seg_analysis.order.tables import pair_name
from instance_seg_analysis.order.tau import ORDERS, BlockTaus, TauSummary
from instance_seg_common.visualization.colors import OKABE_ITO
from instance_seg_common.visualization.figures import new_figure

if TYPE_CHECKING:  # matplotlib is optional
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
MOST_PAIRS = 16  # that are drawn
BEFORE, AFTER, MEAN = (
    tuple(c / 255 for c in OKABE_ITO[name]) for name in ("orange", "blue", "vermillion")
)
NULL_COLOR, RANDOM = "0.88", "white"
Marks = Sequence[Mapping[str, Any]]


def tau_figure(
    orders: Mapping[str, TauSummary],
    activations: Mapping[str, BlockTaus],
    path: Path,
    *,
    title: str = "",
) -> None:
    """Draw tau against simple orders and of activations, with what random orders give; a PNG.

    Args:
        orders (dict[str, TauSummary])
        activations (dict[str, BlockTaus]): by block, deepest first; may be empty.
        path (Path): the file.
        title (str): names data set and model.
    """
    figure = new_figure(9, 1.9 + 0.36 * max(len(orders) + 1, len(activations)))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    labels = [f"{name}\n{ORDERS[name]}" for name in orders]
    _tau_axes(left, labels, list(orders.values()), title="tau with simple orders")
    after = [taus.after for taus in activations.values()]
    heading = "tau with activations, the most active first"
    _tau_axes(right, list(activations), after, title=heading)
    for place, taus in enumerate(activations.values()):
        values = [s.mean for s in taus.before]
        right.plot(values, [place + 0.18] * len(values), "D", color=BEFORE, markersize=4.5)
    marks = [
        {"marker": "o", "color": AFTER, "label": "after training, 95 % of resampled images"},
        {"marker": "D", "color": BEFORE, "label": "before training"},
        {"marker": "s", "color": NULL_COLOR, "markersize": 10, "label": "99 % of random orders"},
    ]
    _finish(figure, path, title=title, marks=marks)


def _tau_axes(
    axes: "Axes", labels: Sequence[str], summaries: Sequence[TauSummary], *, title: str
) -> None:
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


def _finish(figure: "Figure", path: Path, *, title: str, marks: Marks) -> None:
    """Title, a legend of marks below, and the file."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle="none", **mark) for mark in marks]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9
    )
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=DPI)


def pair_figure(
    pairs: Sequence[PairShares], class_names: Sequence[str], path: Path, *, title: str = ""
) -> None:
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
        _pair_axes(axes, drawn, directions)
    labels = [f"{pair_name(pair, class_names)}  (n = {pair.pairs})" for pair in drawn]
    panels[0].set_yticks(range(len(drawn)), labels, fontsize=9)
    panels[0].set_ylim(len(drawn) - 0.5, -0.5)
    marks = [
        {"marker": "s", "color": BEFORE, "label": "left, up"},
        {"marker": "s", "color": AFTER, "label": "right, down"},
        {"marker": "|", "color": "black", "markeredgewidth": 2, "label": "random orders"},
    ]
    title = f"{title}\nby more than {100 * PAIR_EXTENT:.0f} % of the image"
    _finish(figure, path, title=title, marks=marks)


def _pair_axes(axes: "Axes", pairs: Sequence[PairShares], directions: "tuple[str, str]") -> None:
    """Bars of two opposite directions, and lines where they end in random orders."""
    for place, pair in enumerate(pairs):
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


def discovery_figure(images: Sequence[FoundObjects], path: Path, *, title: str = "") -> None:
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
    title = f"{title}\nx and y as shares of width and height"
    _finish(figure, path, title=title, marks=marks)
