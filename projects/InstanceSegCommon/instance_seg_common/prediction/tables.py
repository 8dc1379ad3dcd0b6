"""Measures of objects, those of scikit-image's ``regionprops_table``, in pixels or micrometres."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from ..data.cache import atomic_path
from ..errors import UserError
from ..tiling.stitching import StitchedObject

# Columns: the power of a pixel's size that a measure has, 0 for one without a unit.
POWERS = {
    "area": 2,
    "centroid_x": 1,
    "centroid_y": 1,
    "left": 1,
    "top": 1,
    "right": 1,
    "bottom": 1,
    "perimeter": 1,
    "eccentricity": 0,
}
PROPERTIES = ("area", "centroid", "perimeter", "eccentricity")
Table = dict[str, np.ndarray]  # columns of one length, by name


def object_table(
    objects: "Sequence[StitchedObject]",
    pixels: np.ndarray,
    *,
    class_names: "Sequence[str]" = (),
    pixel_size: Optional[float] = None,
) -> Table:
    """Measure objects.

    Args:
        objects: without overlaps; object i has id i + 1.
        pixels: (H, W, C) of the image.
        class_names: by class; where there are none the class's index stands.
        pixel_size: side of a pixel in micrometres; None: all lengths are in pixels.

    Returns:
        ``id``, ``class``, ``score``; ``area``, ``centroid_x``, ``centroid_y``, the box ``left``,
        ``top``, ``right``, ``bottom`` (half open), ``perimeter``, with ``_um`` (``_um2``) behind
        the name if in micrometres; ``eccentricity``; ``mean_intensity_0`` and so on by channel.

    Raises:
        UserError: scikit-image is not installed.
    """
    rows = [_measured(one, pixels) for one in objects]
    table: Table = {
        "id": np.arange(1, len(objects) + 1),
        "class": np.array([name_of(one.label, class_names) for one in objects], dtype=str),
        "score": np.array([one.score for one in objects], dtype=float),
    }
    factor = 1.0 if pixel_size is None else pixel_size
    for name, power in POWERS.items():
        unit = "" if pixel_size is None or not power else "_um" if power == 1 else "_um2"
        values = np.array([row[name] for row in rows], dtype=float)
        table[name + unit] = values * factor**power
    for channel in range(pixels.shape[2]):
        key = f"mean_intensity_{channel}"
        table[key] = np.array([row[key] for row in rows], dtype=float)
    return table


def name_of(label: int, class_names: "Sequence[str]") -> str:
    """The name of a class, its number where it has none."""
    return class_names[label] if label < len(class_names) else str(label)


def _measured(one: StitchedObject, pixels: np.ndarray) -> "dict[str, float]":
    try:
        from skimage.measure import regionprops_table
    except ImportError as error:
        raise UserError(f"A table of objects needs scikit-image ({error}): install it.") from error
    box, mask = one.cropped()
    measured = regionprops_table(mask.astype(np.uint8), properties=PROPERTIES)
    values = {key: float(column[0]) for key, column in measured.items()}
    row = {
        "area": values["area"],
        "centroid_x": values["centroid-1"] + box.left,
        "centroid_y": values["centroid-0"] + box.top,
        "left": box.left,
        "top": box.top,
        "right": box.right,
        "bottom": box.bottom,
        "perimeter": values["perimeter"],
        "eccentricity": values["eccentricity"],
    }
    for channel, mean in enumerate(pixels[box.slices][mask].mean(axis=0, dtype=float)):
        row[f"mean_intensity_{channel}"] = float(mean)
    return row


def write_csv(path: Path, table: Table) -> None:
    """Write a table as CSV, whole or not at all.

    A text that a spreadsheet would run as a formula gets an apostrophe before it.

    Args:
        path: of the file.
        table: columns by name.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        for row in zip(*(column.tolist() for column in table.values())):
            writer.writerow([_cell(value) for value in row])


def _cell(value: "str | float") -> str:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return f"{value:.10g}" if isinstance(value, float) else str(value)
