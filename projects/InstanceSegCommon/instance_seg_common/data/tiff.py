"""TIFF files of all kinds through tifffile: BigTIFF, OME, ImageJ, planar or not, any compression.

Shapes: H, W height and width, C channels; pixels as they are stored, the orientation not applied.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

import numpy as np

from ..errors import UserError
from .image_header import EXIF_ORIENTATION, PILLOW, TIFF, ImageHeader
from .pillow_files import CHANNELS, NATIVE, open_image
from .pixel_limit import require_within_limit
from .reading import Reading
from .tiff_axes import CHANNEL_AXES, Layout, layout_of

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ALPHA_SAMPLES = (1, 2)  # of the tag ExtraSamples: associated and unassociated opacity
WHITE_IS_ZERO, PALETTE = 0, 3
# Of the tag PhotometricInterpretation: what is grey, RGB, a palette, ink, or raw.
READABLE = frozenset({0, 1, 2, 3, 4, 5, 6, 32803, 34892})
# What Pillow decodes everywhere: none, CCITT, LZW, JPEG, deflate, PackBits.
PILLOW_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946})
# tifffile's kinds of which the first series is the scan, others its overview, label, thumbnail.
SCANNERS = frozenset({"svs", "scn", "ndpi", "bif", "philips", "qpi", "indica", "avs", "lsm"})
AXIS_WORDS = {"T": "time points", "Z": "slices", "I": "pages", "Q": "on an axis without a name"}
RULES = {5: "its channels are inks (CMYK), not colours", 32803: "its pixels are a sensor's mosaic"}


class _Picture(NamedTuple):
    """One plane of a file: its series, the layout of that, and which of its planes it is."""

    series: "TiffPageSeries"
    layout: Layout
    plane: int

    @property
    def page(self) -> "TiffPage":
        return self.series.keyframe


class _Contents(NamedTuple):
    """series and layouts of a file, further pictures such as thumbnails left out."""

    series: "list[TiffPageSeries]"
    layouts: list[Layout]
    left_out: int

    @property
    def planes(self) -> int:
        return sum(layout.planes for layout in self.layouts)

    def picture(self, plane: int) -> _Picture:
        for series, layout in zip(self.series, self.layouts):
            if plane < layout.planes:
                return _Picture(series, layout, plane)
            plane -= layout.planes
        raise ValueError("a data set asks for a plane that it does not have")


@contextmanager
def open_tiff(path: Union[str, Path]) -> "Iterator[TiffFile]":
    """A TIFF as tifffile opens it; a UserError if that is not installed."""
    try:
        import tifffile
    except ImportError as error:
        raise UserError(f"Image {path} needs tifffile ({error}): pip install tifffile.") from error
    # Every file is an image of its own, also where OME metadata tells of its neighbours.
    with tifffile.TiffFile(path, _multifile=False) as opened:
        elsewhere = opened.is_ome and any(p is None for s in opened.series for p in s.pages)
        if not elsewhere:
            yield opened
            return
    with tifffile.TiffFile(path, is_ome=False) as opened:
        yield opened


def _contents(opened: "TiffFile", reading: Reading) -> _Contents:
    series = [one for one in opened.series if {"Y", "X"} <= set(one.axes)]
    if not series:
        raise ValueError("it holds no image")
    scanned = series[0].kind in SCANNERS
    kept = series[:1] if scanned else [one for one in series if not _is_preview(one)] or series[:1]
    given = reading.planes == "error" and bool(reading.channels)
    layouts = [
        layout_of(one.axes, one.shape, source=one.kind, channels_given=given) for one in kept
    ]
    return _Contents(kept, layouts, len(series) - len(kept))


def _is_preview(series: "TiffPageSeries") -> bool:
    return bool(series.keyframe.is_reduced or series.keyframe.is_mask)


def tiff_header(
    path: Union[str, Path], reading: Reading, *, as_stored: bool = False
) -> ImageHeader:
    """The header of a TIFF.

    Args:
        path: of the file.
        reading: whether channels are given, and the plane.
        as_stored: of a palette, its indices count as the one channel.

    Returns:
        ``size`` not set yet.

    Raises:
        UserError: too large, colours that cannot be read; and what tifffile raises for a file that
            it cannot open.
    """
    with open_tiff(path) as opened:
        contents = _contents(opened, reading)
        picture = contents.picture(reading.plane_index or 0)
        page, layout = picture.page, picture.layout
        require_within_limit(path, layout.size)
        if page.photometric not in READABLE:
            kind = getattr(page.photometric, "name", page.photometric)
            raise UserError(
                f"Image {path} stores its colours as {kind}, which is not read here; convert the "
                "file to RGB or grey."
            )
        orientation = page.tags.valueof(EXIF_ORIENTATION, default=1)
        header = ImageHeader(
            stored_size=layout.size,
            dtype=_dtype(page, layout),
            channels=layout.channels if as_stored or not _has_palette(page, layout) else 3,
            decoder=TIFF,
            alpha=_alpha(page, layout),
            planes=contents.planes,
            axes=_axes(contents),
            rule=_rule(contents, picture),
            orientation=orientation if orientation in range(2, 9) else 1,
        )
        alone = header.planes == 1 and len(picture.series) == 1 and page.index == 0
        pillow = page.compression in PILLOW_COMPRESSIONS and not _unknown_samples(page)
    # Pillow turns a TIFF by its orientation, and Detectron2 turns it once more.
    if not as_stored and alone and pillow and header.orientation == 1 and header.dtype == "uint8":
        return _as_pillow_reads_it(path, header)
    return header


def _as_pillow_reads_it(path: Union[str, Path], header: ImageHeader) -> ImageHeader:
    """The header for Pillow if it reads all that the file has, else as it is."""
    try:
        with open_image(path) as image:
            mode, size = image.mode, (image.height, image.width)
    except (OSError, SyntaxError, ValueError):
        return header
    channels = CHANNELS.get(NATIVE.get(mode, ""))
    all_channels = channels == header.channels or mode in ("CMYK", "YCbCr")
    if channels is None or size != header.stored_size or not all_channels:
        return header
    return replace(header, decoder=PILLOW, mode=mode, channels=channels)


def _unknown_samples(page: "TiffPage") -> int:
    """Samples of a pixel that are neither colour nor opacity, such as a band of near infrared."""
    return sum(int(sample) not in ALPHA_SAMPLES for sample in page.extrasamples)


def _alpha(page: "TiffPage", layout: Layout) -> Optional[int]:
    """Which channel is opacity, where the samples of a pixel are the channels."""
    if layout.channels != page.samplesperpixel:
        return None
    first = page.samplesperpixel - len(page.extrasamples)
    return next(
        (first + i for i, sample in enumerate(page.extrasamples) if int(sample) in ALPHA_SAMPLES),
        None,
    )


def _has_palette(page: "TiffPage", layout: Layout) -> bool:
    """Whether values are looked up in a palette; several channels of ImageJ only show by one."""
    return int(page.photometric) == PALETTE and layout.channels == 1 and page.colormap is not None


def _dtype(page: "TiffPage", layout: Layout) -> str:
    if page.dtype is None:
        raise ValueError(f"samples of {page.bitspersample} bits of an unknown kind")
    if page.dtype.kind == "b":
        return "uint8"
    return page.dtype.newbyteorder("=").name


def _axes(contents: _Contents) -> str:
    if contents.planes == 1:
        return ""
    if len(contents.layouts) > 1:
        return f"{len(contents.layouts)} series, {contents.planes} planes in all"
    return ", ".join(
        f"{axis}={n} {AXIS_WORDS.get(axis, '')}".rstrip()
        for axis, n in contents.layouts[0].plane_axes
    )


def _rule(contents: _Contents, picture: _Picture) -> str:
    rules = [picture.layout.rule, RULES.get(int(picture.page.photometric), "")]
    if picture.layout.size_of("S") > 1 and _unknown_samples(picture.page):
        rules.append(f"the {picture.layout.size_of('S')} samples of a pixel are channels")
    if contents.left_out:
        rules.append(f"{contents.left_out} further pictures (previews, masks) are left out")
    return "; ".join(filter(None, rules))


def read_tiff(path: Union[str, Path], reading: Reading, *, as_stored: bool = False) -> np.ndarray:
    """Pixels of a plane of a TIFF.

    Args:
        path: of the file.
        reading: whether channels are given, and the plane.
        as_stored: for numbers that are no brightness, such as ids: palettes as their indices, and
            only of two values it is what is seen that counts.

    Returns:
        (H, W, C) of the file's type; else palettes as RGB, 0 is black.
    """
    with open_tiff(path) as opened:
        picture = _contents(opened, reading).picture(reading.plane_index or 0)
        read = _as_numbers if as_stored else _as_values
        return read(_pixels(picture), picture)


def _pixels(picture: _Picture) -> np.ndarray:
    """(H, W, C) of a plane, as stored."""
    series, layout = picture.series, picture.layout
    index = dict(zip(_plane_positions(layout), _plane_index(picture)))
    array, axes = _selected(series, layout, index)
    order = [axes.index("Y"), axes.index("X")]
    order += [i for i, axis in enumerate(axes) if axis in CHANNEL_AXES]
    rest = tuple(i for i in range(array.ndim) if i not in order)  # all of length 1
    height, width = layout.size
    return array.transpose(order + list(rest)).reshape(height, width, -1)


def _plane_positions(layout: Layout) -> "list[int]":
    return [i for i, axis in enumerate(layout.axes) if axis not in CHANNEL_AXES + "YX"]


def _plane_index(picture: _Picture) -> "tuple[int, ...]":
    """Where the plane lies on each axis of planes."""
    sizes = [picture.layout.shape[i] for i in _plane_positions(picture.layout)]
    return tuple(int(i) for i in np.unravel_index(picture.plane, sizes)) if sizes else ()


def _selected(
    series: "TiffPageSeries", layout: Layout, index: "dict[int, int]"
) -> "tuple[np.ndarray, str]":
    """The pages of a plane where these are pages, else the plane out of the whole series."""
    page_shape = tuple(n for n in series.keyframe.shape if n > 1)
    leading = len(layout.shape) - len(page_shape)
    by_pages = (
        layout.planes > 1
        and tuple(layout.shape[leading:]) == page_shape
        and len(series) == int(np.prod(layout.shape[:leading]))
        and all(position < leading for position in index)
        and "Y" not in layout.axes[:leading]
    )
    if not by_pages:
        whole = series.asarray()
        selection = tuple(index.get(i, slice(None)) for i in range(whole.ndim))
        axes = "".join(axis for i, axis in enumerate(layout.axes) if i not in index)
        return whole[selection], axes
    ranges = [[index[i]] if i in index else list(range(layout.shape[i])) for i in range(leading)]
    grid = np.meshgrid(*ranges, indexing="ij")
    keys = np.ravel_multi_index(tuple(grid), layout.shape[:leading])
    pages = [series.pages[int(key)] for key in keys.ravel()]
    array = np.stack([page.asarray() for page in pages if page is not None]).reshape(
        *keys.shape, *page_shape
    )
    return array, layout.axes


def _as_numbers(pixels: np.ndarray, picture: _Picture) -> np.ndarray:
    """Numbers (H, W, C) as they are stored, in this machine's order of bytes; bits as bool."""
    if pixels.dtype.kind == "b":
        return ~pixels if int(picture.page.photometric) == WHITE_IS_ZERO else pixels
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _as_values(pixels: np.ndarray, picture: _Picture) -> np.ndarray:
    """Pixels (H, W, C) with 0 as black, colours of a palette looked up, this machine's order."""
    page = picture.page
    if _has_palette(page, picture.layout):
        colors = np.moveaxis(np.asarray(page.colormap), 0, -1)[pixels[:, :, 0]]
        return (colors >> 8).astype(np.uint8) if page.bitspersample <= 8 else colors
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if int(page.photometric) == WHITE_IS_ZERO and pixels.dtype.kind == "u":
        bits = max(8, page.bitspersample)
        return pixels.dtype.type(2**bits - 1) - pixels
    return pixels
