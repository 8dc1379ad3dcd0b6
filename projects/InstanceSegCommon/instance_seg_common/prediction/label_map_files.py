"""Label maps as files that hold every id: PNG of 16 bits, or tiled TIFF of 32 bits."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.cache import atomic_path
from ..errors import UserError
from ..tiling.stitching import StitchedObject
from ..visualization.saving import LARGEST_16_BIT
from .objects import label_map_bands

LARGEST_PNG = 2**26  # pixels; a PNG is written from memory, a TIFF tile by tile
TIFF_TILE = 512  # pixels


def write_label_map(
    stem: Path, objects: "Sequence[StitchedObject]", size: "tuple[int, int]"
) -> Path:
    """Write the label map of an image, whole or not at all.

    Args:
        stem: path of the file without its ending.
        objects: without overlaps; object i has id i + 1.
        size: height and width of the image.

    Returns:
        The file: ``.png``, or ``.tif`` for more than 65,535 objects or 2**26 pixels.

    Raises:
        UserError: a TIFF is needed, and tifffile is not installed.
    """
    small = len(objects) <= LARGEST_16_BIT and size[0] * size[1] <= LARGEST_PNG
    path = stem.with_name(stem.name + (".png" if small else ".tif"))
    with atomic_path(path) as temporary:
        if small:
            dtype = np.dtype(np.uint16)
            (labels,) = label_map_bands(objects, size, rows=size[0], dtype=dtype)
            Image.fromarray(labels).save(temporary, format="PNG")
        else:
            _write_tiff(temporary, objects, size)
    return path


def _write_tiff(path: Path, objects: "Sequence[StitchedObject]", size: "tuple[int, int]") -> None:
    try:
        import tifffile
    except ImportError as error:
        raise UserError(f"A label map of 32 bits needs tifffile ({error}): install it.") from error
    tifffile.imwrite(
        path,
        _tiles(objects, size),
        shape=size,
        dtype=np.uint32,
        tile=(TIFF_TILE, TIFF_TILE),
        compression="zlib",
        photometric="minisblack",
        bigtiff=True,
    )


def _tiles(objects: "Sequence[StitchedObject]", size: "tuple[int, int]") -> "Iterator[np.ndarray]":
    """The tiles of a TIFF, row by row, zeros beyond the image."""
    for band in label_map_bands(objects, size, rows=TIFF_TILE, dtype=np.dtype(np.uint32)):
        for left in range(0, size[1], TIFF_TILE):
            tile = np.zeros((TIFF_TILE, TIFF_TILE), np.uint32)
            part = band[:, left : left + TIFF_TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile
