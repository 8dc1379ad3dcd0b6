"""Reading the images of a data set of label maps.

Shapes: H, W height and width in pixels, as Detectron2's ``read_image`` returns an image (that is,
EXIF orientation applied); a label map is (H, W) integers, 0 = background, any other = one instance.
"""

from pathlib import Path
from typing import Optional, Union

import numpy as np
from detectron2.data.detection_utils import read_image
from PIL import Image

from ..errors import UserError
from .images import READ_ERRORS, image_header, read_pixels
from .pixel_limit import require_within_limit, without_pillow_limit
from .reading import Reading
from .sbd import ENDING as SBD_ENDING
from .sbd import read_sbd

LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP", "JPEG2000"})


def read_label(path: Path, plane: Optional[int] = None) -> np.ndarray:
    """Read an image of ids.

    Args:
        path: single-channel, lossless.
        plane: of a file of several planes, from 0; None: the file must have one.

    Returns:
        (H, W) int32 or an unsigned type of 8 or 16 bit.

    Raises:
        UserError: unreadable, more than one channel, lossy, negative or fractional values.
    """
    if plane is not None:
        return _whole_numbers(path, _plane_of(path, plane))
    try:
        with without_pillow_limit:
            with Image.open(path) as image:
                require_within_limit(path, (image.height, image.width))
                file_format, mode = image.format, image.mode
                planes = getattr(image, "n_frames", 1)
            labels = None if file_format in LOSSY_FORMATS else read_image(str(path))
    except READ_ERRORS as error:
        raise UserError(f"Label {path} cannot be read ({error}); write it again.") from error
    if labels is None:
        raise UserError(
            f"Label {path} is stored as {file_format}, which changes ids; store it as PNG or TIFF."
        )
    if planes > 1:
        raise UserError(
            f"Label {path} has {planes} planes, and its image is one; store one id image a file, "
            "or read a stack of images with `planes: each`."
        )
    if labels.ndim != 2:
        raise UserError(
            f"Label {path} has {labels.shape[2]} channels (mode {mode}); an id image has one: "
            "store one integer per pixel."
        )
    return _whole_numbers(path, labels)


def _plane_of(path: Path, plane: int) -> np.ndarray:
    """One plane (H, W) of a stack of id images."""
    pixels = read_pixels(path, Reading(planes="each", plane=plane))
    if pixels.shape[2] != 1:
        raise UserError(
            f"Label {path} has {pixels.shape[2]} channels; the planes of an id image have one."
        )
    return pixels[:, :, 0]


def _whole_numbers(path: Path, labels: np.ndarray) -> np.ndarray:
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if labels.dtype.kind == "f":
        whole = labels.astype(np.int32)
        if not np.array_equal(whole, labels):
            raise UserError(f"Label {path} has fractions or nan; an id image has whole numbers.")
        labels = whole
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise UserError(
            f"Label {path} has negative ids (lowest {labels.min()}); use 0 for background, and "
            "ignore_dir for regions to ignore."
        )
    return labels


def read_labels(
    label_path: Path, class_path: Optional[Path] = None, *, plane: Optional[int] = None
) -> "tuple[np.ndarray, Optional[np.ndarray]]":
    """The ids of the instances of one image and, where the format has them, the classes.

    Args:
        label_path: an image of ids, or a ``.mat`` of SBD, which has the classes too.
        class_path: class ids of the same size.
        plane: of files of several planes, from 0.

    Returns:
        (H, W) integers each; None for classes that the format does not have.

    Raises:
        UserError: a file that is unreadable or no id image, or sizes that differ.
    """
    if label_path.suffix.lower() == SBD_ENDING:
        return read_sbd(label_path)
    labels = read_label(label_path, plane)
    classes = None if class_path is None else read_label(class_path, plane)
    if classes is not None and classes.shape != labels.shape:
        sentence = size_sentence(
            "Class image", class_path, size=classes.shape, label_size=labels.shape
        )
        raise UserError(sentence)
    return labels, classes


def check_foreground(path: Union[str, Path], size: "tuple[int, ...]") -> None:
    """Raise unless a file can show the foreground of an image of a size (height, width).

    Only the header is read.
    """
    own_size = image_header(path).size
    if own_size != tuple(size):
        raise UserError(size_sentence("Foreground", path, size=own_size, label_size=size))


def read_foreground(path: Union[str, Path], size: "tuple[int, ...]") -> np.ndarray:
    """The foreground of an image that a data set supplies.

    Args:
        path: one channel, not 0 = foreground.
        size: height and width of its image.

    Returns:
        (height, width) bool.

    Raises:
        UserError: unreadable, or of another size.
    """
    check_foreground(path, size)
    return read_label(Path(path)) != 0


def size_sentence(
    what: str,
    path: "Union[str, Path, None]",
    *,
    size: "tuple[int, ...]",
    label_size: "tuple[int, ...]",
) -> str:
    """The sentence for an image that does not have the size (height, width) of its label."""
    return (
        f"{what} {path} is {size[1]}x{size[0]} pixels but its label is "
        f"{label_size[1]}x{label_size[0]}; bring both to one size."
    )
