"""The values of label files exactly as they are stored, whoever wrote them.

Shapes: H, W height and width in pixels, EXIF orientation applied; C channels.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from detectron2.data.detection_utils import read_image
from PIL import Image

from ..errors import UserError
from .images import EXIF_ORIENTATION, READ_ERRORS

if TYPE_CHECKING:
    from tifffile import TiffFile

LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP", "JPEG2000"})
TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # of TIFF and BigTIFF
MINIMUM_IS_WHITE = 0  # the photometric interpretation of a TIFF in which 0 is displayed white
# What turns an image upright, by its EXIF orientation.
UPRIGHT = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: np.swapaxes(pixels, 0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.swapaxes(np.rot90(pixels, 2), 0, 1),
    8: np.rot90,
}


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
        with Image.open(path) as image:
            _require_lossless(path, image.format)
            _require_one_plane(path, getattr(image, "n_frames", 1), plane)
            several = len(image.getbands()) > 1
            if image.mode == "P" and palette_colors:
                return np.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))
            if image.format == "PNG" and several:
                return _png_pixels(path)
            return np.asarray(image) if several else read_image(str(path))
    except UserError:
        raise
    except READ_ERRORS as error:
        raise UserError(f"Label {path} cannot be read ({error}); write it again.") from error


def number_of_channels(path: Path) -> int:
    """Of a file that :func:`label_pixels` reads, from its header."""
    if is_tiff(path):
        with _opened_tiff(path) as tiff:
            _, channels = _axes_of_planes(tiff.series[0])
            return 1 if channels is None else tiff.series[0].shape[channels]
    with Image.open(path) as image:
        return len(image.getbands())


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF or a BigTIFF does, whatever its name ends with."""
    with path.open("rb") as file:
        return file.read(4) in TIFF_BEGINNINGS


def _require_lossless(path: Path, file_format: Optional[str]) -> None:
    if file_format in LOSSY_FORMATS:
        raise UserError(
            f"Label {path} is stored as {file_format}, which changes ids; store it as PNG or TIFF."
        )


def _require_one_plane(path: Path, number: int, plane: Optional[int]) -> None:
    if number > 1 and plane is None:
        raise UserError(
            f"Label {path} has {number} planes (pages, slices or frames), and a label has one: "
            "save each plane as a file of its own."
        )


def _png_pixels(path: Path) -> np.ndarray:
    """Of several channels with all their bits: Pillow gives only the upper 8 of 16."""
    try:
        from imagecodecs import png_decode
    except ImportError as error:
        raise UserError(
            f"Label {path} has several channels, which are read with imagecodecs: pip install "
            "imagecodecs."
        ) from error
    try:
        return png_decode(path.read_bytes())
    except RuntimeError as error:
        raise UserError(f"Label {path} cannot be read ({error}); write it again.") from error


def _opened_tiff(path: Path) -> "TiffFile":
    try:
        import imagecodecs  # noqa: F401  tifffile needs it for most compressions
        from tifffile import TiffFile
    except ImportError as error:
        raise UserError(
            f"Label {path} is a TIFF, which is read with tifffile and imagecodecs: pip install "
            "tifffile imagecodecs."
        ) from error
    return TiffFile(path)


def _tiff_pixels(path: Path, plane: Optional[int]) -> np.ndarray:
    try:
        with _opened_tiff(path) as tiff:
            series, page = tiff.series[0], tiff.pages.first
            planes, channels = _axes_of_planes(series)
            extra = sum(other.axes[-2:] == "YX" or "S" in other.axes for other in tiff.series[1:])
            number = int(np.prod([series.shape[axis] for axis in planes], dtype=int)) + extra
            _require_one_plane(path, number, plane)
            pixels = series.asarray()
            orientation = page.tags.valueof(EXIF_ORIENTATION, 1)
            bilevel = page.bitspersample == 1 and page.photometric == MINIMUM_IS_WHITE
    except UserError:
        raise
    except Exception as error:  # tifffile raises whatever a damaged file leads it to
        raise UserError(
            f"Label {path} cannot be read ({type(error).__name__}: {error}); write it again."
        ) from error
    pixels = _one_plane(pixels, planes, channels=channels, plane=plane or 0)
    # Of two values it is what is seen that counts, of more than two the numbers.
    pixels = ~pixels.astype(bool) if bilevel else pixels
    return UPRIGHT.get(orientation, np.asarray)(pixels)


def _axes_of_planes(series: Any) -> "tuple[list[int], Optional[int]]":
    """The axes of a TIFF series that count planes, and the axis of its channels, if any."""
    axes = series.axes
    channels = next((axes.index(letter) for letter in "SC" if letter in axes), None)
    rows, columns = axes.rindex("Y"), axes.rindex("X")
    planes = [i for i in range(len(axes)) if i not in (rows, columns, channels)]
    return planes, channels


def _one_plane(
    pixels: np.ndarray, planes: "list[int]", *, channels: Optional[int], plane: int
) -> np.ndarray:
    """(H, W) or (H, W, C) of an array with the axes of :func:`_axes_of_planes`."""
    if channels is not None:
        planes = [axis - (axis > channels) for axis in planes]
        pixels = np.moveaxis(pixels, channels, -1)
    pixels = np.moveaxis(pixels, planes, range(len(planes)))
    pixels = pixels.reshape(-1, *pixels.shape[len(planes) :])[plane]
    return pixels[..., 0] if channels is not None and pixels.shape[-1] == 1 else pixels
