"""The leaf segmentation challenge of CVPPP (LSC): A1 to A4, and folds for cross-validation.

    cvppp/A1/  plant001_rgb.png  plant001_label.png  plant001_fg.png  ...

or, as the archive of 2017 unpacks, ``CVPPP2017_LSC_training/training/A1/...``, below
``DETECTRON2_DATASETS`` itself or below its folder ``cvppp``. Labels have a palette: 0 = background,
1.. = leaves. ``_fg.png`` is the foreground, which the challenge of 2017 supplies for its test
images as well.

The labels of the challenge's test images are not public, so training images are held out instead:
``cvppp_A1_fold0_val`` and so on, of FOLDS folds by a fixed seed.
"""

from pathlib import Path
from typing import Optional

from .label_files import LabelFolders
from .label_folder import Folder
from .label_map import register_label_map_source
from .label_map_source import LabelMapSource
from .registration import command_of_check, first_existing, placement_hint
from .selection import Fold

SUBSETS = ("A1", "A2", "A3", "A4")
FOLDS = 5
FOLD_SEED = 0  # part of what a data set's name means: never change it
_ARCHIVE = "CVPPP2017_LSC_training/training"
FOLDERS = ("cvppp", f"cvppp/{_ARCHIVE}", _ARCHIVE)


def register_cvppp(root: Path) -> None:
    """Register ``cvppp_{A1..A4}`` and ``cvppp_{A1..A4}_fold{0..4}_{train,val}``; nothing is read.

    Args:
        root: what ``DETECTRON2_DATASETS`` names.

    Raises:
        UserError: one of the names is taken by other code.
    """
    for subset in SUBSETS:
        folder = first_existing(root, [f"{parent}/{subset}" for parent in FOLDERS])
        _register(root, f"cvppp_{subset}", folder)
        for index in range(FOLDS):
            for split in ("train", "val"):
                fold = Fold(index, FOLDS, held_out=split == "val", seed=FOLD_SEED)
                _register(root, f"cvppp_{subset}_fold{index}_{split}", folder, fold=fold)


def _register(root: Path, name: str, folder: Path, *, fold: Optional[Fold] = None) -> None:
    source = LabelMapSource(
        name=name,
        folders=LabelFolders(
            image_dir=Folder.at(folder, "_rgb"),
            label_dir=Folder.at(folder, "_label"),
            foreground_dir=Folder.at(folder, "_fg"),
        ),
        thing_classes=("leaf",),
        selection=fold,
        hint=placement_hint(root, f"cvppp/ or {_ARCHIVE}/"),
        check_command=command_of_check(name),
    )
    register_label_map_source(source, replace=True)
