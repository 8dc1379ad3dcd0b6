"""The files that a result can be written as; each appears whole or not at all."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.cache import atomic_path
from ..tiling.stitching import StitchedObject
from ..visualization.colors import instance_colors
from ..visualization.drawing import brighten, overlay_labels
from ..visualization.false_colors import display_image
from .geojson import write_geojson
from .label_map_files import write_label_map
from .objects import BAND, encode, label_map_bands
from .result import Result
from .tables import name_of, write_csv

LARGEST_OVERLAY = 2**25  # pixels; larger images are shown smaller
Write = Callable[[Result, Path, str], Path]  # result, path without ending, file of the image


def _label_map(result: Result, stem: Path, file_name: str) -> Path:
    return write_label_map(stem, result.objects, result.size)


def _coco(result: Result, stem: Path, file_name: str) -> Path:
    """All that was found, overlaps and low scores too, as a COCO data set of one image."""
    path = _with_ending(stem, ".json")
    height, width = result.size
    image = {"id": 1, "file_name": file_name, "height": height, "width": width}
    head = {"images": [image], "categories": _categories(result)}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "annotations": [\n')
        for number, one in enumerate(result.found, start=1):
            annotation = {
                "id": number,
                "image_id": 1,
                "category_id": _category_id(result, one.label),
                **_annotation(one, result.size),
            }
            file.write((",\n" if number > 1 else "") + json.dumps(annotation))
        file.write("\n]}\n")
    return path


def _categories(result: Result) -> "list[dict[str, Any]]":
    """COCO's categories: those of the names, or as many as were found."""
    most = max((one.label for one in result.found), default=-1) + 1
    count = max(len(result.class_names), most)
    return [
        {"id": _category_id(result, i), "name": name_of(i, result.class_names)}
        for i in range(count)
    ]


def _category_id(result: Result, label: int) -> int:
    return result.category_ids[label] if result.category_ids else label + 1


def _annotation(one: StitchedObject, size: "tuple[int, int]") -> "dict[str, Any]":
    top, left, bottom, right = one.box
    return {
        "bbox": [left, top, right - left, bottom - top],
        "area": one.area,
        "iscrowd": 0,
        "score": round(one.score, 6),
        "segmentation": encode(one.pieces, size),
    }


def _geojson(result: Result, stem: Path, file_name: str) -> Path:
    path = _with_ending(stem, ".geojson")
    write_geojson(path, result.objects, result.class_names)
    return path


def _csv(result: Result, stem: Path, file_name: str) -> Path:
    path = _with_ending(stem, ".csv")
    write_csv(path, result.table)
    return path


def _overlay(result: Result, stem: Path, file_name: str) -> Path:
    path = _with_ending(stem, ".png")
    with atomic_path(path) as temporary:
        Image.fromarray(overlay(result)).save(temporary, format="PNG")
    return path


FORMS: "dict[str, Write]" = {
    "label-map": _label_map,
    "coco": _coco,
    "geojson": _geojson,
    "csv": _csv,
    "overlay": _overlay,
}
# Endings of each form; the first of them that exists is the file.
ENDINGS = {
    "label-map": (".png", ".tif"),
    "coco": (".json",),
    "geojson": (".geojson",),
    "csv": (".csv",),
    "overlay": (".png",),
}


def overlay(result: Result) -> np.ndarray:
    """The objects over their image, each in a colour, brightened if it is dark.

    Args:
        result: of an image; one of more than 2**25 pixels is shown smaller, every k-th pixel.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    height, width = result.size
    step = math.ceil(math.sqrt(max(1.0, height * width / LARGEST_OVERLAY)))
    labels = np.concatenate(list(_thinned_bands(result, step)))
    image, _ = brighten(display_image(result.pixels[::step, ::step]))
    return overlay_labels(image, labels, instance_colors(len(result.objects)))


def _thinned_bands(result: Result, step: int) -> "Iterator[np.ndarray]":
    """Every k-th row and column of the label map, a band at a time."""
    rows = BAND * step
    bands = label_map_bands(result.objects, result.size, rows=rows, dtype=np.dtype(np.int32))
    for band in bands:
        yield band[::step, ::step]


def _with_ending(stem: Path, ending: str) -> Path:
    # A stem may hold dots.
    return stem.with_name(stem.name + ending)


def written_files(folder: Path, forms: Sequence[str], name: str) -> "list[Path]":
    """The files of a result that exist, one for each form that does.

    Args:
        folder: of the run; a form's files lie in the folder of its name.
        forms: of ``FORMS``.
        name: of the result.
    """
    found = []
    for form in forms:
        stem = folder / form / name
        paths = [_with_ending(stem, ending) for ending in ENDINGS[form]]
        found += [path for path in paths if path.is_file()][:1]
    return found


def write_forms(
    result: Result, folder: Path, forms: Sequence[str], *, name: str, file_name: str
) -> "list[Path]":
    """Write a result in several forms.

    Args:
        result: of one image.
        folder, forms, name: of :func:`written_files`.
        file_name: of the image.

    Returns:
        The files.

    Raises:
        UserError: a form needs a package that is not installed.
    """
    return [FORMS[form](result, folder / form / name, file_name) for form in forms]
