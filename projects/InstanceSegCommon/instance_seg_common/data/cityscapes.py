"""Cityscapes: the official tree of images, instance ids, disparities and cameras.

Shapes: H, W height and width of an image in pixels; a label is (H, W) unsigned integers, the
content of ``*_gtFine_instanceIds.png``: an id below 1000 is a class, with its regions in one piece;
``class * 1000 + number`` is one object.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from .images import READ_ERRORS, image_header
from .label_map import (
    IdTable,
    LabelMapSource,
    make_source,
    register_label_map_source,
    size_sentence,
)

SPLITS = ("train", "val", "test")
# The scored classes in the official order, with their ids.
CLASS_IDS = {
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
PER_CLASS = 1000  # numbers of objects that a class has room for
LAST_CLASS = 33
# Classes that have objects; caravan (29) and trailer (30) are among them, but are not scored.
WITH_OBJECTS = (24, LAST_CLASS)

ID_TABLE = IdTable(
    known=((0, LAST_CLASS), (WITH_OBJECTS[0] * PER_CLASS, (LAST_CLASS + 1) * PER_CLASS - 1)),
    kept=(WITH_OBJECTS, *((i * PER_CLASS, (i + 1) * PER_CLASS - 1) for i in CLASS_IDS.values())),
    # Several objects that were outlined together: no object to learn, and none to be missed.
    ignored=(WITH_OBJECTS,),
    hint=(
        "Take the *_gtFine_instanceIds.png of the download, not an image of train ids, and fetch "
        "it again if it is that one."
    ),
)
# Type of file, as folder and in names -> the archive of the download that has it.
ARCHIVES = {
    "leftImg8bit": "leftImg8bit_trainvaltest",
    "gtFine": "gtFine_trainvaltest",
    "disparity": "disparity_trainvaltest",
    "camera": "camera_trainvaltest",
}
DISPARITY_MODES = ("I", "I;16", "I;16B")


class CityscapesSource(LabelMapSource):
    """One split of Cityscapes, see :func:`register_cityscapes_dataset`."""

    def stereo_dir(self, kind):
        """The folder of this split that holds what distances are computed from.

        Args:
            kind (str): "disparity" or "camera".

        Returns:
            pathlib.Path: it need not exist.
        """
        return self.label_dir.parents[1] / kind / self.label_dir.name

    def stereo_path(self, kind, label_path, stem):
        """The file that belongs to a label.

        Args:
            kind (str): "disparity" or "camera".
            label_path (pathlib.Path): the label, in the folder of its city.
            stem (str): CITY_SEQUENCE_FRAME.

        Returns:
            pathlib.Path: it need not exist.
        """
        ending = {"disparity": "png", "camera": "json"}[kind]
        return self.stereo_dir(kind) / label_path.parent.name / f"{stem}_{kind}.{ending}"

    def absent_stereo(self):
        """The folders without which there are no distances: list of those that are absent."""
        folders = [self.stereo_dir(kind) for kind in ("disparity", "camera")]
        return [folder for folder in folders if not folder.is_dir()]


def register_cityscapes_dataset(name, root, split):
    """Register one split of Cityscapes; nothing is read yet.

    Files: ``ROOT/TYPE/SPLIT/CITY/CITY_SEQUENCE_FRAME_TYPE...`` for the types ``leftImg8bit`` and
    ``gtFine`` and, for AP by distance, ``disparity`` and ``camera``. Regions of a class with
    objects that carry no number are ignored, in training and in evaluation.

    Args:
        name (str): name in ``DatasetCatalog``.
        root (str or pathlib.Path): the folder with ``leftImg8bit`` and ``gtFine``.
        split (str): train, val or test; the public labels of test hold no objects.

    Raises:
        UserError: a name that is taken. Files are read when the set is first used.
    """
    register_label_map_source(make_cityscapes_source(name, root, split))


def make_cityscapes_source(name, root, split, hint=""):
    """The source of one split.

    Args:
        name, root, split: see :func:`register_cityscapes_dataset`.
        hint (str): what to do about a folder that is missing.

    Returns:
        CityscapesSource
    """
    root = Path(root).expanduser().resolve()
    return make_source(
        kind=CityscapesSource,
        name=name,
        image_dir=root / "leftImg8bit" / split,
        label_dir=root / "gtFine" / split,
        image_suffix="_leftImg8bit",
        label_suffix="_gtFine_instanceIds",
        in_subfolders=True,
        thing_classes=tuple(CLASS_IDS),
        class_of_id={"divisor": PER_CLASS, "classes": {i: n for n, i in CLASS_IDS.items()}},
        id_table=ID_TABLE,
        evaluator_type="cityscapes",
        hint=_hint_on_tree(root) or hint,
    )


def _hint_on_tree(root):
    """What to do about the usual misplacements; empty if none is seen."""
    if not root.is_dir() and (root.parent / "leftImg8bit").is_dir():
        return (
            f"{root.parent} seems to be Cityscapes itself: name the folder above it, and call "
            f"this one {root.name}."
        )
    nested = [name for name in ARCHIVES.values() if (root / name).is_dir()]
    if nested:
        return (
            f"{root / nested[0]} seems to be an archive unpacked into a folder of its own: move "
            f"what is in it to {root}."
        )
    absent = [kind for kind in ("leftImg8bit", "gtFine") if not (root / kind).is_dir()]
    if root.is_dir() and absent:
        return f"Unpack {ARCHIVES[absent[0]]}.zip in {root}."
    return ""


def read_disparity(path, size):
    """The disparities of an image.

    Args:
        path (pathlib.Path): 16 bit grey PNG; a value p above 0 is a disparity of (p - 1) / 256.
        size (tuple[int, int]): H, W of the label that it belongs to.

    Returns:
        ndarray: (H, W) float32, pixels; nan where nothing was measured.

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


def check_disparity_header(path, size):
    """Raise unless a file can be the disparity of a label; the pixels are not decoded.

    Args:
        path (pathlib.Path): the file.
        size (tuple[int, int]): H, W of the label.

    Raises:
        UserError: absent, no image, not 16 bit grey, or of another size.
    """
    if not path.is_file():
        raise UserError(_absent("disparity", path))
    found, mode = image_header(path)
    if mode not in DISPARITY_MODES:
        raise UserError(
            f"Disparity {path} has mode {mode}; it is stored as one channel of 16 bits. Unpack "
            f"{ARCHIVES['disparity']}.zip again."
        )
    if found != tuple(size):
        raise UserError(size_sentence("Disparity", path, found, size))


def _absent(kind, path):
    return (
        f"There is no {kind} file {path}; unpack {ARCHIVES[kind]}.zip again, or move the folder "
        f"{kind} away to do without AP by distance."
    )


def read_camera(path):
    """What turns the disparities of an image into distances.

    Args:
        path (pathlib.Path): the calibration, JSON.

    Returns:
        float: focal length (pixels) times baseline (metres); divided by a disparity in pixels it
        is the distance along the optical axis, in metres.

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


def instance_distances(labels, ids, disparity, factor):
    """How far away some ids of a label are.

    Args:
        labels (ndarray): (H, W) ids.
        ids (sequence of int): K of them.
        disparity (ndarray): (H, W) float32 of :func:`read_disparity`.
        factor (float): of :func:`read_camera`.

    Returns:
        list[tuple[float, float]]: for each id the median distance of its measured pixels in metres
        (inf at disparity 0), -1 without any, and the share of its pixels that are measured.

    Source: Cordts et al. 2016 name the median distance and leave the rest open; the official
    script takes it as ``medDist`` and asks for a ``distConf`` of 0.5, its "stereo density".
    """
    found = []
    for instance_id in ids:
        values = disparity[labels == instance_id].astype(np.float64)
        measured = values[~np.isnan(values)]
        with np.errstate(divide="ignore"):
            median = float(np.median(factor / measured)) if len(measured) else -1.0
        found.append((median, len(measured) / max(len(values), 1)))
    return found


def stereo_problems(source, decode=False):
    """What is wrong with the disparities and cameras of a split.

    Args:
        source (CityscapesSource): both folders are there.
        decode (bool): read all pixels, not only the headers.

    Yields:
        tuple[pathlib.Path, str]: a file, and the sentence about it.
    """
    for stem, (label_path, *_) in source.labels().items():
        disparity, camera = (
            source.stereo_path(kind, label_path, stem) for kind in ("disparity", "camera")
        )
        try:
            size = image_header(label_path)[0]
        except UserError:
            continue  # the sentence about the label says it
        check = read_disparity if decode else check_disparity_header
        for path, look in ((disparity, partial(check, size=size)), (camera, read_camera)):
            try:
                look(path)
            except UserError as error:
                yield path, str(error)
