"""The insides of a recurrent model: which object it finds at which step, and where it stops.

All panels show the grid that the network saw, to which the image is fitted.

Shape shorthand in this module:
    T: steps   C: classes   h, w: network input without padding   H', W': the picture
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from instance_seg_analysis.internals.pictures import apart, heat_map, in_rows, padded
from instance_seg_common.visualization import drawing
from instance_seg_common.visualization.colors import instance_color
from instance_seg_common.visualization.drawing import CROWDED

MASK_THRESHOLD = 0.5
STOP = (255, 80, 80)
CROSS_LINE = ("white cross: the point at which a step looks", None)
LEGEND = [
    ("stop: the objectness, that an object is left, is below its threshold", STOP),
    ("masks: probability 0 dark, 1 bright, outlined at one half, tiny ones framed", None),
    CROSS_LINE,
    ("white line: from object to object in the order of the steps", None),
]
# Up to so many steps, tiles are large. Sides of a square tile in pixels; others have its area.
SHORT = 8
LARGE_TILE, SMALL_TILE = 204, 140
NARROWEST = 134  # pixels that the text above a tile needs
CAPTION_SIZE = 12
# Up to so many objects, the lines between them are thick.
FEW = 12
# A mask with smaller sides on its tile, in pixels, gets a frame so many pixels away.
TINY, FRAME = 16, 5
CROSS = 4  # half the size of the cross at a point, in pixels of the tile
# What is left of the image's brightness below a heat map, and how much a sure mask hides of that.
DIMMED, HEAT_OPACITY = 0.6, 0.85


def draw_recurrent(
    image: np.ndarray,
    internals: Mapping[str, Tensor],
    dataset_dict: Optional[Mapping[str, Any]] = None,
    *,
    name: str = "",
) -> np.ndarray:
    """All objects, numbered in the order in which they are found | step after step.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB; fitted to the network input.
        internals (dict[str, Tensor]): ``masks`` (T, h, w) in [0, 1], ``class_probabilities``
            (T, C), ``objectness`` (T,), ``count`` (): how many steps come before the end; the step
            at ``count``, if there is one, is where the model has said stop; optional ``points``
            (T, 2), x and y on the masks' grid, at which the steps look.
        dataset_dict (dict or None): optional ``thing_classes``, the names of the classes.
        name (str): for the header.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    parts = {key: value.detach().cpu() for key, value in internals.items()}
    masks, count = parts["masks"], int(parts["count"])
    bright, changed = drawing.brighten(image)
    canvas = _fitted_image(bright, masks, _overview_scale(masks, count))
    note = " (shown brighter than it is)" if changed else ""
    panels = [(_overview_title(count, len(masks)) + note, overview(canvas, masks[:count]))]
    if len(masks):
        class_names = (dataset_dict or {}).get("thing_classes", ())
        grid = in_rows(_tiles(bright, parts, class_names), len(canvas))
        panels.append(("step after step", grid))
    height = max(len(panel) for _, panel in panels)
    panels = [(title, padded(panel, height, panel.shape[1])) for title, panel in panels]
    legend = LEGEND if "points" in parts else [line for line in LEGEND if line is not CROSS_LINE]
    return drawing.side_by_side(panels, f"{name}   inside RecurrentInstanceSeg", legend)


def _fitted_image(image: np.ndarray, masks: Tensor, scale: float) -> np.ndarray:
    """(H, W, 3) uint8 on the masks' grid, enlarged by a factor."""
    height, width = (max(1, round(n * scale)) for n in masks.shape[1:])
    contiguous = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(contiguous.resize((width, height), Image.BICUBIC))


def _overview_scale(masks: Tensor, count: int) -> float:
    """As of other panels; twice that, where there is room, if numbers would be crowded."""
    scale = drawing.display_scale(*masks.shape[1:])
    room = drawing.MAX_SIDE / max(masks.shape[1:])
    return max(scale, min(2 * scale, room)) if count > CROWDED else scale


def _overview_title(count: int, steps: int) -> str:
    found = {0: "nothing found", 1: "1 object"}.get(count, f"{count} objects, numbered in order")
    end = f"stop at step {count + 1}" if count < steps else f"no stop in {steps} steps"
    return f"{found}; {end}"


def overview(canvas: np.ndarray, masks: Tensor) -> np.ndarray:
    """All masks in the colours of their steps, numbered, and linked in the order of the steps.

    Args:
        canvas (ndarray): (H', W', 3) uint8 RGB.
        masks (Tensor): (T, h, w) float in [0, 1]: of the objects.

    Returns:
        ndarray: (H', W', 3) uint8 RGB. Where masks overlap, so do their tints.
    """
    thickness = 1 if len(masks) > CROWDED else 2
    for number, mask in enumerate(masks, start=1):
        labels = (fitted_mask(mask, canvas.shape[:2]) > MASK_THRESHOLD).astype(np.int64)
        colors = np.array([(0, 0, 0), instance_color(number)], dtype=np.uint8)
        canvas = drawing.overlay_labels(canvas, labels, colors, alpha=0.35, thickness=thickness)
    zoom = canvas.shape[1] / masks.shape[2], canvas.shape[0] / masks.shape[1]
    places = {
        number: ((center[0] + 0.5) * zoom[0], (center[1] + 0.5) * zoom[1])
        for number, center in enumerate(mask_centers(masks), start=1)
        if center is not None
    }
    return _draw_route(canvas, places)


def mask_centers(masks: Tensor) -> "list[Optional[tuple[float, float]]]":
    """Where the masks are.

    Args:
        masks (Tensor): (T, h, w) float in [0, 1].

    Returns:
        list[tuple[float, float] or None]: x and y of each mask's centre of mass, of the pixels
        above MASK_THRESHOLD, or of the nearest of them where it lies outside; None for a mask
        without any.
    """
    centers = []
    for mask in masks:
        inside = torch.nonzero(mask > MASK_THRESHOLD).flip(1).double()
        if not len(inside):
            centers.append(None)
            continue
        center = inside.mean(dim=0)
        distances = torch.linalg.vector_norm(inside - center, dim=1)
        outside = distances.min() > 1
        centers.append(tuple((inside[distances.argmin()] if outside else center).tolist()))
    return centers


def fitted_mask(mask: Tensor, size: "tuple[int, int]") -> np.ndarray:
    """A mask at the size of a picture, smoothly.

    Args:
        mask (Tensor): (h, w) float in [0, 1].
        size (tuple[int, int]): (H', W').

    Returns:
        ndarray: (H', W') float32 in [0, 1].
    """
    resized = F.interpolate(
        mask[None, None].float(), size, mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0, 0].clamp(0, 1).numpy()


def _draw_route(canvas: np.ndarray, places: Mapping[int, "tuple[float, float]"]) -> np.ndarray:
    """Numbers at {number: (x, y)}, linked in their order."""
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture, "RGBA")
    width = 2 if len(places) <= FEW else 1
    route = list(places.values())
    for ends in zip(route, route[1:]):
        draw.line(ends, fill=(0, 0, 0, 120), width=width + 2)
        draw.line(ends, fill=(255, 255, 255, 210), width=width)
    size = 11 if len(places) > CROWDED else 14
    tags = []
    for number, (x, y) in apart(places, 1.4 * size).items():
        # A digit is about 0.6 of its height wide.
        left = round(x - 0.3 * size * len(str(number)) - 2)
        tags.append((left, round(y + 0.5 * size), str(number), drawing.FOREGROUND))
    return drawing.draw_tags(np.asarray(picture), tags, size)


def _tiles(
    image: np.ndarray, parts: Mapping[str, Tensor], class_names: Sequence[str]
) -> "list[np.ndarray]":
    """A picture for each step, all of one size, the last perhaps that of the stop."""
    masks, count = parts["masks"], int(parts["count"])
    side = LARGE_TILE if len(masks) <= SHORT else SMALL_TILE
    small = _fitted_image(image, masks, side / math.sqrt(masks[0].numel()))
    grey = small.mean(axis=2, keepdims=True).repeat(3, axis=2) * DIMMED
    tiles = []
    for step, mask in enumerate(masks):
        stops = step == count
        color = STOP if stops else instance_color(step + 1)
        picture = _framed(grey, mask) if stops else heat_tile(grey, mask, color)
        if "points" in parts and not stops:
            picture = _crossed(picture, parts["points"][step].tolist(), mask.shape)
        picture = padded(picture, len(picture), max(NARROWEST, picture.shape[1]))
        captions = _caption(parts, step, stops=stops, class_names=class_names)
        lines = zip(captions, (color, None))
        strips = [drawing.text_strip([line], picture.shape[1], CAPTION_SIZE) for line in lines]
        tiles.append(np.concatenate([*strips, picture]))
    return tiles


def _caption(
    parts: Mapping[str, Tensor], step: int, *, stops: bool, class_names: Sequence[str]
) -> "tuple[str, str]":
    """Two lines: a step's number and class, or that it stops; its objectness."""
    objectness = f"objectness {float(parts['objectness'][step]):.0%}"
    probabilities = parts["class_probabilities"][step]
    if stops:
        return f"step {step + 1}: stop", objectness
    if not (parts["masks"][step] > MASK_THRESHOLD).any():
        return f"step {step + 1}: empty mask", objectness
    if len(probabilities) < 2:
        return f"step {step + 1}", objectness
    best = int(probabilities.argmax())
    name = class_names[best] if best < len(class_names) else f"class {best}"
    return f"{step + 1}: {name} {float(probabilities[best]):.0%}", objectness


def heat_tile(
    grey: np.ndarray, mask: Tensor, color: "Optional[tuple[int, int, int]]" = None
) -> np.ndarray:
    """A mask's probabilities over an image, its outline, and a frame around a tiny one.

    Args:
        grey (ndarray): (H', W', 3) in [0, 255], of the image.
        mask (Tensor): (h, w) float in [0, 1].
        color (tuple[int, int, int] or None): of outline and frame; None: neither.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    probability = fitted_mask(mask, grey.shape[:2])
    weight = HEAT_OPACITY * probability[..., None]
    heat = heat_map(torch.from_numpy(probability), 0, 1)
    picture = np.rint(grey * (1 - weight) + heat * weight).astype(np.uint8)
    if color is None:
        return picture
    picture[drawing.boundaries((probability > MASK_THRESHOLD).astype(np.int64))] = color
    # The box is that of the mask at its own size: tiny ones may vanish from a tile.
    inside = torch.nonzero(mask > MASK_THRESHOLD).flip(1).numpy()
    if not len(inside):
        return picture
    size = np.array(picture.shape[1::-1])
    zoom = size / mask.shape[::-1]
    low, high = inside.min(axis=0) * zoom, (inside.max(axis=0) + 1) * zoom
    if (high - low).max() >= TINY:
        return picture
    box = [*np.maximum(low - FRAME, 0), *np.minimum(high + FRAME, size)]
    return drawing.draw_boxes(picture, [box], [color])


def _crossed(picture: np.ndarray, point: Sequence[float], size: Sequence[int]) -> np.ndarray:
    """The tile of a mask of this size with a cross at x, y."""
    x, y = point[0] * picture.shape[1] / size[1], point[1] * picture.shape[0] / size[0]
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for color, width, reach in (((0, 0, 0), 3, CROSS + 1), ((255, 255, 255), 1, CROSS)):
        draw.line([(x - reach, y), (x + reach, y)], fill=color, width=width)
        draw.line([(x, y - reach), (x, y + reach)], fill=color, width=width)
    return np.asarray(canvas)


def _framed(grey: np.ndarray, mask: Tensor) -> np.ndarray:
    """The tile of the stop: its mask is none, whatever it shows."""
    picture = heat_tile(grey, mask)
    height, width = picture.shape[:2]
    return drawing.draw_boxes(picture, [(0, 0, width, height)], [STOP], width=3)
