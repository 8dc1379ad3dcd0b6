"""Overlapping windows over an image, and which of them has the last word on which pixel.

Coordinates are pixels; a box is half open: (top, left, bottom, right), bottom and right excluded.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import UserError

LEAST_OVERLAP = 2  # pixels: each of two neighbours sees one pixel beyond the line between them


class Box(NamedTuple):
    """A rectangle of pixels, bottom and right excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> "tuple[slice, slice]":
        """To cut the box out of an image (H, W, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def shape(self) -> "tuple[int, int]":
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def moved(self, down: int, right: int) -> "Box":
        """The box at another place."""
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def common(self, other: "Box") -> "Box":
        """The intersection; empty if bottom <= top or right <= left."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def is_empty(self) -> bool:
        """Whether it has no pixel."""
        return self.bottom <= self.top or self.right <= self.left


class Tile(NamedTuple):
    """A window that is predicted as a whole, and the part of it that no other tile decides on.

    Args:
        index: the tile's place in the grid's order.
        window: what the model sees.
        core: inside the window; the cores of a grid cover the image once.
    """

    index: int
    window: Box
    core: Box


def check_tile_size(tile_size: int, overlap: int) -> None:
    """Raise a UserError for a tile that is smaller than two overlaps, or an overlap below 2."""
    if overlap < LEAST_OVERLAP or tile_size < 2 * overlap:
        raise UserError(
            f"Tiles of {tile_size} pixels cannot overlap by {overlap}: give an overlap of "
            f"{LEAST_OVERLAP} or more, and tiles of at least two overlaps."
        )


def tile_grid(size: "tuple[int, int]", tile_size: int, overlap: int) -> "list[Tile]":
    """Windows of about one size that cover an image, row by row.

    As few windows as the largest size allows, no larger than they need to be: neighbours overlap by
    ``overlap`` pixels, or by one more. The line between two cores is the middle of the overlap.

    Args:
        size: height and width of the image.
        tile_size: largest side of a window.
        overlap: least overlap of neighbouring windows.

    Raises:
        UserError: see :func:`check_tile_size`.
    """
    check_tile_size(tile_size, overlap)
    rows, columns = (list(_spans(length, tile_size, overlap)) for length in size)
    tiles = []
    for (top, bottom), (core_top, core_bottom) in rows:
        for (left, right), (core_left, core_right) in columns:
            window = Box(top, left, bottom, right)
            core = Box(core_top, core_left, core_bottom, core_right)
            tiles.append(Tile(len(tiles), window, core))
    return tiles


Span = tuple[int, int]  # first pixel, and the first behind the last


def _spans(length: int, tile_size: int, overlap: int) -> "Iterator[tuple[Span, Span]]":
    """Windows and cores along one axis."""
    count = max(1, -(-(length - overlap) // (tile_size - overlap)))
    # Of count windows of one size, the last one ends where the image ends.
    side = -(-(length + (count - 1) * overlap) // count)
    starts = [index * (length - side) // max(count - 1, 1) for index in range(count)]
    windows = [(start, start + side) for start in starts]
    lines = [(end + start) // 2 for (_, end), (start, _) in zip(windows, windows[1:])]
    return zip(windows, zip([0, *lines], [*lines, length]))
