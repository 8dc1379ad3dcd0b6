"""The largest image that is read: one limit for all readers, in place of Pillow's own.

Pillow refuses images from 179 megapixels on as "decompression bombs", and scans are larger.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Union

from PIL import Image

from ..config import MAX_PIXELS
from ..errors import UserError

KEY = "INPUT.MAX_PIXELS"
_limits = {KEY: MAX_PIXELS}
_lock = Lock()


def set_pixel_limit(pixels: int) -> None:
    """Set the limit of this process.

    Args:
        pixels: height times width of the largest image that is read; ``INPUT.MAX_PIXELS``.

    Raises:
        UserError: not a whole number above 0.
    """
    if not isinstance(pixels, int) or pixels < 1:
        raise UserError(f"{KEY} is {pixels!r}; give the number of pixels of the largest image.")
    _limits[KEY] = pixels


def require_within_limit(path: Union[str, Path], size: "tuple[int, int]") -> None:
    """Raise a sentence if an image has more pixels than the limit.

    Args:
        path: of the image, for the message.
        size: height and width by its header.
    """
    height, width = size
    if height * width > _limits[KEY]:
        raise UserError(
            f"Image {path} is {width}x{height} pixels, {height * width:,} in all; {KEY} allows "
            f"{_limits[KEY]:,}. If the file is what it should be, cut it into tiles, or raise "
            f"{KEY}: the memory must hold the image several times."
        )


@contextmanager
def without_pillow_limit() -> "Iterator[None]":
    """Pillow's own limit does not hold inside; for opening and seeking, not for decoding."""
    with _lock:
        pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = pillow_limit
