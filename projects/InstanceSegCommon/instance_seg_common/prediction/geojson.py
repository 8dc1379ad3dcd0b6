"""Objects as GeoJSON: exact outlines of their pixels, with holes and parts, for QuPath and GIS."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.cache import atomic_path
from ..errors import UserError
from ..tiling.stitching import Piece, StitchedObject
from .tables import name_of


def write_geojson(
    path: Path, objects: "Sequence[StitchedObject]", class_names: "Sequence[str]"
) -> None:
    """Write a FeatureCollection, a feature for each object, whole or not at all.

    Args:
        path: of the file.
        objects: in the order of their ids.
        class_names: by class.

    Raises:
        UserError: rasterio is not installed.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [\n')
        for number, one in enumerate(objects, start=1):
            feature = _feature(one, number, class_names)
            file.write((",\n" if number > 1 else "") + json.dumps(feature))
        file.write("\n]}\n")


def _feature(one: StitchedObject, number: int, class_names: "Sequence[str]") -> "dict[str, Any]":
    return {
        "type": "Feature",
        "geometry": outline(one.cropped()),
        "properties": {
            "objectType": "detection",
            "name": str(number),
            "classification": {"name": name_of(one.label, class_names)},
            "measurements": {"score": one.score},
        },
    }


def outline(piece: Piece) -> "dict[str, Any]":
    """The outline of some pixels along their edges.

    Args:
        piece: in coordinates of an image; pixel (0, 0) is the square from (0, 0) to (1, 1).

    Returns:
        A GeoJSON Polygon, or a MultiPolygon where the pixels are in several parts (of 4
        neighbours, as polygons that touch themselves in a point are not valid); x before y.

    Raises:
        UserError: rasterio is not installed.
    """
    try:
        from rasterio.features import shapes
        from rasterio.transform import Affine
    except ImportError as error:
        raise UserError(f"GeoJSON needs rasterio ({error}): pip install rasterio.") from error
    place = Affine.translation(piece.box.left, piece.box.top)
    pixels = piece.mask.astype(np.uint8)
    parts = [
        shape["coordinates"]
        for shape, _ in shapes(pixels, mask=piece.mask, connectivity=4, transform=place)
    ]
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}
