"""The plots of the page, each with its figures as a table."""

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from instance_seg_analysis.comparison.layers import data_uri
from instance_seg_analysis.comparison.objects import Bin
from instance_seg_analysis.comparison.run import Bins, Summary
from instance_seg_common.evaluation.intervals import wilson_interval
from instance_seg_common.visualization.figures import LINE_COLORS, MARKERS, new_figure

if TYPE_CHECKING:  # matplotlib is optional
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 32  # characters of a line of a legend
AXES = {
    "size": "size of the object in pixels",
    "crowding": "other objects within 2 pixels",
    "occlusion": "share of the outline that touches other objects",
}


class Plot(NamedTuple):
    """title; uri: the plot as a data URI; alt: what it shows, in words; headers, rows: its figures
    as a table, empty where another table has them."""

    title: str
    uri: str
    alt: str
    headers: Sequence[str] = ()
    rows: "Sequence[Sequence[str]]" = ()


def plots_of(summaries: Sequence[Summary], bins: Bins) -> "list[Plot]":
    """All plots of the page.

    Args:
        summaries (list[Summary])
        bins (dict[str, list[Bin]]): of ``Comparison.bins``.
    """
    above = "the figures are in the table above."
    plots = [
        Plot(
            "Quality",
            quality_plot(summaries),
            f"Bars of accuracy, PQ, SBD and AP of each model; {above}",
        ),
        Plot(
            "Time",
            time_plot(summaries),
            f"Seconds an image of each model, split into network and post-processing; {above}",
        ),
    ]
    names = [f"{summary.name}: AP / recall" for summary in summaries]
    for key, axis in AXES.items():
        occupied = [b for b in bins[key] if b.objects]
        alt = (
            f"AP of each model by {axis}, and below it recall with 95 % intervals; the figures are "
            "in the table below."
        )
        plots.append(
            Plot(
                f"AP and recall by {key}",
                bins_plot(occupied, axis),
                alt,
                headers=[axis, "objects", *names],
                rows=[_bin_row(b) for b in occupied],
            )  # fmt: skip
        )
    return plots


def _bin_row(entry: Bin) -> "list[str]":
    cells = [
        f"{'–' if entry.AP[model] is None else format(entry.AP[model], '.1f')} / "
        f"{found / entry.objects:.3f}"
        for model, found in entry.found.items()
    ]
    return [entry.name, str(entry.objects), *cells]


def bins_plot(bins: Sequence[Bin], axis: str) -> str:
    """AP and recall by bin, a line for each model; recall with 95 % intervals.

    Args:
        bins (list[Bin]): that have objects.
        axis (str): what the bins are of.

    Returns:
        str: a data URI.
    """
    figure = new_figure(5.2, 6)
    precision, recall = figure.subplots(2, 1, sharex=True)
    models = list(bins[0].found) if bins else []
    for index, model in enumerate(models):
        # Beside the points of other models.
        places = np.arange(len(bins)) + 0.06 * (index - (len(models) - 1) / 2)
        style = {"color": LINE_COLORS[index % 7], "marker": MARKERS[index % 7]}
        ap = [np.nan if b.AP[model] is None else b.AP[model] for b in bins]
        precision.plot(places, ap, **style)
        shares, error = _recall(bins, model)
        recall.errorbar(
            places, shares, error, label=_wrapped(model), capsize=2, elinewidth=0.8, **style
        )
    recall.set_xticks(range(len(bins)), [f"{b.name}\n{b.objects} obj." for b in bins], fontsize=8)
    recall.set_xlabel(axis)
    precision.set_ylabel("AP")
    precision.set_ylim(-2, 104)
    recall.set_ylabel("recall at IoU 0.5")
    recall.set_ylim(-0.02, 1.04)
    for axes in (precision, recall):
        axes.grid(alpha=0.3, axis="y")
    if models:
        handles = recall.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return _svg(figure)


def _recall(bins: Sequence[Bin], model: str) -> "tuple[np.ndarray, np.ndarray]":
    """Recall of each bin; how far its interval reaches below and above, (2, bins)."""
    shares = np.array([b.found[model] / b.objects for b in bins])
    ends = np.array([wilson_interval(b.found[model], b.objects) for b in bins])
    return shares, np.abs(ends.T - shares)


def quality_plot(summaries: Sequence[Summary]) -> str:
    """Accuracy, PQ, SBD and AP as bars of each model: a data URI."""
    figure = new_figure(5.2, 4)
    axes = figure.add_subplot()
    keys, width = ("accuracy", "PQ", "SBD", "AP"), 0.84 / len(summaries)
    for index, summary in enumerate(summaries):
        values = [summary.metrics[key] / (100 if key == "AP" else 1) for key in keys]
        places = np.arange(len(keys)) + (index - (len(summaries) - 1) / 2) * width
        axes.bar(places, values, width, label=_wrapped(summary.name), color=LINE_COLORS[index % 7])
    axes.set_xticks(range(len(keys)), ["accuracy\nat IoU 0.5", "PQ", "SBD", "AP / 100"])
    axes.set_ylim(0, 1)
    _finish(axes, "y", columns=2)
    return _svg(figure)


def time_plot(summaries: Sequence[Summary]) -> str:
    """Seconds an image in the network and after it, a bar for each model: a data URI."""
    figure = new_figure(5.2, 0.5 * len(summaries) + 1.5)
    axes = figure.add_subplot()
    places = np.arange(len(summaries))[::-1]
    network = [s.network_seconds or 0 for s in summaries]
    after = [s.post_seconds or 0 for s in summaries]
    whole = [s.seconds if s.network_seconds is None else 0 for s in summaries]
    axes.barh(places, network, label="network", color=LINE_COLORS[0])
    axes.barh(places, after, left=network, label="post-processing", color=LINE_COLORS[4])
    if any(whole):
        axes.barh(places, whole, label="not split", color="#999999")
    names = [_wrapped(s.name) for s in summaries]
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlabel("seconds an image")
    _finish(axes, "x", columns=3)
    return _svg(figure)


def _finish(axes: "Axes", grid: str, *, columns: int) -> None:
    """Grid lines behind the bars, and the legend below."""
    axes.grid(alpha=0.3, axis=grid)
    axes.set_axisbelow(True)
    axes.figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _wrapped(name: str) -> str:
    """A model's name as lines that two columns of a legend have room for."""
    return textwrap.fill(name, WIDTH)


def _svg(figure: "Figure") -> str:
    buffer = io.BytesIO()
    # Without a date, so that the same figures give the same file.
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return data_uri(buffer.getvalue(), "image/svg+xml")
