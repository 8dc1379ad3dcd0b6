"""How the image files of a data set are read, where there is more than one way to read them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

READING = "reading"  # key of a record (dict) of a data set; absent where the defaults hold


@dataclass(frozen=True)
class Reading:
    """How the image files of a data set are read.

    Args:
        planes: what to do with a file of several planes (pages, frames, slices, time points):
            "error", "first", or "each" (every plane an image of its own).
        channels: which of a file's channels are read, in this order, from 0; (): all.
        exif: "apply" the EXIF orientation, as Detectron2 does, or "ignore" it, for annotations that
            were made on the pixels as they are stored.
        plane: of a record of ``planes: each``: which one it is, from 0.
    """

    planes: str = "error"
    channels: tuple[int, ...] = ()
    exif: str = "apply"
    plane: Optional[int] = None


def reading_of(record: Mapping[str, Any]) -> Reading:
    """How the image of a record is read.

    Args:
        record (dict): of a data set, of this project or of other code.
    """
    return record.get(READING, Reading())
