"""Plots of the four limits, from the figures of ``figures.figures_of``.

All take the figures by the name of the model, a path for the PNG and a title that names the data
set, and return whether there was something to draw.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from instance_seg_analysis.limits.figures import Figures
from instance_seg_common.visualization.figures import LINE_COLORS, MARKERS, new_figure

GROUP_STYLES = (("-", "#000000"), ("-", "#56B4E9"), ("--", "#009E73"), (":", "#D55E00"))
DPI = 110
FiguresByModel = Mapping[str, Figures]

if TYPE_CHECKING:  # matplotlib is optional
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _figure(
    size: "tuple[float, float]", rows: int = 1, columns: int = 1, **options: Any
) -> "tuple[Figure, np.ndarray]":
    """A figure without a display and its axes, (rows, columns)."""
    figure = new_figure(*size)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _numbers(values: "Sequence[Optional[float]]") -> np.ndarray:
    """List of float or None as floats, nan for None."""
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _finish(figure: "Figure", path: Path, *, title: str, axes: "Axes", columns: int = 2) -> None:
    """Title, the legend of one of the axes, and the file."""
    figure.suptitle(title)
    lines, names = axes.get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False)
    figure.savefig(path, dpi=DPI)


def _style(index: int) -> "dict[str, str]":
    """Marker and colour of the line of this index."""
    return {
        "marker": MARKERS[index % len(MARKERS)], "color": LINE_COLORS[index % len(LINE_COLORS)]
    }  # fmt: skip


def neighbours_plot(figures: FiguresByModel, path: Path, title: str = "") -> bool:
    """Recall of masks and of boxes by box IoU with the nearest neighbour, a line for each model."""
    figure, (axes,) = _figure((12, 5.5), 1, 2, sharey=True)
    rules = {
        f"{model}, {rule}" if rule else model: curves
        for model, f in figures.items()
        for rule, curves in f["neighbours"].items()
    }
    for axis, kind, name in zip(axes, ("bins", "box_bins"), ("masks", "boxes")):
        for index, (label, curves) in enumerate(rules.items()):
            shift = 0.07 * (index - (len(rules) - 1) / 2)
            _recall_line(axis, _occupied(curves[kind]), label=label, index=index, shift=shift)
        bins = _occupied(next(iter(rules.values()))[kind])
        ticks = [f"{b['low']:g} to {b['high']:g}\n{b['objects']} objects" for b in bins]
        axis.set_xticks(range(len(ticks)), ticks, fontsize=9)
        axis.set_xlim(-0.5, max(len(ticks), 1) - 0.5)
        axis.set_xlabel("box IoU with the nearest neighbour")
        axis.set_ylabel(f"recall of {name} at IoU 0.5 (bars: 95 % interval)")
        axis.set_ylim(0, 1.05)
        axis.grid(alpha=0.3, axis="y")
    _finish(figure, path, title=title, axes=axes[0], columns=3)
    return True


def _occupied(bins: Sequence[Figures]) -> "list[Figures]":
    """The bins that have objects."""
    return [b for b in bins if b["objects"]]


def _recall_line(
    axis: "Axes", bins: Sequence[Figures], *, label: str, index: int, shift: float
) -> None:
    """One line with its intervals, shifted so that they do not hide those of other lines."""
    recall = _numbers([b["recall"] for b in bins])
    bounds = _numbers([x for b in bins for x in b["interval"] or (None, None)]).reshape(-1, 2)
    axis.errorbar(
        np.arange(len(bins)) + shift, recall, np.maximum(np.abs(bounds.T - recall), 0),
        label=label, capsize=2, linewidth=1.5, elinewidth=0.8, markersize=5,
        linestyle="-" if index < len(LINE_COLORS) else "--", **_style(index),
    )  # fmt: skip


def sweep_plot(figures: FiguresByModel, path: Path, title: str = "") -> bool:
    """AP and count error by knob value, a column for each model, a line for each crowding."""
    sweeps = {model: f["sweep"] for model, f in figures.items() if f["sweep"]}
    if not sweeps:
        return False
    columns = len(sweeps)
    figure, axes = _figure((1.5 + 3.6 * columns, 6.5), 2, columns, sharey="row", sharex="col")
    for column, (model, sweep) in zip(axes.T, sweeps.items()):
        _sweep_column(column, model, sweep)
    axes[0, 0].set_ylabel("mask AP in percent")
    axes[1, 0].set_ylabel("mean |difference in count|")
    axes[0, 0].set_ylim(bottom=0)
    # A knob at its end can split every object; the interesting part is near the minimum.
    axes[1, 0].set_yscale("symlog", linthresh=1)
    axes[1, 0].set_ylim(bottom=0)
    axes[1, 0].yaxis.set_major_formatter("{x:g}")
    _finish(figure, path, title=title, axes=axes[0, 0], columns=4)
    return True


def _sweep_column(column: "Sequence[Axes]", model: str, sweep: Figures) -> None:
    """One model's two axes."""
    for axis, key in zip(column, ("AP", "count_error")):
        for (style, color), (name, values) in zip(GROUP_STYLES, sweep[key].items()):
            label = "all images" if name == "all" else name
            width = 2.4 if name == "all" else 1.6
            axis.plot(
                sweep["values"], _numbers(values), style, color=color, label=label,
                linewidth=width, marker="o", markersize=3,
            )  # fmt: skip
        axis.axvline(sweep["config"], color="#777777", linewidth=1, linestyle="-.")
        axis.grid(alpha=0.3)
    spread = sweep["AP_spread"]["all"]
    column[0].set_title(
        model + ("" if spread is None else f"\nAP spread {spread:.1f}"), fontsize=10
    )
    column[1].set_xlabel(f"{sweep['name']}\n(dash-dotted: config)")


def claims_plot(figures: FiguresByModel, path: Path, title: str = "") -> bool:
    """Share of the pixels claimed twice or more and for different objects, bars by model."""
    figure, ((axes,),) = _figure((7, 4.5))
    names = ("claimed by two or more instances", "claimed for different objects")
    places = np.arange(len(figures))
    for index, (key, name) in enumerate(zip(("share_twice", "share_disputed"), names)):
        shares = 100 * _numbers([f["claims"][key] for f in figures.values()])
        bars = axes.bar(
            places + 0.4 * index - 0.2, shares, 0.38, label=name, color=LINE_COLORS[index]
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=9)
    axes.set_xticks(places, [fill(m.replace("_", " "), 16) for m in figures], fontsize=9)
    axes.set_ylabel("percent of the claimed pixels")
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    _finish(figure, path, title=title, axes=axes)
    return True


def capacity_plot(figures: FiguresByModel, path: Path, title: str = "") -> bool:
    """Recall and relative count error by the number of objects over what a limit allows."""
    figure, ((recall, error),) = _figure((11, 5), 1, 2)
    curves = {
        f"{model}, {key.rsplit('.', 1)[-1]}": limit["curve"]
        for model, f in figures.items()
        for key, limit in f["capacity"].items()
    }
    if not curves:
        return False
    _capacity_lines(recall, curves, "recall")
    _capacity_lines(error, curves, "relative_count_error")
    _bounds(recall, curves)
    for axes in (recall, error):
        bins = next(iter(curves.values()))
        axes.set_xticks(range(len(bins)), [_ratio_name(b) for b in bins])
        axes.set_xlabel("objects in the image / limit")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    recall.set_ylabel("recall at mask IoU 0.5")
    error.set_ylabel("|difference in count| / objects")
    _finish(figure, path, title=title, axes=recall)
    return True


def _capacity_lines(axes: "Axes", curves: "Mapping[str, list[Figures]]", key: str) -> None:
    """A line for each curve."""
    for index, (name, curve) in enumerate(curves.items()):
        values = _numbers([b[key] for b in curve])
        axes.plot(
            np.arange(len(curve)), values, label=name, markersize=5, alpha=0.9, **_style(index)
        )


def _bounds(axes: "Axes", curves: "Mapping[str, list[Figures]]") -> None:
    """The most that can be found, once where curves have it in common."""
    label: Optional[str] = "most that can be found"
    for bound in dict.fromkeys(tuple(b["bound"] for b in curve) for curve in curves.values()):
        axes.plot(range(len(bound)), _numbers(bound), "k--", linewidth=1, label=label)
        label = None


def _ratio_name(bin_: Figures) -> str:
    """Name of a bin of the capacity curve."""
    if bin_["high"] is None:
        return f"> {bin_['low']:g}"
    if bin_["low"] == 0:
        return f"\u2264 {bin_['high']:g}"
    return f"{bin_['low']:g} to\n{bin_['high']:g}"


# Name of the file -> function that draws it.
PLOTS = {
    "limit1_neighbours": neighbours_plot,
    "limit2_sweep": sweep_plot,
    "limit3_claims": claims_plot,
    "limit4_capacity": capacity_plot,
}


def write_plots(figures: FiguresByModel, folder: Path, title: str = "") -> "list[Path]":
    """Write all plots.

    Args:
        figures (dict[str, dict]): by the name of the model.
        folder (Path): exists.
        title (str): names the data set and the number of images.

    Returns:
        list[Path]: those that there was something to draw for.
    """
    paths = {folder / f"{name}.png": draw for name, draw in PLOTS.items()}
    return [path for path, draw in paths.items() if draw(figures, path, title)]
