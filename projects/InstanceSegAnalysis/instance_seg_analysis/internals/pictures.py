"""What the pictures of the insides share: colours of numbers, tiles in rows, places apart.

Shape shorthand in this module:
    h, w: a map   h', w': a tile   H', W': the picture
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from instance_seg_common.visualization import drawing

# From low to high; brightness rises, for readers who do not tell red from green.
RAMP = np.array([(30, 24, 70), (70, 50, 140), (170, 60, 120), (240, 120, 60), (255, 235, 130)])
# What a range of numbers must exceed to be one.
SMALLEST_RANGE = 1e-6
# Of all tiles, in pixels; those of a long sequence are wider, as many times their height.
MOST_WIDTH, ASPECT = 1180, 1.7


def heat_map(values: Tensor, low: float, high: float) -> np.ndarray:
    """A map of numbers in colours.

    Args:
        values (Tensor): (h, w) float.
        low, high (float): ends of the scale; what is beyond them has the colour of the end.

    Returns:
        ndarray: (h, w, 3) uint8, from dark to bright.
    """
    unit = (values.float().cpu().numpy() - low) / max(high - low, SMALLEST_RANGE)
    positions = np.linspace(0, 1, len(RAMP))
    channels = [np.interp(unit, positions, RAMP[:, c]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def apart(
    places: Mapping[int, "tuple[float, float]"], distance: float
) -> "dict[int, tuple[float, float]]":
    """Move places to the right until none hides another, as of a step that repeats an object.

    Args:
        places (dict[int, tuple[float, float]]): x and y by number, in pixels.
        distance (float): that two places keep, in pixels.

    Returns:
        dict[int, tuple[float, float]]
    """
    moved = {}
    for number, (x, y) in places.items():
        while any(math.dist((x, y), other) < distance for other in moved.values()):
            x += distance
        moved[number] = (x, y)
    return moved


def in_rows(tiles: Sequence[np.ndarray], height: int) -> np.ndarray:
    """Tiles in rows that are together about as high as the panel beside them.

    Args:
        tiles (list[ndarray]): at least one, (h', w', 3) uint8 RGB each.
        height (int): of the panel in pixels; a long sequence takes more.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    gap = drawing.GAP
    high, wide = (n + gap for n in tiles[0].shape[:2])
    rows = max(round((height + gap) / high), 1)
    most = max(MOST_WIDTH // wide, math.ceil(math.sqrt(ASPECT * len(tiles) * high / wide)))
    columns = min(math.ceil(len(tiles) / rows), most)
    rows = math.ceil(len(tiles) / columns)
    size = rows * high - gap, columns * wide - gap
    picture = np.full((*size, 3), drawing.BACKGROUND, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * high, index % columns * wide
        picture[top : top + high - gap, left : left + wide - gap] = tile
    return picture


def padded(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture at the left top of one of this size."""
    result = np.full((height, width, 3), drawing.BACKGROUND, dtype=np.uint8)
    result[: picture.shape[0], : picture.shape[1]] = picture
    return result
