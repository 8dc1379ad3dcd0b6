"""The values of label files exactly as they are stored, whoever wrote them.

Shapes: H, W height and width in pixels, EXIF orientation applied; C channels.
"""

from pathlib import Path
from typing import Optional

import numpy as np

from ..errors import UserError
from .images import READ_ERRORS, TURNS, image_header
from .pillow_files import open_image, orientation_of, read_png
from .reading import Reading
from .tiff import STARTS as TIFF_STARTS
from .tiff import read_tiff, tiff_header

LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP", "JPEG2000"})


def label_pixels(
    path: Path, *, plane: Optional[int] = None, palette_colors: bool = False
) -> np.ndarray:
    """Read a label file.

    Args:
        path: lossless: a TIFF of any kind, or what Pillow reads.
        plane: which plane of a file of several, from 0.
        palette_colors: what a palette shows, not its indices.

    Returns:
        (H, W) or (H, W, C), of the type in the file.

    Raises:
        UserError: unreadable, lossy, or of several planes while none is named.
    """
    try:
        if is_tiff(path):
            return _tiff_pixels(path, plane)
        with open_image(path, plane or 0) as image:
            _require_lossless(path, image.format)
            _require_one_plane(path, getattr(image, "n_frames", 1), plane)
            orientation = orientation_of(image, path)
            if image.mode == "P" and palette_colors:
                shown = image.convert("RGBA" if "transparency" in image.info else "RGB")
                pixels = np.asarray(shown)
            elif image.format == "PNG" and len(image.getbands()) > 1:
                pixels = read_png(path, plane or 0)  # Pillow gives only the upper 8 of 16 bits
            else:
                pixels = np.asarray(image)
        return TURNS.get(orientation, np.asarray)(pixels)
    except UserError:
        raise
    except (*READ_ERRORS, RuntimeError) as error:  # the latter from imagecodecs
        raise UserError(f"Label {path} cannot be read ({error}); write it again.") from error


def number_of_channels(path: Path) -> int:
    """Of a file that :func:`label_pixels` reads, from its header."""
    if is_tiff(path):
        return tiff_header(path, Reading(planes="each"), as_stored=True).channels
    with open_image(path) as image:
        return len(image.getbands())


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF or a BigTIFF does, whatever its name ends with."""
    with path.open("rb") as file:
        return file.read(4) in TIFF_STARTS


def _require_lossless(path: Path, file_format: Optional[str]) -> None:
    if file_format in LOSSY_FORMATS:
        raise UserError(
            f"Label {path} is stored as {file_format}, which changes ids; store it as PNG or TIFF."
        )


def _require_one_plane(path: Path, number: int, plane: Optional[int]) -> None:
    if number > 1 and plane is None:
        raise UserError(
            f"Label {path} has {number} planes (pages, slices or frames), and its image is one: "
            "save each plane as a file of its own, or read a stack of images with `planes: each`."
        )


def _tiff_pixels(path: Path, plane: Optional[int]) -> np.ndarray:
    reading = Reading() if plane is None else Reading(planes="each", plane=plane)
    header = image_header(path, Reading(planes="each"))
    _require_one_plane(path, header.planes, plane)
    try:
        pixels = read_tiff(path, reading, as_stored=True)
    except UserError:
        raise
    except Exception as error:  # tifffile raises whatever a damaged file leads it to
        raise UserError(
            f"Label {path} cannot be read ({type(error).__name__}: {error}); write it again."
        ) from error
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    return TURNS.get(header.orientation, np.asarray)(pixels)
