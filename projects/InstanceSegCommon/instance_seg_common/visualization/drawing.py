"""Drawing on RGB arrays: label maps with contours, boxes, text, panels side by side.

Detectron2's Visualizer renders through a matplotlib figure and draws contours at image resolution;
with 60 touching nuclei on 256x256 pixels its lines cover the objects. Here labels are enlarged
first and outlined afterwards.

Shape shorthand in this module:
    H, W: the picture   K: largest instance id
"""

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colors import Color

# A text and the colour of the square before it; None for a text without a square.
LegendEntry = tuple[str, Optional[Color]]

MIN_WIDTH = 512
MAX_SIDE = 1000
TEXT_SIZE = 14
GAP = 6
BACKGROUND = (24, 24, 28)
FOREGROUND = (235, 235, 235)
# With more instances than this, contours are one pixel wide.
CROWDED = 40


def display_scale(height: int, width: int) -> float:
    """Factor from image pixels to screen pixels.

    Small images grow by a whole number to at least ``MIN_WIDTH`` pixels in width, large ones shrink
    until the longer side is ``MAX_SIDE``.
    """
    if max(height, width) > MAX_SIDE:
        return MAX_SIDE / max(height, width)
    scale = math.ceil(MIN_WIDTH / width)
    limit = max(1, MAX_SIDE // max(height, width))
    return min(scale, limit)


def resize_image(image: np.ndarray, scale: float) -> np.ndarray:
    """(H, W, 3) uint8 to its display size, smoothly."""
    size = _scaled_size(image, scale)
    resample = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size, resample))


def resize_labels(labels: np.ndarray, scale: float) -> np.ndarray:
    """(H, W) ids to their display size; no id is invented between two others."""
    return _resized_labels(labels, _scaled_size(labels, scale))


def labels_like(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(H, W) ids at the size of an image (H', W', ...); no id is invented between two others."""
    return _resized_labels(labels, (image.shape[1], image.shape[0]))


def _resized_labels(labels, size):
    return np.asarray(
        Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    )


def _scaled_size(array, scale):
    height, width = array.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


def brighten(image: np.ndarray) -> "tuple[np.ndarray, bool]":
    """Stretch an image too dark for the screen; others come back unchanged.

    Fluorescence images often use a tenth of the 8 bits, or hold one bright speck that leaves the
    objects in the dark: the first is a matter of scale, the second of gamma.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        The (H, W, 3) uint8 image, and whether it was changed.
    """
    median, high, top = np.percentile(image, (50, 90, 99.5)) / 255
    factor = 0.9 / max(top, 0.03) if top < 0.5 else 1.0
    gamma = 1.0
    if median < 0.15 and high * factor < 0.35:
        gamma = max(0.5, math.log(0.4) / math.log(max(high * factor, 0.01)))
    if factor == gamma == 1.0:
        return image, False
    levels = np.clip(np.arange(256) / 255 * factor, 0, 1) ** gamma
    return np.rint(255 * levels).astype(np.uint8)[image], True


def contour_thickness(labels: np.ndarray) -> int:
    """Width in pixels of the contours of a label map (H, W)."""
    return 1 if len(np.unique(labels)) > CROWDED else 2


def boundaries(labels: np.ndarray, thickness: int = 1) -> np.ndarray:
    """Pixels of an instance that touch another id.

    Args:
        labels: (H, W) int.
        thickness: pixels, inwards; the picture's rim is no boundary.

    Returns:
        (H, W) bool.
    """
    result = np.zeros(labels.shape, dtype=bool)
    remaining = labels
    for _ in range(thickness):
        edge = np.zeros_like(result)
        down = remaining[1:] != remaining[:-1]
        right = remaining[:, 1:] != remaining[:, :-1]
        edge[1:] |= down
        edge[:-1] |= down
        edge[:, 1:] |= right
        edge[:, :-1] |= right
        result |= edge & (remaining > 0)
        remaining = np.where(result, 0, labels)
    return result


def overlay_labels(
    image: np.ndarray,
    labels: np.ndarray,
    colors: np.ndarray,
    *,
    alpha: float = 0.4,
    thickness: int = 1,
) -> np.ndarray:
    """Tint the instances and outline them.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) int, 0 to K, at the size of the image.
        colors: (K + 1, 3) uint8 RGB.
        alpha: opacity of the tint in [0, 1]; contours are opaque.
        thickness: of the contours in pixels.

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    result = image.copy()
    inside = labels > 0
    tint = colors[labels[inside]].astype(np.float32)
    result[inside] = (image[inside] * (1 - alpha) + tint * alpha).astype(np.uint8)
    edge = boundaries(labels, thickness)
    result[edge] = colors[labels[edge]]
    return result


def hatch(image: np.ndarray, region: np.ndarray, spacing: int = 8) -> np.ndarray:
    """Stripe a region (H, W) bool that does not count (crowd, void)."""
    rows, columns = np.indices(region.shape)
    stripes = region & ((rows + columns) % spacing < 2)
    result = image.copy()
    result[stripes] = (150, 150, 150)
    return result


def draw_boxes(
    image: np.ndarray,
    boxes: "Sequence[Sequence[float]] | np.ndarray",
    colors: Sequence[Color],
    *,
    width: int = 1,
) -> np.ndarray:
    """Draw rectangles.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) XYXY in pixels of the image.
        colors: N of them; later boxes lie over earlier ones.
        width: of the lines in pixels.

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for (x0, y0, x1, y1), color in zip(boxes, colors):
        corners = [min(x0, x1 - 1), min(y0, y1 - 1), x1 - 1, y1 - 1]
        draw.rectangle([float(v) for v in corners], outline=tuple(color), width=width)
    return np.asarray(canvas)


def draw_tags(
    image: np.ndarray, tags: "Sequence[tuple[float, float, str, Color]]", size: int = 12
) -> np.ndarray:
    """Write short texts on dark ground.

    Args:
        image: (H, W, 3) uint8 RGB.
        tags: (x, y, text, colour), the left bottom corner in pixels.
        size: of the letters in pixels.

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    font = _font(size)
    for x, y, text, color in tags:
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        wide, high = right - left + 4, bottom - top + 4
        x = min(max(x, 0), max(image.shape[1] - wide, 0))
        y = min(max(y - high, 0), max(image.shape[0] - high, 0))
        draw.rectangle([x, y, x + wide, y + high], fill=(0, 0, 0))
        draw.text((x + 2 - left, y + 2 - top), text, font=font, fill=tuple(color))
    return np.asarray(canvas)


def _font(size):
    try:
        return ImageFont.load_default(size)
    except (TypeError, ImportError, OSError):  # Pillow before 10.1, or built without FreeType
        return ImageFont.load_default()


def text_strip(parts: Sequence[LegendEntry], width: int, size: int = TEXT_SIZE) -> np.ndarray:
    """Lines of text, broken where they would not fit.

    Args:
        parts: in their order; one with a colour gets a square before it.
        width: pixels.
        size: of the letters in pixels.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    font = _font(size)
    line_height = size + 8
    placed, x, y = [], 4, 0
    for text, color in parts:
        wide = math.ceil(font.getlength(text)) + 16 + (size + 4 if color else 0)
        if x > 4 and x + wide > width:
            x, y = 4, y + line_height
        placed.append((x, y, text, color))
        x += wide
    canvas = Image.new("RGB", (width, y + line_height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for x, y, text, color in placed:
        if color:
            draw.rectangle([x, y + 5, x + size - 3, y + size + 2], fill=tuple(color))
            x += size + 4
        draw.text((x, y + 2), _fit(text, font, width - x), font=font, fill=FOREGROUND)
    return np.asarray(canvas)


def _fit(text, font, width):
    """The text, its middle left out if it is too long: the ends of file names tell them apart."""
    if font.getlength(text) <= width:
        return text
    keep = len(text)
    while keep > 4 and font.getlength(_shortened(text, keep)) > width:
        keep -= 1
    return _shortened(text, keep)


def _shortened(text, keep):
    half = keep // 2
    return text[:half] + "..." + text[len(text) - half :]


def side_by_side(
    panels: "Sequence[tuple[str, np.ndarray]]",
    header: Optional[str] = None,
    legend: Optional[Sequence[LegendEntry]] = None,
) -> np.ndarray:
    """Compose a picture.

    Args:
        panels: (title, (H, W, 3) uint8 RGB), all of one height.
        header: a line above all.
        legend: parts of :func:`text_strip`, below all.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    columns = []
    strips = [text_strip([(title, None)], image.shape[1]) for title, image in panels]
    for index, ((_, image), strip) in enumerate(zip(panels, strips)):
        column = np.concatenate([strip, image])
        if index:
            columns.append(np.full((len(column), GAP, 3), BACKGROUND, dtype=np.uint8))
        columns.append(column)
    picture = np.concatenate(columns, axis=1)
    parts = [picture]
    if header:
        parts.insert(0, text_strip([(header, None)], picture.shape[1]))
    if legend:
        parts.append(text_strip(legend, picture.shape[1]))
    return np.concatenate(parts)
