"""The page that shows several ways side by side: one file that opens from disk without network.

The input of an image is stored once; masks and errors are transparent pictures that the browser
lays over it.

Shape shorthand in this module:
    H, W: image   h, w: the size at which it is stored   G: objects
"""

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tabulate import tabulate

from instance_seg_analysis.methods.base import analysis_of
from instance_seg_common.data.images import load_image
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.intervals import wilson_interval
from instance_seg_common.visualization import drawing
from instance_seg_common.visualization.colors import color_tables, instance_colors
from instance_seg_common.visualization.errors_overlay import ERROR_COLORS, errors_overlay
from instance_seg_common.visualization.figures import LINE_COLORS, MARKERS, new_figure

TEMPLATES = Path(__file__).parent / "templates"
# The longer side of a stored image in pixels: larger ones shrink, small ones grow.
SIDES = (256, 480)
# The most that a picture of the insides takes, height and width in pixels; wide ones scroll.
INTERNALS_SIZE = (520, 2600)
TINT = 0.4
BASELINES = ("classical", "components")
# The page as a whole, and of it what the pictures of the images may fill; the rest is for the
# insides, which come last.
MAX_BYTES = 29_000_000
GALLERY_BYTES = 22_000_000
REST_BYTES = 600_000
# Heading of a column, key of the figure, format, whether more is better (None: no quality).
COLUMNS = (
    ("AP", "AP", "{:.1f}", True),
    ("AP50", "AP50", "{:.1f}", True),
    ("AP75", "AP75", "{:.1f}", True),
    ("accuracy at IoU 0.5", "accuracy", "{:.3f}", True),
    ("PQ", "PQ", "{:.3f}", True),
    ("SBD", "SBD", "{:.3f}", True),
    ("|DiC|", "DiC", "{:.2f}", False),
    ("seconds an image", "seconds", "{:.3f}", None),
    ("network", "network_seconds", "{:.3f}", None),
    ("post-processing", "post_seconds", "{:.3f}", None),
    ("peak memory, MiB", "peak_mib", "{:.0f}", None),
    ("parameters, million", "parameters_million", "{:.2f}", None),
)
AXES = {
    "size": "size of the object in pixels",
    "crowding": "other objects within 2 pixels",
    "occlusion": "share of the outline that touches other objects",
}


class Layer(NamedTuple):
    """uri: a picture as a data URI; alt: what it shows, in words."""

    uri: str
    alt: str


def figures_of(summary):
    """The figures of a Summary by the keys of ``COLUMNS``; None where there is none."""
    peak = summary.peak_bytes
    return {
        **{key: None if np.isnan(v) else v for key, v in summary.metrics.items()},
        "seconds": summary.seconds,
        "network_seconds": summary.network_seconds,
        "post_seconds": summary.post_seconds,
        "peak_mib": None if peak is None else peak / 2**20,
        "parameters_million": summary.parameters / 1e6,
    }


def table_rows(summaries):
    """The table of metrics as texts.

    Args:
        summaries (list[Summary])

    Returns:
        list[dict]: ``name``, ``kind`` and ``cells``, pairs (text, whether it is the best).
    """
    figures = [figures_of(summary) for summary in summaries]
    rows = [{"name": s.name, "kind": s.kind, "cells": []} for s in summaries]
    for _, key, form, more in COLUMNS:
        texts = ["–" if f[key] is None else form.format(f[key]) for f in figures]
        known = [f[key] for f in figures if f[key] is not None]
        best = None if more is None or not known else form.format((min, max)[more](known))
        for row, text in zip(rows, texts):
            row["cells"].append((text, text == best))
    return rows


def text_table(summaries):
    """The table of metrics as text for the terminal."""
    rows = [[row["name"], *(text for text, _ in row["cells"])] for row in table_rows(summaries)]
    headers = ["way", *(column[0] for column in COLUMNS)]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def data_uri(data, kind):
    """Bytes of a file as a data URI of a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def webp(array, **options):
    """(h, w, 3 or 4) uint8 as a data URI of a WebP picture."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="WEBP", **options)
    return data_uri(buffer.getvalue(), "image/webp")


def stored_scale(height, width):
    """Factor from an image to its size on the page; small ones grow by a whole number."""
    side, (least, most) = max(height, width), SIDES
    return most / side if side > most else max(1, round(least / side))


def instance_layer(labels, colors, scale):
    """Instances as a transparent picture: tinted, with an opaque outline.

    Args:
        labels (ndarray): (H, W) int, 0 is background.
        colors (ndarray): (K + 1, 3) uint8.
        scale (float): of :func:`stored_scale`.

    Returns:
        ndarray: (h, w, 4) uint8 RGBA.
    """
    large = drawing.resize_labels(labels, scale)
    thickness = drawing.contour_thickness(labels)
    alpha = np.where(large > 0, round(255 * TINT), 0)
    alpha[drawing.boundaries(large, thickness)] = 255
    return np.dstack([colors[large], alpha.astype(np.uint8)])


def error_layer(truth, judged, errors, scale):
    """Errors in the colours of ``ERROR_COLORS`` as a transparent picture.

    Drawn on black and on white by the drawer of the other pictures: where the two agree it is
    opaque, where they differ most it is not there.

    Args:
        truth (Truth), judged (Prediction), errors (InstanceErrors): of one image.
        scale (float): of :func:`stored_scale`.

    Returns:
        ndarray: (h, w, 4) uint8 RGBA.
    """
    size = drawing.resize_labels(truth.labels, scale).shape
    black, white = (
        errors_overlay(
            np.full((*size, 3), grey, np.uint8), truth.labels, judged.labels, errors=errors
        ).astype(float)
        for grey in (0, 255)
    )
    span = max(float((white - black).max()), 1.0)
    alpha = 1 - (white - black).mean(axis=2) / span
    color = black / np.maximum(alpha, 1e-3)[..., None]
    return np.dstack([color.clip(0, 255), 255 * alpha]).round().astype(np.uint8)


def image_card(image, ways):
    """What the page says and shows of one image.

    Args:
        image (ImageOutcome): with its maps.
        ways (list[Way]): that ran on it.

    Returns:
        dict: for the template.
    """
    record, truth = image.record, image.truth
    scale = stored_scale(*truth.labels.shape)
    bright, changed = drawing.brighten(load_image(record["file_name"]))
    small = drawing.resize_image(bright, scale)
    name, objects = Path(record["file_name"]).name, len(image.area)
    colors = instance_colors(int(truth.labels.max(initial=0)))
    maps = [image.outcomes[way.name].prediction.labels for way in ways]
    tables = color_tables(truth.labels, maps)
    spread = image.spread([w.name for w in ways if w.kind == "trained"] or [w.name for w in ways])
    return {
        "name": name,
        "image_id": record["image_id"],
        "objects": objects,
        "count": _count(objects),
        "width": small.shape[1],
        "height": small.shape[0],
        "alt": f"Input image {name}, annotated: {_count(objects)}"
        + (", shown brighter than it is" if changed else ""),
        "input": webp(small, quality=80),
        "truth": Layer(
            webp(instance_layer(truth.labels, colors, scale), lossless=True),
            f"Ground truth of {name}: {_count(objects)}",
        ),
        "spread": spread[0],
        "sbd_spread": spread[1],
        "ways": [way_card(image, *pair, name, scale) for pair in zip(ways, tables)],
        "internals": [],
    }


def way_card(image, way, colors, name, scale):
    """One way on one image, for :func:`image_card`."""
    outcome = image.outcomes[way.name]
    matching = outcome.scores.matchings[0]
    return {
        "name": way.name,
        "accuracy": matching.accuracy,
        "sbd": outcome.scores.sbd,
        "found": matching.tp,
        "predicted": outcome.scores.n_pred,
        "mask": Layer(
            webp(instance_layer(outcome.prediction.labels, colors, scale), lossless=True),
            f"{way.name} on {name}: {_count(outcome.scores.n_pred)} predicted, {matching.tp} of "
            f"{matching.tp + matching.fn} found",
        ),
        "errors": Layer(
            webp(error_layer(image.truth, outcome.judged, outcome.errors, scale), lossless=True),
            f"Errors of {way.name} on {name}: {error_words(outcome.errors)}",
        ),
    }


def _count(objects):
    return "1 object" if objects == 1 else f"{objects} objects"


def error_counts(errors):
    """{kind: number} of InstanceErrors, only those that occur."""
    counts = {
        "missed": len(errors.missed),
        "invented": len(errors.invented),
        "merged": len(errors.merged),
        "split": len(errors.split),
        "poor": len(errors.poor) + len(errors.poor_predictions),
    }
    return {kind: number for kind, number in counts.items() if number}


def error_words(errors):
    """The errors of an image as text."""
    parts = [f"{number} {kind}" for kind, number in error_counts(errors).items()]
    return ", ".join(parts) or "none"


def card_bytes(card):
    """Bytes that a card takes on the page, its insides left out."""
    layers = [card["truth"], *(w[key] for w in card["ways"] for key in ("mask", "errors"))]
    return len(card["input"]) + sum(len(x.uri) + len(x.alt) for x in layers) + 2000


def internals_layer(picture, way, name):
    """The picture of a model's insides, small enough for the page.

    Args:
        picture (ndarray): (H, W, 3) uint8.
        way (Way): of which they are.
        name (str): of the image.

    Returns:
        Layer
    """
    scale = min(1.0, *(most / side for most, side in zip(INTERNALS_SIZE, picture.shape)))
    small = drawing.resize_image(picture, scale) if scale < 1 else picture
    shown = analysis_of(way.cfg.MODEL.META_ARCHITECTURE).shows
    return Layer(webp(small, quality=75), f"Inside {way.name} on {name}: {shown}")


def choose_cards(cards, limit=GALLERY_BYTES):
    """The cards that fit on the page, those on which the ways differ most first.

    Args:
        cards (list[dict])
        limit (int): bytes.

    Returns:
        list[dict]: in the order of ``cards``.
    """
    chosen, used = set(), 0
    for card in sorted(cards, key=lambda card: -card["spread"]):
        used += card_bytes(card)
        if used > limit:
            break
        chosen.add(id(card))
    return [card for card in cards if id(card) in chosen]


def _svg(figure):
    buffer = io.BytesIO()
    # Without a date, so that the same figures give the same file.
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return data_uri(buffer.getvalue(), "image/svg+xml")


def bins_plot(bins, axis):
    """AP and recall by bin, a line for each way; recall with 95 % intervals.

    Args:
        bins (list[Bin]): those without objects are left out.
        axis (str): what the bins are of.

    Returns:
        str: a data URI.
    """
    bins = [b for b in bins if b.objects]
    figure = new_figure(5.2, 6)
    precision, recall = figure.subplots(2, 1, sharex=True)
    ways = list(bins[0].found) if bins else []
    for index, way in enumerate(ways):
        _precision_line(precision, bins, way, index, len(ways))
        _recall_line(recall, bins, way, index, len(ways))
    recall.set_xticks(range(len(bins)), [f"{b.name}\n{b.objects} obj." for b in bins], fontsize=8)
    recall.set_xlabel(axis)
    precision.set_ylabel("AP")
    precision.set_ylim(-2, 104)
    recall.set_ylabel("recall at IoU 0.5")
    recall.set_ylim(-0.02, 1.04)
    for axes in (precision, recall):
        axes.grid(alpha=0.3, axis="y")
    if ways:
        handles = recall.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return _svg(figure)


def _places(count, index, ways):
    """Where a way's points lie along the axis: beside those of the other ways."""
    return np.arange(count) + 0.06 * (index - (ways - 1) / 2)


def _precision_line(axes, bins, way, index, count):
    values = [np.nan if b.AP[way] is None else b.AP[way] for b in bins]
    axes.plot(
        _places(len(bins), index, count), values,
        color=LINE_COLORS[index % 7], marker=MARKERS[index % 7],
    )  # fmt: skip


def _recall_line(axes, bins, way, index, count):
    shares = np.array([b.found[way] / b.objects for b in bins])
    ends = np.array([wilson_interval(b.found[way], b.objects) for b in bins])
    places = _places(len(bins), index, count)
    color, marker = LINE_COLORS[index % 7], MARKERS[index % 7]
    error = np.abs(ends.T - shares)
    axes.errorbar(
        places, shares, error, label=way, color=color, marker=marker, capsize=2, elinewidth=0.8
    )


def quality_plot(summaries):
    """Accuracy, PQ, SBD and AP as bars of each way: a data URI."""
    figure = new_figure(5.2, 4)
    axes = figure.add_subplot()
    keys, width = ("accuracy", "PQ", "SBD", "AP"), 0.84 / len(summaries)
    for index, summary in enumerate(summaries):
        values = [summary.metrics[key] / (100 if key == "AP" else 1) for key in keys]
        places = np.arange(len(keys)) + (index - (len(summaries) - 1) / 2) * width
        axes.bar(places, values, width, label=summary.name, color=LINE_COLORS[index % 7])
    axes.set_xticks(range(len(keys)), ["accuracy\nat IoU 0.5", "PQ", "SBD", "AP / 100"])
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return _svg(figure)


def time_plot(summaries):
    """Seconds an image in the network and after it, a bar for each way: a data URI."""
    figure = new_figure(5.2, 0.5 * len(summaries) + 1.5)
    axes = figure.add_subplot()
    places = np.arange(len(summaries))[::-1]
    known = [s.network_seconds is not None for s in summaries]
    network = [s.network_seconds if k else 0 for s, k in zip(summaries, known)]
    after = [s.post_seconds if k else 0 for s, k in zip(summaries, known)]
    whole = [0 if k else s.seconds for s, k in zip(summaries, known)]
    axes.barh(places, network, label="network", color=LINE_COLORS[0])
    axes.barh(places, after, left=network, label="post-processing", color=LINE_COLORS[4])
    if any(whole):
        axes.barh(places, whole, label="not split", color="#999999")
    names = [s.name.replace("components of ", "components of\n") for s in summaries]
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlabel("seconds an image")
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return _svg(figure)


def plots_of(summaries, bins):
    """All plots of the page.

    Args:
        summaries (list[Summary])
        bins (dict[str, list[Bin]]): of ``Contest.bins``.

    Returns:
        list[dict]: ``title``, ``uri``, ``alt``, ``headers`` and ``rows`` of the figures as a table.
    """
    plots = [
        {
            "title": "Quality",
            "uri": quality_plot(summaries),
            "alt": "Bars of accuracy, PQ, SBD and AP of each way; the figures are in the table "
            "above.",
            "headers": [],
            "rows": [],
        },
        {
            "title": "Time",
            "uri": time_plot(summaries),
            "alt": "Seconds an image of each way, split into network and post-processing; the "
            "figures are in the table above.",
            "headers": [],
            "rows": [],
        },
    ]
    for key, axis in AXES.items():
        plots.append(
            {
                "title": f"AP and recall by {key}",
                "uri": bins_plot(bins[key], axis),
                "alt": f"AP of each way by {axis}, and below it recall with 95 % intervals; the "
                "figures are in the table below.",
                "headers": [axis, "objects", *(f"{s.name}: AP / recall" for s in summaries)],
                "rows": [_bin_row(b) for b in bins[key] if b.objects],
            }
        )
    return plots


def _bin_row(entry):
    cells = [
        f"{'–' if entry.AP[way] is None else format(entry.AP[way], '.1f')} / "
        f"{found / entry.objects:.3f}"
        for way, found in entry.found.items()
    ]
    return [entry.name, entry.objects, *cells]


def context(title, cards, summaries, bins, failures, machine):
    """What the template names.

    Args:
        title, machine (str): the heading; the machine in words.
        cards (list[dict]): of the images that are shown.
        summaries (list[Summary]), bins (dict[str, list[Bin]]): of the ways.
        failures (list[str]): sentences.

    Returns:
        dict: ``hidden_images`` is 0 and may be changed.
    """
    return {
        "title": title,
        "images": cards,
        "hidden_images": 0,
        "num_objects": sum(entry.objects for entry in bins["size"]),
        "most_objects": max((card["objects"] for card in cards), default=0),
        "rows": table_rows(summaries),
        "plots": plots_of(summaries, bins),
        "failures": failures,
        "machine": machine,
        "configs": [f"{s.name}: {s.architecture}, {s.weights or 'no weights'}" for s in summaries],
    }


def render(context):
    """The page.

    Args:
        context (dict): what the template names.

    Returns:
        str: HTML.

    Raises:
        UserError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise UserError(f"The page needs jinja2 ({error}): pip install jinja2.") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    colors = {kind: "#" + bytes(color).hex() for kind, color in ERROR_COLORS.items()}
    return environment.get_template("comparison.html.j2").render(
        columns=[column[0] for column in COLUMNS], error_colors=colors, **context
    )
