"""The picture for papers: images on which results differ most, a column for each model.

Shape shorthand in this module:
    h, w: the size at which images are shown
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from instance_seg_analysis.comparison.cards import ImageCard
from instance_seg_analysis.comparison.run import Summary
from instance_seg_common.visualization.figures import new_figure

if TYPE_CHECKING:  # matplotlib is optional
    from matplotlib.axes import Axes

ROWS = 4


def static_comparison(
    cards: Sequence[ImageCard],
    summaries: Sequence[Summary],
    path: Path,
    *,
    title: str = "",
    rows: int = ROWS,
) -> None:
    """Input | ground truth | one model after the other, and write a PNG.

    Args:
        cards (list[ImageCard]): not empty.
        summaries (list[Summary]): of the models, in the order of the cards.
        path (Path): the file.
        title (str): names the data set.
        rows (int): images at most.
    """
    chosen = sorted(cards, key=lambda card: -card.spread)[:rows]
    columns = 2 + len(summaries)
    heights = [2 * card.height / card.width + 0.35 for card in chosen]
    figure = new_figure(2 * columns, sum(heights) + 0.9)
    grid = figure.subplots(len(chosen), columns, squeeze=False, height_ratios=heights)
    for axes_row, card in zip(grid, chosen):
        _draw_row(axes_row, card)
    for axes, name in zip(
        grid[0], ("input", "ground truth", *(_broken(s.name) for s in summaries))
    ):
        axes.set_title(name, fontsize=8)
    figure.suptitle(f"{title}: where the models differ most", fontsize=10)
    figure.savefig(path, dpi=200)


def _broken(name: str) -> str:
    """A name in two lines where it is long."""
    return name.replace("components of ", "components\nof ").replace("_R", "\nR")


def _draw_row(row: "Sequence[Axes]", card: ImageCard) -> None:
    ground = decoded(card.input)
    layers = [(None, card.name[:24]), (card.truth.uri, card.count)]
    for model in card.models:
        layers.append((model.mask.uri, f"{model.found} found, accuracy {model.accuracy:.2f}"))
    for axes, (uri, text) in zip(row, layers):
        axes.imshow(ground if uri is None else laid_over(ground, decoded(uri)))
        axes.set_xlabel(text, fontsize=7)
        axes.set_xticks([])
        axes.set_yticks([])


def decoded(uri: str) -> np.ndarray:
    """The picture of a data URI: (h, w, 4) uint8 RGBA."""
    data = base64.b64decode(uri.split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def laid_over(ground: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """A transparent picture (h, w, 4) on an image (h, w, 3 or 4), uint8: (h, w, 3) uint8."""
    alpha = layer[..., 3:].astype(float) / 255
    return np.round(ground[..., :3] * (1 - alpha) + layer[..., :3] * alpha).astype(np.uint8)
