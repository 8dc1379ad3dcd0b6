"""How far away the objects of Cityscapes are, from its disparities and cameras.

Shapes: H, W height and width of an image in pixels; a label is (H, W) instance ids.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from .cityscapes import ARCHIVES, CityscapesSource
from .images import READ_ERRORS, image_header
from .label_images import size_sentence

DISPARITY_MODES = ("I", "I;16", "I;16B")


def read_disparity(path: Path, size: "tuple[int, ...]") -> np.ndarray:
    """The disparities of an image.

    Args:
        path: 16 bit grey PNG; a value p above 0 is a disparity of (p - 1) / 256.
        size: H, W of the label that it belongs to.

    Returns:
        (H, W) float32, pixels; nan where nothing was measured.

    Raises:
        UserError: unreadable, not 16 bit grey, or of another size.

    Source: README of the official scripts.
    """
    check_disparity_header(path, size)
    try:
        with Image.open(path) as image:
            values = np.asarray(image).astype(np.float32)
    except READ_ERRORS as error:
        raise UserError(
            f"Disparity {path} cannot be read ({error}); unpack {ARCHIVES['disparity']}.zip again."
        ) from error
    return np.where(values > 0, (values - 1) / 256, np.float32(np.nan))


def check_disparity_header(path: Path, size: "tuple[int, ...]") -> None:
    """Raise unless a file can be the disparity of a label; the pixels are not decoded.

    Args:
        path: of the file.
        size: H, W of the label.

    Raises:
        UserError: absent, no image, not 16 bit grey, or of another size.
    """
    if not path.is_file():
        raise UserError(_absent("disparity", path))
    header = image_header(path)
    own_size, mode = header.size, header.mode
    if mode not in DISPARITY_MODES:
        raise UserError(
            f"Disparity {path} has mode {mode}; it is stored as one channel of 16 bits. Unpack "
            f"{ARCHIVES['disparity']}.zip again."
        )
    if own_size != tuple(size):
        raise UserError(size_sentence("Disparity", path, size=own_size, label_size=size))


def _absent(kind: str, path: Path) -> str:
    return (
        f"There is no {kind} file {path}; unpack {ARCHIVES[kind]}.zip again, or move the folder "
        f"{kind} away to do without AP by distance."
    )


def read_camera(path: Path) -> float:
    """What turns the disparities of an image into distances.

    Args:
        path: of the calibration, JSON.

    Returns:
        Focal length (pixels) times baseline (metres); divided by a disparity in pixels it is the
        distance along the optical axis, in metres.

    Raises:
        UserError: absent, no JSON, or without these two numbers.
    """
    if not path.is_file():
        raise UserError(_absent("camera", path))
    try:
        content = json.loads(path.read_text())
        factor = float(content["intrinsic"]["fx"]) * float(content["extrinsic"]["baseline"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"Camera file {path} has no intrinsic.fx and extrinsic.baseline ({error!r}); unpack "
            f"{ARCHIVES['camera']}.zip again."
        ) from error
    if not 0 < factor < np.inf:
        raise UserError(
            f"Camera file {path} gives {factor} as focal length times baseline, which must be "
            f"above 0; unpack {ARCHIVES['camera']}.zip again."
        )
    return factor


def instance_distances(
    labels: np.ndarray, ids: Sequence[int], disparity: np.ndarray, *, factor: float
) -> "list[tuple[float, float]]":
    """How far away some ids of a label are.

    Args:
        labels: (H, W) ids.
        ids: K of them.
        disparity: (H, W) float32 of :func:`read_disparity`.
        factor: of :func:`read_camera`.

    Returns:
        For each id the median distance of its measured pixels in metres (inf at disparity 0), -1
        without any, and the share of its pixels that are measured.

    Source: Cordts et al. 2016 name the median distance and leave the rest open; the official
    script takes it as ``medDist`` and asks for a ``distConf`` of 0.5, its "stereo density".
    """
    distances = []
    for instance_id in ids:
        values = disparity[labels == instance_id].astype(np.float64)
        measured = values[~np.isnan(values)]
        with np.errstate(divide="ignore"):
            median = float(np.median(factor / measured)) if len(measured) else -1.0
        distances.append((median, len(measured) / max(len(values), 1)))
    return distances


def stereo_problems(
    source: CityscapesSource, *, decode: bool = False
) -> "Iterator[tuple[Path, str]]":
    """What is wrong with the disparities and cameras of a split.

    Args:
        source: of which both folders exist.
        decode: read all pixels, not only the headers.

    Yields:
        A file, and the sentence about it.
    """
    for stem, (label_path, *_) in source.files().labels.items():
        disparity, camera = (
            source.stereo_path(kind, label_path, stem) for kind in ("disparity", "camera")
        )
        try:
            size = image_header(label_path).size
        except UserError:
            continue  # another sentence is about the label
        check = read_disparity if decode else check_disparity_header
        for path, read in ((disparity, partial(check, size=size)), (camera, read_camera)):
            try:
                read(path)
            except UserError as error:
                yield path, str(error)
