"""The side of a pixel in micrometres, where a TIFF says it in a way that means it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union
from xml.etree import ElementTree

from . import tiff

if TYPE_CHECKING:
    from tifffile import TiffFile

TO_MICROMETRES = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0,
    "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6,
}  # fmt: skip
CENTIMETRE = 3  # of the tag ResolutionUnit; an inch is what programs write that know nothing
SQUARE = 0.01  # sides may differ by this share; else a pixel has no one side
_SCANNERS_MPP = re.compile(r"\bMPP\s*=\s*([0-9.]+)")


def pixel_size_of(path: Union[str, Path]) -> Optional[float]:
    """The side of a pixel in micrometres.

    Read are OME-XML's ``PhysicalSizeX``, ImageJ's ``unit`` with the resolution, ``MPP`` of a slide
    scanner, and a resolution per centimetre. A resolution per inch is passed over: 72 or 96 stands
    in files of programs that know of no scale.

    Args:
        path: of an image file.

    Returns:
        None for other files, for pixels that are not square, and where nothing is said.
    """
    with Path(path).open("rb") as file:
        if not file.read(4).startswith(tiff.STARTS):
            return None
    try:
        with tiff.open_tiff(path) as opened:
            sides = _sides(opened)
    except Exception:  # a file can be an image all the same, and its scale is no part of that
        return None
    if sides is None or not all(side > 0 for side in sides):
        return None
    return sides[0] if abs(sides[0] - sides[1]) <= SQUARE * sides[0] else None


def _sides(opened: "TiffFile") -> "Optional[tuple[float, float]]":
    """Width and height of a pixel in micrometres."""
    if opened.is_ome and opened.ome_metadata:
        return _of_ome(opened.ome_metadata)
    page: Any = opened.pages[0]
    scanner = _SCANNERS_MPP.search(page.description or "")
    if scanner:
        return float(scanner[1]), float(scanner[1])
    horizontal, vertical = (_resolution(page, name) for name in ("XResolution", "YResolution"))
    if not horizontal or not vertical:
        return None
    if opened.is_imagej:
        unit = str((opened.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ")
        factor = TO_MICROMETRES.get(unit)
    else:
        unit = int(page.tags.valueof("ResolutionUnit", default=0))
        factor = TO_MICROMETRES["cm"] if unit == CENTIMETRE else None
    return None if factor is None else (factor / horizontal, factor / vertical)


def _of_ome(text: str) -> "Optional[tuple[float, float]]":
    pixels = next((e for e in ElementTree.fromstring(text).iter() if _is_pixels(e)), None)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    sides = []
    for axis in "XY":
        factor = TO_MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if factor is None:
            return None
        sides.append(float(pixels.attrib[f"PhysicalSize{axis}"]) * factor)
    return sides[0], sides[1]


def _is_pixels(element: ElementTree.Element) -> bool:
    return element.tag.rpartition("}")[2] == "Pixels"


def _resolution(page: Any, name: str) -> Optional[float]:
    """Pixels per unit, of a tag."""
    value = page.tags.valueof(name, default=None)
    return value[0] / value[1] if value and value[1] else None
