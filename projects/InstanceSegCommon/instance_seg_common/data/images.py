"""Image files as Detectron2 reads them: size and depth from the header, maps of ignored regions.

Shapes: H, W height and width in pixels with EXIF orientation applied.
"""

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union, cast

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.detection_utils import read_image
from PIL import Image

from ..errors import UserError
from .cache import atomic_path, cache_root

IGNORE_VALUE = 255  # of a pixel that counts neither as an object nor as background
# What Pillow's decoders raise for files that are incomplete, damaged or of another kind.
READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
DEEP_MODES = ("I", "F")  # first letters of Pillow's modes with more than 8 bits a channel
IGNORE_MODES = ("L", "1")  # these keep the value 255 when they are read as 8 bit grey
EXIF_ORIENTATION = 274
EXIF_TRANSPOSED = frozenset({5, 6, 7, 8})


def image_header(path: Union[str, Path]) -> "tuple[tuple[int, int], str]":
    """Height and width that ``read_image`` will return, mostly without decoding the pixels.

    Returns:
        (height, width) in pixels, EXIF orientation applied; Pillow's mode, such as "RGB".

    Raises:
        UserError: not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Asking a PNG without an EXIF chunk in its header for one decodes all of it.
            plain = image.format == "PNG" and "exif" not in image.info
            if not plain and image.getexif().get(EXIF_ORIENTATION) in EXIF_TRANSPOSED:
                width, height = height, width
            return (height, width), image.mode
    except READ_ERRORS as error:
        raise UserError(f"Image {path} cannot be read ({error}); replace the file.") from error


def require_8_bit(path: Union[str, Path], mode: str) -> None:
    """Raise a sentence if a mode of :func:`image_header` has more than 8 bits a channel."""
    if mode.startswith(DEEP_MODES):
        raise UserError(
            f"Image {path} has more than 8 bits per channel (mode {mode}), and Detectron2 would "
            "read every value above 255 as 255; scale it to 8 bits."
        )


def check_readable_mode(path: Union[str, Path]) -> None:
    """Raise unless Detectron2 reads the image as it is; only the header is read.

    Raises:
        UserError: not an image, or more than 8 bits a channel.
    """
    require_8_bit(path, image_header(path)[1])


def load_image(path: Union[str, Path]) -> np.ndarray:
    """Read an image file.

    Args:
        path: any format that Pillow reads.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: absent, unreadable, or with more than 8 bits per channel.
    """
    check_readable_mode(path)
    try:
        return read_image(str(path), format="RGB")
    except READ_ERRORS as error:
        raise UserError(
            f"The image {path} cannot be read: {error}. Give a PNG, JPEG or TIFF file that opens."
        ) from error


def check_ignore_map(path: Union[str, Path], size: "tuple[int, ...]") -> None:
    """Raise unless a file can be a map of ignored regions; only the header is read.

    Args:
        path: of an image file.
        size: (H, W) of the image that it belongs to.

    Raises:
        UserError: unreadable, of another size, or not one channel of 8 bits: Detectron2 would turn
            a palette or colours into grey, and 255 would no longer mean what it did.
    """
    own_size, mode = image_header(path)
    if mode not in IGNORE_MODES:
        raise UserError(
            f"The map of ignored regions {path} has mode {mode}; store it as one channel of 8 bits "
            f"without a palette, {IGNORE_VALUE} where pixels are ignored."
        )
    if own_size != tuple(size):
        raise UserError(
            f"The map of ignored regions {path} is {own_size[1]}x{own_size[0]} pixels, but its "
            f"image is {size[1]}x{size[0]}; bring both to one size."
        )


def read_ignore_map(path: Union[str, Path], size: "tuple[int, ...]") -> np.ndarray:
    """The ignored region of an image.

    Args:
        path: 8 bit, one channel, 255 = ignored.
        size: (H, W) of the image that it belongs to.

    Returns:
        (H, W) bool.

    Raises:
        UserError: see :func:`check_ignore_map`, or the pixels cannot be decoded.
    """
    check_ignore_map(path, size)
    try:
        return read_image(str(path), "L").squeeze(2) == IGNORE_VALUE
    except READ_ERRORS as error:
        raise UserError(
            f"The map of ignored regions {path} cannot be read ({error}); write it again."
        ) from error


def cached_ignore_map(segmentations: "Sequence[Any]", size: "tuple[int, int]") -> Path:
    """A map of ignored regions in the cache, written unless it is there.

    Args:
        segmentations: the regions: polygons, or run-length encodings of the full image.
        size: (H, W) of the image that they belong to.

    Returns:
        An 8 bit image (H, W): 255 inside the regions, 0 outside.
    """
    height, width = size
    regions = []
    for segmentation in segmentations:
        if isinstance(segmentation, list):
            segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
        regions.append(segmentation)
    region = mask_util.merge(regions)
    key = hashlib.sha256(f"{height}x{width} ".encode() + cast(bytes, region["counts"])).hexdigest()
    path = cache_root() / "ignore_regions" / f"{key}.png"
    if not path.exists():
        with atomic_path(path) as temporary:
            Image.fromarray(mask_util.decode(region) * np.uint8(IGNORE_VALUE)).save(temporary)
    return path
