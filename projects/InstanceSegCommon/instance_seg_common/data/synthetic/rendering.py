"""One synthetic image with its label map: objects are placed one over the other, then drawn.

S = image_size, K = objects of an image. A label map is (S, S) uint16, 0 = background, id i + 1 =
object i.
"""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from .drawing import draw_background, draw_object
from .outlines import Outline, sample_objects, window_of
from .parameters import Parameters

ATTEMPTS_PER_OBJECT = 20


class Layout(NamedTuple):
    """Objects that are placed.

    Args:
        labels: label map (S, S) of what is visible.
        areas: pixels of each object, hidden ones included.
    """

    labels: np.ndarray
    areas: list[int]


def render(parameters: Parameters, index: int) -> "tuple[np.ndarray, np.ndarray, list[int]]":
    """Draw one image of a set.

    Args:
        parameters: from `resolve_parameters`.
        index: of the image in its set, from 0.

    Returns:
        Image (S, S, 3) uint8 RGB; label map (S, S) uint16; the K 0-based classes.
    """
    # Always two words of entropy: sets with different seeds can never share a stream.
    rng = np.random.default_rng([parameters.seed, index])
    canvas = draw_background(rng, parameters)
    layout = Layout(np.zeros(canvas.shape[:2], np.uint16), [])
    categories: list[int] = []
    wanted = int(rng.integers(parameters.objects[0], parameters.objects[1] + 1))
    for _ in range(ATTEMPTS_PER_OBJECT * wanted):
        group = sample_objects(rng, parameters)[: wanted - len(categories)]
        placed = place(layout, group, parameters) if group else None
        if placed is None:
            continue
        layout = placed
        for outline in group:
            categories.append(outline.category)
            draw_object(rng, canvas, outline, p=parameters)
    canvas += parameters.noise * rng.standard_normal(canvas.shape)
    return np.round(255 * np.clip(canvas, 0, 1)).astype(np.uint8), layout.labels, categories


def place(layout: Layout, group: Sequence[Outline], parameters: Parameters) -> Optional[Layout]:
    """The layout with more objects on top, or None if they hide too much of an object."""
    labels, areas = layout.labels.copy(), list(layout.areas)
    for outline in group:
        window = window_of(outline, parameters.image_size)
        inside = window.distance <= 0
        areas.append(int(inside.sum()))
        labels[window.where][inside] = len(areas)
    visible = np.bincount(labels.ravel(), minlength=len(areas) + 1)[1:]
    least = np.maximum(parameters.min_visible * np.array(areas), parameters.min_area)
    return Layout(labels, areas) if (visible >= least).all() else None
