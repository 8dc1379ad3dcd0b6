"""Plots of the four limits, from the figures of ``limits.figures_of``.

All take {way: figures}, a path for the PNG and a title that names the data set.
"""

import numpy as np

from instance_seg_common.visualization.figures import LINE_COLORS, MARKERS, new_figure

GROUP_STYLES = (("-", "#000000"), ("-", "#56B4E9"), ("--", "#009E73"), (":", "#D55E00"))
DPI = 110


def _figure(size, rows=1, columns=1, **options):
    """A figure without a display and its axes, (rows, columns)."""
    figure = new_figure(*size)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _numbers(values):
    """List of float or None as floats, nan for None."""
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _finish(figure, path, title, handles=None, columns=2):
    figure.suptitle(title)
    if handles:
        lines, names = handles
        figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False)
    figure.savefig(path, dpi=DPI)


def neighbours_plot(figures, path, title=""):
    """Recall by box IoU with the nearest neighbour, of masks and of boxes, a line for each way."""
    figure, (axes,) = _figure((12, 5.5), 1, 2, sharey=True)
    rules = {
        f"{way}, {rule}" if rule else way: found
        for way, f in figures.items()
        for rule, found in f["neighbours"].items()
    }
    for axis, kind, name in zip(axes, ("bins", "box_bins"), ("masks", "boxes")):
        for index, (label, found) in enumerate(rules.items()):
            _recall_line(axis, _occupied(found[kind]), index, len(rules), label)
        bins = _occupied(next(iter(rules.values()))[kind])
        ticks = [f"{b['low']:g} to {b['high']:g}\n{b['objects']} objects" for b in bins]
        axis.set_xticks(range(len(ticks)), ticks, fontsize=9)
        axis.set_xlim(-0.5, max(len(ticks), 1) - 0.5)
        axis.set_xlabel("box IoU with the nearest neighbour")
        axis.set_ylabel(f"recall of {name} at IoU 0.5 (bars: 95 % interval)")
        axis.set_ylim(0, 1.05)
        axis.grid(alpha=0.3, axis="y")
    _finish(figure, path, title, axes[0].get_legend_handles_labels(), columns=3)


def _occupied(bins):
    """The bins that have objects."""
    return [b for b in bins if b["objects"]]


def _recall_line(axis, bins, index, number, label):
    """One of a number of lines with its intervals."""
    recall = _numbers([b["recall"] for b in bins])
    bounds = _numbers([x for b in bins for x in b["interval"] or (None, None)]).reshape(-1, 2)
    # Side by side, so that the bars of the intervals do not hide each other.
    places = np.arange(len(bins)) + 0.07 * (index - (number - 1) / 2)
    axis.errorbar(
        places, recall, np.maximum(np.abs(bounds.T - recall), 0), label=label,
        marker=MARKERS[index % len(MARKERS)], color=LINE_COLORS[index % len(LINE_COLORS)],
        capsize=2, linewidth=1.5, elinewidth=0.8, markersize=5,
        linestyle="-" if index < len(LINE_COLORS) else "--",
    )  # fmt: skip


def sweep_plot(figures, path, title=""):
    """AP and count error by knob value, a column for each way, a line for each crowding."""
    sweeps = {way: f["sweep"] for way, f in figures.items() if f["sweep"]}
    if not sweeps:
        return False
    columns = len(sweeps)
    figure, axes = _figure((1.5 + 3.6 * columns, 6.5), 2, columns, sharey="row", sharex="col")
    for column, (way, sweep) in zip(axes.T, sweeps.items()):
        _sweep_column(column, way, sweep)
    axes[0, 0].set_ylabel("mask AP in percent")
    axes[1, 0].set_ylabel("mean |difference in count|")
    axes[0, 0].set_ylim(bottom=0)
    # A knob at its end can split every object; the interesting part is near the minimum.
    axes[1, 0].set_yscale("symlog", linthresh=1)
    axes[1, 0].set_ylim(bottom=0)
    axes[1, 0].yaxis.set_major_formatter("{x:g}")
    _finish(figure, path, title, axes[0, 0].get_legend_handles_labels(), columns=4)
    return True


def _sweep_column(column, way, sweep):
    """One way's two axes."""
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
    column[0].set_title(way + ("" if spread is None else f"\nAP spread {spread:.1f}"), fontsize=10)
    column[1].set_xlabel(f"{sweep['name']}\n(dash-dotted: config)")


def claims_plot(figures, path, title=""):
    """Share of the pixels claimed twice or more and for different objects, bars by way."""
    figure, ((axes,),) = _figure((7, 4.5))
    names = ("claimed by two or more instances", "claimed for different objects")
    places = np.arange(len(figures))
    for index, (key, name) in enumerate(zip(("share_twice", "share_disputed"), names)):
        shares = 100 * _numbers([f["claims"][key] for f in figures.values()])
        bars = axes.bar(
            places + 0.4 * index - 0.2, shares, 0.38, label=name, color=LINE_COLORS[index]
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=9)
    axes.set_xticks(places, [way.replace("_", "_\u200b") for way in figures])
    axes.set_ylabel("percent of the claimed pixels")
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    _finish(figure, path, title, axes.get_legend_handles_labels())


def capacity_plot(figures, path, title=""):
    """Recall and relative count error by the number of objects over what a limit allows."""
    figure, ((recall, error),) = _figure((11, 5), 1, 2)
    curves = [
        (f"{way}, {key.rsplit('.', 1)[-1]}", found["curve"])
        for way, f in figures.items()
        for key, found in f["capacity"].items()
    ]
    if not curves:
        return False
    for index, (name, curve) in enumerate(curves):
        style = {
            "label": name, "marker": MARKERS[index % len(MARKERS)], "markersize": 5,
            "color": LINE_COLORS[index % len(LINE_COLORS)], "alpha": 0.9,
        }  # fmt: skip
        places = np.arange(len(curve))
        recall.plot(places, _numbers([b["recall"] for b in curve]), **style)
        error.plot(places, _numbers([b["relative_count_error"] for b in curve]), **style)
    bounds = dict.fromkeys(tuple(b["bound"] for b in curve) for _, curve in curves)
    for index, bound in enumerate(bounds):
        label = "most that can be found" if index == 0 else None
        recall.plot(range(len(bound)), _numbers(bound), "k--", linewidth=1, label=label)
    for axes in (recall, error):
        axes.set_xticks(range(len(curves[0][1])), [_ratio_name(b) for b in curves[0][1]])
        axes.set_xlabel("objects in the image / limit")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    recall.set_ylabel("recall at mask IoU 0.5")
    error.set_ylabel("|difference in count| / objects")
    _finish(figure, path, title, recall.get_legend_handles_labels(), columns=2)
    return True


def _ratio_name(found):
    """Name of a bin of the capacity curve."""
    if found["high"] is None:
        return f"> {found['low']:g}"
    return f"\u2264 {found['high']:g}" if found["low"] == 0 else (
        f"{found['low']:g} to\n{found['high']:g}"
    )  # fmt: skip


# Name of the file -> function that draws it.
PLOTS = {
    "limit1_neighbours": neighbours_plot,
    "limit2_sweep": sweep_plot,
    "limit3_claims": claims_plot,
    "limit4_capacity": capacity_plot,
}


def write_plots(figures, folder, title=""):
    """Write all plots.

    Args:
        figures (dict[str, dict]): way -> figures.
        folder (Path): exists.
        title (str): names the data set and the number of images.

    Returns:
        list[Path]: those that there was something to draw for.
    """
    paths = {folder / f"{name}.png": draw for name, draw in PLOTS.items()}
    return [path for path, draw in paths.items() if draw(figures, path, title) is not False]
