"""The picture for papers: images on which the ways differ most, a column for each way.

Shape shorthand in this module:
    h, w: the size at which images are shown
"""

import base64
import io

import numpy as np
from PIL import Image

from instance_seg_common.visualization.figures import new_figure

ROWS = 4


def static_comparison(cards, summaries, path, title="", rows=ROWS):
    """Input | ground truth | one way after the other, and write a PNG.

    Args:
        cards (list[dict]): of ``page.image_card``, not empty.
        summaries (list[Summary]): of the ways, in the order of the cards.
        path (Path): the file.
        title (str): names the data set.
        rows (int): images at most.
    """
    chosen = sorted(cards, key=lambda card: -card["spread"])[:rows]
    columns = 2 + len(summaries)
    heights = [2 * card["height"] / card["width"] + 0.35 for card in chosen]
    figure = new_figure(2 * columns, sum(heights) + 0.9)
    grid = figure.subplots(len(chosen), columns, squeeze=False, height_ratios=heights)
    for axes_row, card in zip(grid, chosen):
        _draw_row(axes_row, card)
    for axes, name in zip(
        grid[0], ("input", "ground truth", *(_broken(s.name) for s in summaries))
    ):
        axes.set_title(name, fontsize=8)
    figure.suptitle(f"{title}: where the ways differ most", fontsize=10)
    figure.savefig(path, dpi=200)


def _broken(name):
    """A name in two lines where it is long."""
    return name.replace("components of ", "components\nof ").replace("_R", "\nR")


def _draw_row(row, card):
    ground = decoded(card["input"])
    layers = [(None, card["name"][:24]), (card["truth"].uri, card["count"])]
    for way in card["ways"]:
        layers.append((way["mask"].uri, f"{way['found']} found, accuracy {way['accuracy']:.2f}"))
    for axes, (uri, text) in zip(row, layers):
        axes.imshow(ground if uri is None else laid_over(ground, decoded(uri)))
        axes.set_xlabel(text, fontsize=7)
        axes.set_xticks([])
        axes.set_yticks([])


def decoded(uri):
    """The picture of a data URI: (h, w, 4) uint8 RGBA."""
    data = base64.b64decode(uri.split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def laid_over(ground, layer):
    """A transparent picture (h, w, 4) on an image (h, w, 3 or 4), uint8: (h, w, 3) uint8."""
    alpha = layer[..., 3:].astype(float) / 255
    return np.round(ground[..., :3] * (1 - alpha) + layer[..., :3] * alpha).astype(np.uint8)
