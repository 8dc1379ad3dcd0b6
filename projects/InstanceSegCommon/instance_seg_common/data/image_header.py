"""What an image file says of itself before its pixels are decoded."""

from dataclasses import dataclass
from typing import Optional

EXIF_ORIENTATION = 274  # the tag, of EXIF as of TIFF
# How the pixels are decoded.
PILLOW, TIFF, PNG, JPEG2K, PNM = "Pillow", "TIFF", "PNG", "JPEG 2000", "PNM"


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says of itself.

    Args:
        stored_size: (height, width) in pixels as they are stored.
        dtype: of the pixels, numpy's name, such as "uint8".
        channels: that ``read_pixels`` returns.
        decoder: one of the above.
        mode: Pillow's name of the pixel format, such as "RGB"; "" where Pillow does not read it.
        alpha: which of the channels is opacity, by what the file says; None: none.
        planes: pages, frames, slices or time points; 1 for an image.
        axes: what the planes are, such as "T=3, Z=4"; "" for one plane.
        rule: by which an axis was taken for planes or for channels, a part of a sentence; "" where
            nothing had to be decided.
        orientation: the EXIF tag 274, also where it is ignored; 1: none, or as it is stored.
        size: (height, width) in pixels as ``read_pixels`` returns them: turned by the orientation,
            unless ``exif: ignore``.
    """

    stored_size: tuple[int, int]
    dtype: str
    channels: int
    decoder: str
    mode: str = ""
    alpha: Optional[int] = None
    planes: int = 1
    axes: str = ""
    rule: str = ""
    orientation: int = 1
    size: tuple[int, int] = (0, 0)

    @property
    def stock(self) -> bool:
        """Whether Detectron2 has a meaning for the pixels: grey or RGB of 8 bits, opacity or not.

        ``images.read_stock`` then gives what its ``read_image`` gives, and the number of channels
        is that of the format asked for.
        """
        opaque = self.channels if self.alpha is None else self.alpha
        last = self.alpha in (None, self.channels - 1)
        return self.dtype == "uint8" and opaque in (1, 3) and last

    @property
    def unnamed_axis(self) -> bool:
        """The only axis of planes has no name, so that it may be meant as channels."""
        return self.decoder == TIFF and self.channels == 1 and self.axes[:2] in ("I=", "Q=")
