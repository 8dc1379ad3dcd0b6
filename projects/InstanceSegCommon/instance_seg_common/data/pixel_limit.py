"""The largest image that is read: one limit for all readers, in place of Pillow's own.

Pillow refuses images from 179 megapixels on as "decompression bombs", and scans are larger.
"""

from pathlib import Path
from threading import Lock
from typing import Any, Union

from PIL import Image

from ..config import MAX_PIXELS
from ..errors import UserError

KEY = "INPUT.MAX_PIXELS"
_limits = {KEY: MAX_PIXELS}


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


class _PillowLimit:
    """Lifts Pillow's limit while anybody reads, in whichever thread; then it is what it was."""

    def __init__(self) -> None:
        self.lock, self.readers, self.limit = Lock(), 0, Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> None:
        with self.lock:
            if self.readers == 0:
                self.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self.readers += 1

    def __exit__(self, *error: Any) -> None:
        with self.lock:
            self.readers -= 1
            if self.readers == 0:
                Image.MAX_IMAGE_PIXELS = self.limit


without_pillow_limit = _PillowLimit()  # a context in which Pillow's own limit does not hold
