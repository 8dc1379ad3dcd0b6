"""The check of one image file, of any kind of data set."""

from pathlib import Path
from typing import Optional, Union

from ..errors import UserError
from .check_report import Report
from .images import read_pixels


def check_image(
    path: Union[str, Path], report: Report, size: "Optional[tuple[int, int]]" = None
) -> "Optional[tuple[int, int]]":
    """Decode an image as Detectron2 will.

    Args:
        path: of the file.
        report: findings are added to it.
        size: the height and width that the annotations state.

    Returns:
        Its height and width, None if unreadable.
    """
    try:
        height, width = read_pixels(path).shape[:2]
    except UserError as error:
        report.error("image unreadable", path, str(error))
        return None
    if size is not None and (height, width) != tuple(size):
        sentence = (
            f"Image {path} is {width}x{height} pixels, but the annotations say "
            f"{size[1]}x{size[0]}; correct width and height there."
        )
        report.error("sizes differ", path, sentence)
    return height, width
