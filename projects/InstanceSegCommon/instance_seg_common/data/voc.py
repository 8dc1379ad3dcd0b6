"""Pascal VOC 2012 and the Semantic Boundaries Dataset (SBD), from their released trees.

    VOCdevkit/VOC2012/  JPEGImages/*.jpg  SegmentationObject/*.png  SegmentationClass/*.png
                        ImageSets/Segmentation/{train,val}.txt
    benchmark_RELEASE/dataset/  img/*.jpg  inst/*.mat  train.txt  val.txt

VOC's label images have a palette: 0 = background, 1.. = instances (classes in SegmentationClass),
255 = void, which is neither an object nor background and is treated as a region to ignore.

Convention of ``voc_sbd_train``, often called "trainaug": the images of VOC's train list with VOC's
labels, and those of SBD's train and val lists with SBD's labels, both without the images of
VOC's val list. ``voc_sbd_val`` is VOC's val list with VOC's labels; RSIS and others report on it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.data.datasets.pascal_voc import CLASS_NAMES

from ..errors import UserError
from . import sbd
from .class_rules import IdTable
from .label_files import LabelFolders
from .label_folder import Folder
from .label_map import register_label_map_source
from .label_map_loading import load_label_maps
from .label_map_source import LabelMapSource
from .registration import command_of_check, first_existing, placement_hint, register_source
from .selection import Listed

VOID = 255
ID_TABLE = IdTable(known=((0, VOID),), kept=((1, VOID),), ignored=((VOID, VOID),))
VOC_FOLDERS = ("VOCdevkit/VOC2012", "VOC2012")  # the second is where Detectron2 looks
SBD_FOLDER = "benchmark_RELEASE/dataset"
SPLITS = ("train", "val")
WHOLE = ", and unpack the whole archive there"  # added to a hint


@dataclass(frozen=True)
class JoinedSource:
    """A data set that is several sets of label maps, one after the other.

    Args:
        name: of the data set.
        parts: of the same classes; no stem may be in two of them.
    """

    name: str
    parts: tuple[LabelMapSource, ...]
    hint: str = field(default="", compare=False)


def register_voc(root: Path) -> None:
    """Register ``voc_2012_instance_{train,val}`` and ``voc_sbd_{train,val}``; nothing is read yet.

    Args:
        root: what ``DETECTRON2_DATASETS`` names.

    Raises:
        UserError: one of the names is taken by other code.
    """
    for split in SPLITS:
        source = voc_source(f"voc_2012_instance_{split}", root, split)
        register_label_map_source(source, replace=True)
    source = voc_source("voc_sbd_val", root, "val")
    register_label_map_source(source, replace=True)
    parts = (voc_source("voc_sbd_train", root, "train"), sbd_source("voc_sbd_train", root))
    metadata = {"thing_classes": list(CLASS_NAMES), "evaluator_type": "voc"}
    register_source(JoinedSource("voc_sbd_train", parts), load_joined, metadata, replace=True)


def voc_source(name: str, root: Path, split: str) -> LabelMapSource:
    """One of VOC 2012's lists for segmentation with VOC's own labels.

    Args:
        name: of the data set.
        root: what ``DETECTRON2_DATASETS`` names.
        split: train or val.
    """
    tree = first_existing(root, VOC_FOLDERS)
    return LabelMapSource(
        name=name,
        folders=LabelFolders(
            image_dir=Folder.at(tree / "JPEGImages"),
            label_dir=Folder.at(tree / "SegmentationObject"),
            class_dir=Folder.at(tree / "SegmentationClass"),
        ),
        thing_classes=tuple(CLASS_NAMES),
        id_table=ID_TABLE,
        selection=Listed((_list_of(tree, split),)),
        evaluator_type="voc",
        hint=placement_hint(root, f"VOCdevkit/VOC2012/{WHOLE}"),
        check_command=command_of_check(name),
    )


def sbd_source(name: str, root: Path) -> LabelMapSource:
    """SBD's images that are in neither of VOC 2012's lists, with SBD's labels.

    Args:
        name: of the data set.
        root: what ``DETECTRON2_DATASETS`` names.
    """
    tree, voc = root / SBD_FOLDER, first_existing(root, VOC_FOLDERS)
    return LabelMapSource(
        name=name,
        folders=LabelFolders(
            image_dir=Folder.at(tree / "img"),
            label_dir=Folder.at(tree / "inst", endings=(sbd.ENDING,)),
        ),
        thing_classes=tuple(CLASS_NAMES),
        id_table=ID_TABLE,
        selection=Listed(
            tuple(tree / f"{split}.txt" for split in SPLITS),
            exclude=tuple(_list_of(voc, split) for split in SPLITS),
        ),
        evaluator_type="voc",
        hint=placement_hint(root, f"{SBD_FOLDER}/{WHOLE}"),
        check_command=command_of_check(name),
    )


def load_joined(source: JoinedSource) -> "list[dict[str, Any]]":
    """Detectron2's standard dicts of all parts.

    Returns:
        list[dict]: as ``load_label_maps`` returns them, part after part.

    Raises:
        UserError: a part cannot be used, or an image is in two of them.
    """
    dicts = [record for part in source.parts for record in load_label_maps(part)]
    stems = {record["image_id"] for record in dicts}
    if len(stems) < len(dicts):
        raise UserError(
            f"Data set {source.name!r}: {len(dicts) - len(stems)} images are in two of its parts; "
            "unpack the lists of images again."
        )
    return dicts


def _list_of(tree: Path, split: str) -> Path:
    return tree / "ImageSets" / "Segmentation" / f"{split}.txt"
