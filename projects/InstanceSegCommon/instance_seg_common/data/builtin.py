"""The data sets that the configs of this project name."""

from pathlib import Path
from typing import Optional

from . import cityscapes, coco
from .cvppp import register_cvppp
from .label_map import register_label_map_source, source_of_folders
from .registration import command_of_check, datasets_root, placement_hint
from .synthetic import NAMED_SETS, register_synthetic_dataset
from .voc import register_voc

SPLITS = ("train", "val")
UP_TO = 20  # most nuclei of an image in the dsb2018_*_upto20 sets


def register_builtin_datasets() -> None:
    """Register every named data set below ``$DETECTRON2_DATASETS``; nothing is read or rendered.

    Names: ``dsb2018_{train,val}``, ``dsb2018_{train,val}_upto20``, ``coco_mini_{train,val}``,
    ``synthetic_{shapes,sticks}[_256]_{train,val}``, ``cityscapes_instance_{train,val,test}``,
    ``voc_2012_instance_{train,val}``, ``voc_sbd_{train,val}``, ``cvppp_{A1..A4}`` and
    ``cvppp_{A1..A4}_fold{0..4}_{train,val}``. A second call changes nothing, unless
    ``DETECTRON2_DATASETS`` has changed: then the sets move with it.

    Raises:
        UserError: one of the names is taken by other code. A missing folder is no error before
            its set is used.
    """
    root = datasets_root()
    for split in SPLITS:
        _register_nuclei(root, split, suffix="", max_instances=None)
        _register_nuclei(root, split, suffix=f"_upto{UP_TO}", max_instances=UP_TO)
        name = f"coco_mini_{split}"
        source = coco.make_source(
            name=name,
            json_file=root / "coco_mini" / "annotations" / f"instances_{split}2017.json",
            image_root=root / "coco_mini" / f"{split}2017",
            hint=placement_hint(root, "coco_mini/"),
            check_command=command_of_check(name),
        )
        coco.register_coco_source(source, replace=True)
    for split in cityscapes.SPLITS:
        name = f"cityscapes_instance_{split}"
        source = cityscapes.make_cityscapes_source(
            name,
            root / "cityscapes",
            split,
            hint=placement_hint(root, "cityscapes/"),
            check_command=command_of_check(name),
        )
        register_label_map_source(source, replace=True)
    register_voc(root)
    register_cvppp(root)
    for name, parameters in NAMED_SETS.items():
        register_synthetic_dataset(name, **parameters)


def _register_nuclei(root: Path, split: str, *, suffix: str, max_instances: Optional[int]) -> None:
    name = f"dsb2018_{split}{suffix}"
    source = source_of_folders(
        name=name,
        image_dir=root / "dsb2018" / split / "images",
        label_dir=root / "dsb2018" / split / "labels",
        thing_classes=("nucleus",),
        max_instances=max_instances,
        hint=placement_hint(root, "dsb2018/"),
        check_command=command_of_check(name),
    )
    register_label_map_source(source, replace=True)
