"""Cityscapes: the official tree of images and instance ids.

A label is the content of ``*_gtFine_instanceIds.png``: an id below 1000 is a class, with its
regions in one piece; ``class * 1000 + number`` is one object.
"""

from pathlib import Path
from typing import Union

from .class_rules import IdTable, class_of_id_rule
from .label_files import LabelFolders
from .label_folder import Folder
from .label_map import register_label_map_source
from .label_map_source import LabelMapSource

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
        "Take the *_gtFine_instanceIds.png of the download, not an image of train ids; if it is "
        "that file already, fetch it again."
    ),
)
# Type of file, as folder and in names -> the archive of the download that has it.
ARCHIVES = {
    "leftImg8bit": "leftImg8bit_trainvaltest",
    "gtFine": "gtFine_trainvaltest",
    "disparity": "disparity_trainvaltest",
    "camera": "camera_trainvaltest",
}
STEREO_ENDINGS = {"disparity": "png", "camera": "json"}  # what distances are computed from


class CityscapesSource(LabelMapSource):
    """One split of Cityscapes, see :func:`register_cityscapes_dataset`."""

    def stereo_dir(self, kind: str) -> Path:
        """The folder of this split for "disparity" or "camera"; it need not exist."""
        label_dir = self.folders.label_dir.path
        return label_dir.parents[1] / kind / label_dir.name

    def stereo_path(self, kind: str, label_path: Path, stem: str) -> Path:
        """The disparity or camera file that belongs to a label; it need not exist.

        Args:
            kind: "disparity" or "camera".
            label_path: of the label, in the folder of its city.
            stem: CITY_SEQUENCE_FRAME.
        """
        city = self.stereo_dir(kind) / label_path.parent.name
        return city / f"{stem}_{kind}.{STEREO_ENDINGS[kind]}"

    def absent_stereo(self) -> "list[Path]":
        """The folders that distances need and that are absent."""
        folders = [self.stereo_dir(kind) for kind in STEREO_ENDINGS]
        return [folder for folder in folders if not folder.is_dir()]


def register_cityscapes_dataset(name: str, root: Union[str, Path], split: str) -> None:
    """Register one split of Cityscapes; nothing is read yet.

    Files: ``ROOT/TYPE/SPLIT/CITY/CITY_SEQUENCE_FRAME_TYPE...`` for the types ``leftImg8bit`` and
    ``gtFine`` and, for AP by distance, ``disparity`` and ``camera``. Regions of a class with
    objects that carry no number are ignored, in training and in evaluation.

    Args:
        name: in ``DatasetCatalog``.
        root: the folder with ``leftImg8bit`` and ``gtFine``.
        split: train, val or test; the public labels of test hold no objects.

    Raises:
        UserError: a name that is taken. Files are read when the set is first used.
    """
    register_label_map_source(make_cityscapes_source(name, root, split))


def make_cityscapes_source(
    name: str, root: Union[str, Path], split: str, *, hint: str = "", check_command: str = ""
) -> CityscapesSource:
    """The source of one split.

    Args:
        name, root, split: see :func:`register_cityscapes_dataset`.
        hint: what to do about a folder that is missing.
        check_command: what lists everything that is wrong with the set.
    """
    root = Path(root).expanduser().resolve()
    classes = {class_id: class_name for class_name, class_id in CLASS_IDS.items()}
    rule = {"divisor": PER_CLASS, "classes": classes}
    return CityscapesSource(
        name=name,
        folders=LabelFolders(
            image_dir=Folder.at(root / "leftImg8bit" / split / "*", "_leftImg8bit", unique=True),
            label_dir=Folder.at(root / "gtFine" / split / "*", "_gtFine_instanceIds", unique=True),
        ),
        thing_classes=tuple(CLASS_IDS),
        class_of_id=class_of_id_rule(name, rule, tuple(CLASS_IDS)),
        id_table=ID_TABLE,
        evaluator_type="cityscapes",
        hint=_hint_on_tree(root) or hint,
        check_command=check_command,
    )


def _hint_on_tree(root: Path) -> str:
    """What to do about the usual misplacements; empty if there is none."""
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
