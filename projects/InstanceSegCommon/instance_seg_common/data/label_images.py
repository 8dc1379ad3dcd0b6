"""Reading the images of a data set of label maps.

Shapes: H, W height and width in pixels, as Detectron2's ``read_image`` returns an image (that is,
EXIF orientation applied); a label map is (H, W) integers, 0 = background, any other = one instance.
"""

from pathlib import Path
from typing import Optional, Union

import numpy as np

from ..errors import UserError
from .check_report import listed
from .images import image_header
from .label_pixels import label_pixels
from .sbd import ENDING as SBD_ENDING
from .sbd import read_sbd

# By bytes of a floating-point number: up to here it tells every whole number from the next.
LARGEST_WHOLE = {2: 2**11, 4: 2**24, 8: 2**53}
CHANNELS_WITH_ALPHA = (2, 4)


def read_label(path: Path, *, plane: Optional[int] = None) -> np.ndarray:
    """Read an image of ids.

    Args:
        path: lossless, of one channel, or of several that say the same (three equal ones, with or
            without an opaque alpha channel).
        plane: which plane of a file of several, from 0.

    Returns:
        (H, W) integers of any size, 64 bits included, none negative.

    Raises:
        UserError: unreadable, lossy, of channels that differ, of several planes, or with values
            that are negative, fractional, or too large for the file's floating-point type.
    """
    return _whole_numbers(path, _one_channel(path, label_pixels(path, plane=plane)))


def read_colors(path: Path, *, plane: Optional[int] = None) -> np.ndarray:
    """Read an image in which every colour but black is one object.

    Args:
        path: lossless; what is transparent is background.
        plane: which plane of a file of several, from 0.

    Returns:
        (H, W) integers: red, green and blue as one number, 0 = black or transparent.

    Raises:
        UserError: unreadable, lossy, of several planes, half transparent, or neither grey nor RGB.
    """
    pixels = label_pixels(path, plane=plane, palette_colors=True)
    if pixels.ndim == 2:
        return _whole_numbers(path, pixels)
    if pixels.shape[2] > 4 or pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
        raise UserError(
            f"Label {path} has {pixels.shape[2]} channels of type {pixels.dtype}; colours have 3 "
            "channels of 8 or 16 bits."
        )
    visible = np.ones(pixels.shape[:2], bool)
    if pixels.shape[2] in CHANNELS_WITH_ALPHA:
        alpha, pixels = pixels[..., -1], pixels[..., :-1]
        visible = alpha > 0
        if (alpha[visible] < np.iinfo(alpha.dtype).max).any():
            raise UserError(
                f"Label {path} has pixels that are half transparent, as drawing programs make at "
                "smoothed edges: save it without smoothing (anti-aliasing)."
            )
    bits, numbers = 8 * pixels.dtype.itemsize, np.zeros(pixels.shape[:2], np.uint64)
    for channel in np.moveaxis(pixels, 2, 0).astype(np.uint64):
        numbers = (numbers << np.uint64(bits)) | channel
    return np.where(visible, numbers, np.uint64(0))


def read_object(path: Path) -> np.ndarray:
    """Read an image of one object.

    Args:
        path: as for :func:`read_label`; 0 = background, and one other value.

    Returns:
        (H, W) bool.

    Raises:
        UserError: see :func:`read_label`, or more than one value besides 0.
    """
    label = read_label(path)
    mask = label != 0
    inside = label[mask]
    if inside.size and inside.min() != inside.max():
        values = np.unique(inside).tolist()
        raise UserError(
            f"Label {path} has the values {listed(values)} besides 0, but with `instances: files` "
            "a file shows one object in one value. If its values are the ids of objects, leave "
            "`instances` out; if they are smoothed edges, save it without smoothing."
        )
    return mask


def _one_channel(path: Path, pixels: np.ndarray) -> np.ndarray:
    """(H, W) of pixels whose channels say the same."""
    if pixels.ndim == 2:
        return pixels
    number = pixels.shape[2]
    colors = pixels
    if number in CHANNELS_WITH_ALPHA and pixels.dtype.kind in "ui":
        opaque = (pixels[..., -1] == np.iinfo(pixels.dtype).max).all()
        colors = pixels[..., :-1] if opaque else pixels
    if (colors == colors[..., :1]).all():
        return colors[..., 0]
    raise UserError(
        f"Label {path} has {number} channels that differ; an id image has one: store one integer "
        "per pixel. If every colour is an object, write `instances: colors`."
    )


def _whole_numbers(path: Path, labels: np.ndarray) -> np.ndarray:
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if labels.dtype.kind not in "uif":
        raise UserError(
            f"Label {path} holds values of type {labels.dtype}; an id image has whole numbers."
        )
    labels = labels.astype(labels.dtype.newbyteorder("="), copy=False)
    if labels.dtype.kind == "f":
        labels = _whole_floats(path, labels)
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise UserError(
            f"Label {path} has negative ids (lowest {labels.min()}); use 0 for background, and "
            "ignore_dir for regions to ignore."
        )
    return labels


def _whole_floats(path: Path, labels: np.ndarray) -> np.ndarray:
    """Floating-point ids as integers."""
    if not (np.isfinite(labels).all() and np.array_equal(labels, np.floor(labels))):
        raise UserError(f"Label {path} has fractions or nan; an id image has whole numbers.")
    limit = LARGEST_WHOLE.get(labels.dtype.itemsize, 2**53)
    if labels.size and labels.max() > limit:
        raise UserError(
            f"Label {path} has ids up to {labels.max():.0f} in type {labels.dtype}, which cannot "
            f"tell neighbouring whole numbers apart above {limit}, so that two objects may have "
            "become one: save the ids as integers where they were made."
        )
    return labels.astype(np.int64)


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
    labels = read_label(label_path, plane=plane)
    classes = None if class_path is None else read_label(class_path, plane=plane)
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
