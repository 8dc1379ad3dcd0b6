"""Images of any depth and number of channels as pictures: false colours, contrast by percentiles.

Shapes: H, W height and width in pixels, C channels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.images import image_header, read_pixels, read_stock
from ..data.normalization import stretched
from ..data.reading import reading_of

LOW, HIGH = 1.0, 99.0  # percentiles that are shown as black and as full colour
RED, GREEN, BLUE = (1, 0, 0), (0, 1, 0), (0, 0, 1)
GREY, CYAN, MAGENTA, YELLOW = (1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0)
# Colours of the channels that are shown, in their order; ImageJ's, but for two channels, which
# those who cannot tell red from green must tell apart.
ONE, TWO, MANY = (GREY,), (GREEN, MAGENTA), (RED, GREEN, BLUE, GREY, CYAN, MAGENTA, YELLOW)
COLOR_NAMES = {
    RED: "red", GREEN: "green", BLUE: "blue", GREY: "grey", CYAN: "cyan", MAGENTA: "magenta",
    YELLOW: "yellow",
}  # fmt: skip


def load_image(record: Mapping[str, Any]) -> np.ndarray:
    """The image of a record as it is shown.

    Args:
        record (dict): of a data set, or ``file_name`` alone.

    Returns:
        (H, W, 3) uint8 RGB; what Detectron2 reads well is unchanged.

    Raises:
        UserError: absent or unreadable.
    """
    path, reading = record["file_name"], reading_of(record)
    if image_header(path, reading).stock:
        return read_stock(path, "RGB", reading)
    return display_image(read_pixels(path, reading))


def display_note(record: Mapping[str, Any]) -> str:
    """What :func:`load_image` changes, for the header of a picture; "" for nothing.

    Args:
        record (dict): of :func:`load_image`.
    """
    header = image_header(record["file_name"], reading_of(record))
    return "" if header.stock else note_of(header.channels, header.dtype)


def record_title(record: Mapping[str, Any]) -> str:
    """The image of a record for the header of a picture: its file, its plane, what was changed.

    Args:
        record (dict): of :func:`load_image`.
    """
    name, plane = Path(record["file_name"]).name, reading_of(record).plane
    named = name if plane is None else f"{name}, plane {plane}"
    return "   ".join(filter(None, [named, display_note(record)]))


def note_of(channels: int, dtype: str) -> str:
    """What :func:`display_image` changes of pixels of this kind; "" for nothing.

    Args:
        channels: C.
        dtype: numpy's name.
    """
    if dtype == "uint8" and channels in (1, 3):
        return ""
    contrast = f"contrast from {LOW:g} % to {HIGH:g} %"
    colors = _colors_of(channels)
    if channels in (1, 3):
        return f"{dtype}, {contrast}"
    shown = ", ".join(f"{i} {COLOR_NAMES[color]}" for i, color in enumerate(colors))
    return f"channels {shown} of {channels}; {contrast}"


def display_image(pixels: np.ndarray) -> np.ndarray:
    """Pixels of any kind as a picture.

    Each channel is stretched from its 1st to its 99th percentile and shown in a colour of its own;
    of more than seven channels the first three are shown.

    Args:
        pixels: (H, W, C) numbers.

    Returns:
        (H, W, 3) uint8 RGB; 8-bit grey and 8-bit colours unchanged.
    """
    channels = pixels.shape[2]
    if pixels.dtype == np.uint8 and channels in (1, 3):
        return pixels if channels == 3 else np.repeat(pixels, 3, axis=2)
    colors = _colors_of(channels)
    shown = np.clip(stretched(pixels[:, :, : len(colors)], (LOW, HIGH)), 0, 255)
    picture = np.clip(shown @ np.array(colors, np.float32), 0, 255)
    return np.rint(picture).astype(np.uint8)


def _colors_of(channels: int) -> "tuple[tuple[int, int, int], ...]":
    if channels == 2:
        return TWO
    if channels == 1:
        return ONE
    return MANY[:channels] if channels <= len(MANY) else MANY[:3]
