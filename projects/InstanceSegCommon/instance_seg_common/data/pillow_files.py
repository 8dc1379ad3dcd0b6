"""Files that Pillow opens: PNG, JPEG, WebP, GIF, JPEG 2000, PNM and others, in their full depth.

Pillow keeps the top byte of 16-bit colours, or stretches values; such files are decoded by
imagecodecs and OpenCV. Shapes: H, W height and width, C channels; pixels as they are stored, the
EXIF orientation not applied.
"""

import re
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
from PIL import Image, ImageFile

from ..errors import UserError
from .foreign_files import HEAD, avif_is_deep
from .image_header import EXIF_ORIENTATION, JPEG2K, PILLOW, PNG, PNM, ImageHeader
from .pixel_limit import require_within_limit, without_pillow_limit

# Pillow's modes of 8 bits or fewer, and the mode whose channels are the file's own.
NATIVE = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "RGB": "RGB",
    "RGBX": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "P": "RGB",
    "PA": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
}
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
ALPHA = {"LA": 1, "RGBA": 3}
DEEP = {"I": "int32", "F": "float32"}  # and uint16 for all of I;16
PNG_START = b"\x89PNG\r\n\x1a\n"
JP2_START, J2K_START = b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by PNG's colour type


class _Samples(NamedTuple):
    """What a JPEG 2000 codestream says: bits a sample, signed or not, components, opacity."""

    bits: int
    signed: bool
    components: int
    alpha: bool


def open_image(path: Union[str, Path], plane: int = 0) -> ImageFile.ImageFile:
    """Pillow's image of a file within the limit of pixels, at a frame; its pixels not decoded."""
    with without_pillow_limit:
        image = Image.open(path)
        try:
            if plane:
                image.seek(plane)
            require_within_limit(path, (image.height, image.width))
        except Exception:
            image.close()
            raise
    return image


def pillow_header(path: Union[str, Path], start: bytes) -> ImageHeader:
    """The header of a file that is no TIFF.

    Args:
        path: of the file.
        start: its first bytes.

    Returns:
        ``size`` not set yet.

    Raises:
        UserError: colours that cannot be read; and what Pillow raises for a file it cannot open.
    """
    if start.startswith((JP2_START, J2K_START)):
        return _jpeg2k_header(path)
    with open_image(path) as image:
        size, planes, rule = (image.height, image.width), *_planes(image, path)
        facts = {
            "stored_size": size,
            "mode": image.mode,
            "planes": planes,
            "axes": f"frames={planes}" if planes > 1 else "",
            "rule": rule,
            "orientation": orientation_of(image, path),
        }
        if start.startswith(PNG_START) and start[24] == 16:
            channels = PNG_CHANNELS[start[25]]
            alpha = channels - 1 if channels in (2, 4) else None
            return ImageHeader(dtype="uint16", channels=channels, alpha=alpha, decoder=PNG, **facts)
        if image.format == "PPM" and _largest_of_pnm(image) > 255:
            channels = 3 if image.mode == "RGB" else 1
            return ImageHeader(dtype="uint16", channels=channels, decoder=PNM, **facts)
        return _plain_header(path, **facts)


def _plain_header(path, *, mode, **facts) -> ImageHeader:
    """Of pixels that Pillow decodes without loss."""
    native = NATIVE.get(mode)
    if native is not None:
        return ImageHeader(
            dtype="uint8",
            channels=CHANNELS[native],
            alpha=ALPHA.get(native),
            decoder=PILLOW,
            mode=mode,
            **facts,
        )
    dtype = "uint16" if mode.startswith("I;16") else DEEP.get(mode)
    if dtype is None:
        raise UserError(
            f"Image {path} stores its colours as {mode}, which is not read here; convert the file "
            "to RGB or grey."
        )
    return ImageHeader(dtype=dtype, channels=1, decoder=PILLOW, mode=mode, **facts)


def orientation_of(image: Image.Image, path: Union[str, Path]) -> int:
    """The EXIF orientation; 1 if there is none or its block is broken, as Detectron2 has it."""
    # Asking a PNG without an EXIF chunk in its header for one decodes all of it.
    known = "exif" in image.info or "Raw profile type exif" in image.info
    if image.format == "PNG" and not known and not _text_after_pixels(path):
        known_xmp = "XML:com.adobe.xmp" in image.info or "xmp" in image.info
        if not known_xmp:
            return 1
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # Detectron2 does so too: whatever a broken block makes Pillow raise
        return 1
    return orientation if isinstance(orientation, int) and orientation in range(2, 9) else 1


def _text_after_pixels(path: Union[str, Path]) -> bool:
    """Whether a PNG has EXIF or text after its pixels, where Pillow finds it by decoding only."""
    pixels_seen = False
    with Path(path).open("rb") as file:
        file.seek(len(PNG_START))
        while True:
            head = file.read(8)
            if len(head) < 8 or head[4:] == b"IEND":
                return False
            pixels_seen = pixels_seen or head[4:] == b"IDAT"
            if pixels_seen and head[4:] in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)


def _planes(image: Image.Image, path: Union[str, Path]) -> "tuple[int, str]":
    """How many frames a file has that are images of their own, and by which rule."""
    frames = getattr(image, "n_frames", 1)
    if frames == 1:
        deep = image.format == "AVIF" and avif_is_deep(Path(path).read_bytes()[:HEAD])
        return 1, "of more than 8 bits of an AVIF the top 8 are read" if deep else ""
    if image.format != "MPO":
        return frames, f"the {frames} frames of a {image.format} are planes"
    size, equal = image.size, True
    with without_pillow_limit:
        for number in range(1, frames):
            image.seek(number)
            equal = equal and image.size == size
        image.seek(0)
    if equal:
        return frames, f"the {frames} pictures of one size in an MPO are planes"
    # Previews and gain maps belong to the photograph; every other program shows the first picture.
    return 1, f"the first of the {frames} pictures of an MPO is read, others are of other sizes"


def _largest_of_pnm(image: ImageFile.ImageFile) -> int:
    """The value of white in a PNM file."""
    if image.mode == "I":
        return 65535  # or less; it has 16 bits
    arguments = image.tile[0][3]
    return arguments[1] if isinstance(arguments, tuple) and arguments[1:] else 255


def _jpeg2k_header(path: Union[str, Path]) -> ImageHeader:
    samples, size = _jpeg2k_samples(path)
    require_within_limit(path, size)
    declared = samples.components in (1, 3) or samples.alpha
    if samples.bits <= 8 and not samples.signed and samples.components <= 4:
        with open_image(path) as image:
            mode, orientation = image.mode, orientation_of(image, path)
        if declared or mode == "CMYK":
            return _plain_header(path, mode=mode, stored_size=size, orientation=orientation)
    kind, bits = "int" if samples.signed else "uint", 8 if samples.bits <= 8 else 16
    return ImageHeader(
        stored_size=size,
        dtype=f"{kind}{bits if samples.bits <= 16 else 32}",
        channels=samples.components,
        decoder=JPEG2K,
        alpha=samples.components - 1 if samples.alpha else None,
    )


def _jpeg2k_samples(path: Union[str, Path]) -> "tuple[_Samples, tuple[int, int]]":
    """Of the SIZ segment (ISO 15444-1, A.5.1) and the channel definition box (I.5.3.6)."""
    with Path(path).open("rb") as file:
        head = file.read(HEAD)
    begin = head.find(J2K_START)
    if begin < 0 or len(head) < begin + 43:
        raise ValueError("its main header is incomplete")
    siz = head[begin + 8 : begin + 43]
    right, lower, left, upper = (int.from_bytes(siz[i : i + 4], "big") for i in range(0, 16, 4))
    components, depth = int.from_bytes(siz[32:34], "big"), siz[34]
    boxes = re.search(rb"cdef(..)(.*?)jp2c", head[:begin], re.DOTALL)
    alpha = bool(boxes) and any(
        boxes.group(2)[i + 2 : i + 4] in (b"\0\1", b"\0\2")
        for i in range(0, 6 * int.from_bytes(boxes.group(1), "big"), 6)
    )
    samples = _Samples((depth & 127) + 1, depth > 127, components, alpha)
    return samples, (lower - upper, right - left)


def read_with_pillow(path: Union[str, Path], *, mode: str, plane: int = 0) -> np.ndarray:
    """Pixels as Pillow decodes them.

    Args:
        path: of the file.
        mode: that they are converted to; its own for modes of more than 8 bits.
        plane: frame, from 0.

    Returns:
        (H, W) or (H, W, C).
    """
    with without_pillow_limit, open_image(path, plane) as image:
        image.load()  # some formats know their mode only now
        return np.asarray(image if image.mode == mode else image.convert(mode))


def read_png(path: Union[str, Path], plane: int = 0) -> np.ndarray:
    """16-bit PNG: (H, W) or (H, W, C) uint16."""
    codecs = _imagecodecs(path)
    data = Path(path).read_bytes()
    return codecs.apng_decode(data, index=plane) if plane else codecs.png_decode(data)


def read_jpeg2k(path: Union[str, Path]) -> np.ndarray:
    """JPEG 2000: (H, W) or (H, W, C) of the depth and the components of the file."""
    return _imagecodecs(path).jpeg2k_decode(Path(path).read_bytes())


def read_pnm(path: Union[str, Path]) -> np.ndarray:
    """PGM or PPM of 16 bits: (H, W) or (H, W, 3) uint16 RGB, the values as they stand."""
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"Image {path} needs OpenCV ({error}): pip install opencv-python-headless."
        ) from error
    data = np.fromfile(path, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its pixels are incomplete")
    return pixels[:, :, ::-1] if pixels.ndim == 3 else pixels


def _imagecodecs(path):
    try:
        import imagecodecs
    except ImportError as error:
        raise UserError(
            f"Image {path} needs imagecodecs ({error}): pip install imagecodecs."
        ) from error
    return imagecodecs
