"""How the objects and the background of synthetic images look.

S = image_size. A canvas is (S, S, 3) float RGB, 0 to 1.
"""

import numpy as np

from .outlines import Outline, Window, window_of
from .parameters import Parameters

RIM_PIXELS = 1.2


def draw_background(rng: np.random.Generator, p: Parameters) -> np.ndarray:
    """A canvas: a gradient, blotches of three sizes, a tint."""
    ramp = np.linspace(-1, 1, p.image_size)
    towards = rng.uniform(0, 2 * np.pi)
    gradient = np.cos(towards) * ramp[None, :] + np.sin(towards) * ramp[:, None]
    blotches = sum(_blotches(rng, p.image_size, p.image_size // cell) for cell in (32, 12, 5))
    grey = rng.uniform(0.38, 0.62) + p.background * (gradient + 0.4 * blotches)
    return grey[..., None] + p.tint * rng.uniform(-0.5, 0.5, 3)


def _blotches(rng: np.random.Generator, pixels: int, cells: int) -> np.ndarray:
    """(pixels, pixels) smooth noise: a random grid, interpolated linearly."""
    grid = rng.standard_normal((cells + 1, cells + 1))
    position = np.linspace(0, cells, pixels)
    low = np.minimum(position.astype(int), cells - 1)
    high_share = (position - low)[:, None]
    rows = grid[low] * (1 - high_share) + grid[low + 1] * high_share
    return rows[:, low] * (1 - high_share.T) + rows[:, low + 1] * high_share.T


def draw_object(
    rng: np.random.Generator, canvas: np.ndarray, outline: Outline, *, p: Parameters
) -> None:
    """Blend one object into a canvas, in place, with soft edges."""
    window = window_of(outline, p.image_size)
    below = canvas[window.where]
    covered = np.clip(0.5 - window.distance, 0, 1)
    base, offset = np.average(below.mean(-1), weights=covered), rng.uniform(*p.contrast)
    sign = rng.choice([-1, 1])
    if not 0.1 <= base + sign * offset <= 0.9:
        sign = -sign  # darker instead of too bright, or the reverse: no object loses its texture
    level = base + sign * offset
    surface = level + p.texture * _pattern(rng, window, outline.reach)
    surface = surface - sign * p.outline * (window.distance > -RIM_PIXELS)
    colour = surface[..., None] + p.tint * rng.uniform(-1, 1, 3)
    canvas[window.where] = below + covered[..., None] * (colour - below)


def _pattern(rng: np.random.Generator, window: Window, reach: float) -> np.ndarray:
    """(h, w) in about -1..1: a gradient, plus stripes or checks of random direction and period."""
    towards, period = rng.uniform(0, 2 * np.pi), rng.uniform(4, 12)
    along = np.cos(towards) * window.x + np.sin(towards) * window.y
    across = np.cos(towards) * window.y - np.sin(towards) * window.x
    wave = np.sin(2 * np.pi * along / period)
    if rng.uniform() < 0.5:
        wave = wave * np.sin(2 * np.pi * across / period)
    return 0.6 * rng.uniform(-1, 1) * along / reach + 0.6 * rng.uniform(0, 1) * wave
