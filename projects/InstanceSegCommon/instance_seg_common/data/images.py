"""Image files: their size, depth and channels from the header, their pixels, ignored regions.

Shapes: H, W height and width in pixels, turned by the EXIF orientation unless a
:class:`~.reading.Reading` says otherwise; C channels, colours in the order red, green, blue.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Union, cast

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.detection_utils import convert_PIL_to_numpy
from PIL import Image

from ..errors import UserError
from ..masks import to_run_lengths
from . import pillow_files, tiff
from .cache import atomic_path, cache_root
from .foreign_files import HEAD, foreign_kind
from .image_header import JPEG2K, PILLOW, PNG, TIFF, ImageHeader
from .pixel_limit import without_pillow_limit
from .reading import PLAIN, Reading

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
IGNORE_MODES = ("L", "1")  # these keep the value 255 when they are read as 8 bit grey
NUMBERS = "iuf"  # numpy's kinds of types that can be the pixels of an image
START = 32  # bytes that say which kind of file it is
# Of the EXIF orientation: how numpy turns stored pixels to what a viewer shows.
TURNS = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
TRANSPOSED = frozenset({5, 6, 7, 8})


def image_header(path: Union[str, Path], reading: Reading = PLAIN) -> ImageHeader:
    """What an image file says of itself, without decoding the pixels.

    Args:
        path: of any format that Pillow or tifffile reads.
        reading: of the data set. With ``planes: each`` and no plane, the header is that of the
            first plane, and ``planes`` says how many there are.

    Raises:
        UserError: not an image; more pixels than ``INPUT.MAX_PIXELS``; several planes with
            ``planes: error``; a channel that the file does not have; pixels that are no numbers.
    """
    with _sentences(path):
        with Path(path).open("rb") as file:
            start = file.read(START)
        if start.startswith(tiff.STARTS):
            header = tiff.tiff_header(path, reading)
        else:
            header = pillow_files.pillow_header(path, start)
    _require_readable(path, header, reading)
    height, width = header.stored_size
    transposed = reading.exif == "apply" and header.orientation in TRANSPOSED
    size = (width, height) if transposed else (height, width)
    if not reading.channels:
        return replace(header, size=size)
    alpha = reading.channels.index(header.alpha) if header.alpha in reading.channels else None
    return replace(header, size=size, channels=len(reading.channels), alpha=alpha)


def _require_readable(path: Union[str, Path], header: ImageHeader, reading: Reading) -> None:
    planes, plane = header.planes, reading.plane_index
    if planes > 1 and plane is None and reading.planes == "error":
        raise UserError(planes_sentence(path, header))
    if plane is not None and plane >= planes:
        raise UserError(f"Image {path} has {planes} planes, but plane {plane} is asked for.")
    absent = [channel for channel in reading.channels if channel >= header.channels]
    if absent:
        raise UserError(
            f"Image {path} has {header.channels} channels, and channels: {list(reading.channels)} "
            f"asks for channel {absent[0]}; they count from 0."
        )
    if np.dtype(header.dtype).kind not in NUMBERS:
        raise UserError(
            f"Image {path} has pixels of type {header.dtype}; store whole or real numbers."
        )


def planes_sentence(path: Union[str, Path], header: ImageHeader) -> str:
    """The sentence for a file of several planes where an image is needed."""
    unnamed = ", `channels: [0, 1, 2]` takes them for channels" if header.unnamed_axis else ""
    return (
        f"Image {path} has {header.planes} planes ({header.axes}), and a model takes one image. "
        "In the data set's entry of DATASETS.REGISTER, `planes: first` reads the first plane of "
        f"each file, `planes: each` makes every plane an image of its own{unnamed}."
    )


@contextmanager
def _sentences(path: Union[str, Path]) -> "Iterator[None]":
    """What a decoder raises inside becomes a sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever Pillow, tifffile and the codecs raise for a damaged file
        kind = foreign_kind(_head(path))
        if kind is not None:
            raise UserError(
                f"Image {path} is {kind}, which is not read here; convert it to PNG or TIFF."
            ) from error
        reason = str(error) or type(error).__name__
        raise UserError(f"Image {path} cannot be read ({reason}); replace the file.") from error


def _head(path: Union[str, Path]) -> bytes:
    """The first bytes of a file; none if it cannot be opened."""
    try:
        with Path(path).open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def read_pixels(path: Union[str, Path], reading: Reading = PLAIN) -> np.ndarray:
    """The pixels of an image file in full depth, with its own channels.

    Args:
        path: of any format that Pillow or tifffile reads.
        reading: of the data set.

    Returns:
        (H, W, C) of the type and C the channels of :func:`image_header`: grey 1, grey with opacity
        2, colours 3 (palettes, CMYK and YCbCr of 8 bits are RGB), colours with opacity 4; channels
        of other kinds as many as there are. Values as they are stored, 0 is black.

    Raises:
        UserError: see :func:`image_header`, or pixels that are incomplete or not finite.
    """
    header = image_header(path, reading)
    with _sentences(path):
        pixels = _decoded(path, header, reading)
        pixels = pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
    pixels = _turned(pixels, header, reading)
    if reading.channels:
        pixels = pixels[:, :, list(reading.channels)]
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        wrong = int((~np.isfinite(pixels)).sum())
        raise UserError(
            f"Image {path} has {wrong} values that are nan or infinite; write a number there, such "
            "as the background's."
        )
    return np.ascontiguousarray(pixels)


def _decoded(path, header: ImageHeader, reading: Reading) -> np.ndarray:
    """(H, W) or (H, W, C) as stored."""
    plane = _plane_number(path, header, reading)
    if header.decoder == PILLOW:
        mode = pillow_files.NATIVE.get(header.mode, header.mode)
        pixels = pillow_files.read_with_pillow(path, mode=mode, plane=plane)
        return pixels.astype(header.dtype, copy=False)
    if header.decoder == TIFF:
        return tiff.read_tiff(path, reading)
    if header.decoder == PNG:
        return pillow_files.read_png(path, plane)
    if header.decoder == JPEG2K:
        return pillow_files.read_jpeg2k(path)
    return pillow_files.read_pnm(path)


def _plane_number(path: Union[str, Path], header: ImageHeader, reading: Reading) -> int:
    """Which plane is read, from 0."""
    if header.planes > 1 and reading.plane_index is None:
        raise UserError(planes_sentence(path, header))
    return reading.plane_index or 0


def read_stock(
    path: Union[str, Path], image_format: str = "RGB", reading: Reading = PLAIN
) -> np.ndarray:
    """An image as Detectron2's ``read_image`` gives it; for headers with ``stock``.

    Args:
        path: of the file.
        image_format: "RGB", "BGR", "L" or another of ``read_image``.
        reading: of the data set.

    Returns:
        (H, W, 3) uint8, for "L" (H, W, 1): bit for bit what ``read_image`` gives, but for a reading
        with another plane or without the EXIF orientation.

    Raises:
        UserError: see :func:`read_pixels`, or a header without ``stock``.
    """
    header = image_header(path, reading)
    if not header.stock:
        raise UserError(
            f"Image {path} is of {header.dtype} and has {header.channels} channels; Detectron2's "
            "own reading takes 8 bits, grey or colours."
        )
    if header.decoder != PILLOW or reading.channels:
        pixels = read_pixels(path, reading)
        image = Image.fromarray(pixels[:, :, 0] if header.channels == 1 else pixels)
        return convert_PIL_to_numpy(image, image_format)
    plane = _plane_number(path, header, reading)
    with _sentences(path), without_pillow_limit, pillow_files.open_image(path, plane) as image:
        pixels = convert_PIL_to_numpy(image, image_format)
    return np.ascontiguousarray(_turned(pixels, header, reading))


def _turned(pixels: np.ndarray, header: ImageHeader, reading: Reading) -> np.ndarray:
    """Stored pixels (H, W, ...) turned by the EXIF orientation, where that is applied; a view."""
    applies = reading.exif == "apply" and header.orientation in TURNS
    return TURNS[header.orientation](pixels) if applies else pixels


def check_ignore_map(path: Union[str, Path], size: "tuple[int, ...]") -> None:
    """Raise unless a file can be a map of ignored regions; only the header is read.

    Args:
        path: of an image file.
        size: (H, W) of the image that it belongs to.

    Raises:
        UserError: unreadable, of another size, or not one channel of 8 bits: Detectron2 would turn
            a palette or colours into grey, and 255 would no longer mean what it did.
    """
    header = image_header(path)
    own_size, mode = header.size, header.mode
    if mode not in IGNORE_MODES:
        raise UserError(
            f"The map of ignored regions {path} has mode {mode or header.dtype}; store it as one "
            f"channel of 8 bits without a palette, {IGNORE_VALUE} where pixels are ignored."
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
    return read_stock(path, "L")[:, :, 0] == IGNORE_VALUE


def cached_ignore_map(segmentations: "Sequence[Any]", size: "tuple[int, int]") -> Path:
    """A map of ignored regions in the cache, written unless it is there.

    Args:
        segmentations: the regions: polygons, or run-length encodings of the full image.
        size: (H, W) of the image that they belong to.

    Returns:
        An 8 bit image (H, W): 255 inside the regions, 0 outside.
    """
    height, width = size
    regions: Any = [to_run_lengths(one, height, width) for one in segmentations]
    region = mask_util.merge(regions)
    key = hashlib.sha256(f"{height}x{width} ".encode() + cast(bytes, region["counts"])).hexdigest()
    path = cache_root() / "ignore_regions" / f"{key}.png"
    if not path.exists():
        with atomic_path(path) as temporary:
            Image.fromarray(mask_util.decode(region) * np.uint8(IGNORE_VALUE)).save(temporary)
    return path
