"""What is said of an image file: its kind in words, its EXIF orientation, a size that differs.

size = (height, width) in pixels.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

from ..errors import UserError
from .image_header import ImageHeader
from .images import image_header
from .reading import Reading, reading_of

logger = logging.getLogger(__name__)

# What a viewer does with the pixels as they are stored.
TURNS_IN_WORDS = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored and turned by 270 degrees clockwise",
    6: "turned by 90 degrees clockwise",
    7: "mirrored and turned by 90 degrees clockwise",
    8: "turned by 270 degrees clockwise",
}
ENTRY = "the data set's entry of DATASETS.REGISTER"


def kind_of(header: ImageHeader) -> str:
    """Depth and channels of an image, such as "uint8, 3 channels"."""
    channels = "1 channel" if header.channels == 1 else f"{header.channels} channels"
    opacity = "" if header.alpha is None else " (the last is opacity)"
    return f"{header.dtype}, {channels}{opacity}"


def orientation_sentence(path: Union[str, Path], header: ImageHeader) -> str:
    """The sentence for an image that is turned by its EXIF orientation."""
    return (
        f"Image {path} has the EXIF orientation {header.orientation} (tag 274) and is read "
        f"{TURNS_IN_WORDS[header.orientation]}, as Detectron2 reads it. If its objects were "
        f"annotated on the pixels as they are stored, write `exif: ignore` in {ENTRY}."
    )


def size_sentence(
    path: Union[str, Path],
    reading: Reading,
    *,
    size: "tuple[int, ...]",
    stated: "tuple[int, ...]",
    by: str,
) -> str:
    """The sentence for an image whose size is not what belongs to it.

    Args:
        path: of the image.
        reading: of it.
        size: of the image as it was read.
        stated: what the size should be.
        by: what states it, such as "its annotation" or "its label".
    """
    header = image_header(path, reading)
    words = f"Image {path} is {_in_words(size)} pixels, {by} says {_in_words(stated)}"
    if header.orientation == 1:
        return f"{words}; bring both to one size."
    how = TURNS_IN_WORDS[header.orientation]
    tag = f"The file has the EXIF orientation {header.orientation} (tag 274)"
    stored = header.stored_size
    if reading.exif == "apply" and tuple(stated) == stored:
        return (
            f"{words}. {tag}: it is read {how}, and {_in_words(stored)} is its size as it is "
            f"stored, so it was annotated before it was turned. Write `exif: ignore` in {ENTRY}; "
            "changing sizes would put every mask in the wrong place."
        )
    if reading.exif == "ignore" and tuple(stated) == stored[::-1]:
        return (
            f"{words}. {tag}, which `exif: ignore` leaves out: a viewer shows it {how}, and so it "
            f"was annotated. Write `exif: apply` in {ENTRY}, or leave the key out."
        )
    return f"{words}. {tag} and is {_in_words(stored)} as it is stored; neither fits."


def _in_words(size: "tuple[int, ...]") -> str:
    return f"{size[1]}x{size[0]}"


def require_stated_size(record: Mapping[str, Any], size: "tuple[int, ...]") -> None:
    """Raise a sentence if an image does not have the size that its record states.

    Args:
        record (dict): of a data set; without ``height`` and ``width`` any size is right.
        size: of the image as it was read.

    Raises:
        UserError: with the way out where the EXIF orientation is the reason.
    """
    if "height" not in record or "width" not in record:
        return
    stated = record["height"], record["width"]
    if stated != tuple(size):
        sentence = size_sentence(
            record["file_name"], reading_of(record), size=size, stated=stated, by="its annotation"
        )
        raise UserError(f"{sentence} tools/check_dataset.py lists all such images.")


def log_rules(name: str, headers: "Sequence[tuple[str, ImageHeader]]") -> None:
    """Log each rule by which axes of a data set's files were taken for planes or channels, once.

    Args:
        name: of the data set.
        headers: path and header of each file.
    """
    files: dict[str, list[str]] = {}
    for path, header in headers:
        if header.rule:
            files.setdefault(header.rule, []).append(path)
    for rule, paths in files.items():
        logger.info(f"Data set {name!r}: {rule} ({len(paths)} files, such as {paths[0]}).")
