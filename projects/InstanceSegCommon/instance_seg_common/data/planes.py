"""Which planes of an image and of its label belong together."""

from pathlib import Path
from typing import NamedTuple, Optional

from ..errors import UserError
from .images import image_header
from .reading import Reading
from .sbd import ENDING as SBD_ENDING


class Plane(NamedTuple):
    """of_image, of_label: numbers from 0, None for a file that has one; suffix: of the image id."""

    of_image: Optional[int]
    of_label: Optional[int]
    suffix: str = ""


def planes_of(image_path: Path, label_path: Path, reading: Reading) -> "list[Plane]":
    """The planes of an image that a reading takes, each with its plane of the label.

    Args:
        image_path, label_path: of one image.
        reading: of the data set.

    Returns:
        One for each image.

    Raises:
        UserError: with ``planes: each``, a label of another number of planes.
    """
    if reading.planes == "error":
        return [Plane(None, None)]
    of_image = image_header(image_path, reading).planes
    of_label = _planes_of_label(label_path)
    if reading.planes == "first":
        return [Plane(None, 0 if of_label > 1 else None)]
    if of_image != of_label:
        raise UserError(
            f"Image {image_path} has {of_image} planes but its label {label_path} has {of_label}; "
            "with `planes: each`, a label has a plane for each of the image's."
        )
    if of_image == 1:
        return [Plane(None, None)]
    return [Plane(number, number, f"_plane{number}") for number in range(of_image)]


def _planes_of_label(path: Path) -> int:
    if path.suffix.lower() == SBD_ENDING:
        return 1
    return image_header(path, Reading(planes="each")).planes
