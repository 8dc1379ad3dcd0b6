"""The leaf segmentation challenge of CVPPP (LSC): A1 to A4, and folds for cross-validation.

    cvppp/A1/  plant001_rgb.png  plant001_label.png  plant001_fg.png  ...

or, as the archive of 2017 unpacks, ``CVPPP2017_LSC_training/training/A1/...``, below
``DETECTRON2_DATASETS`` itself or below its folder ``cvppp``. Labels have a palette: 0 = background,
1.. = leaves. ``_fg.png`` is the foreground, which the challenge of 2017 supplies for its test
images as well.

The labels of the challenge's test images are not public; what is judged here is held-out training
images: ``cvppp_A1_fold0_val`` and so on, of FOLDS folds by a fixed seed.
"""

from . import label_map
from .registration import first_existing, placement_hint
from .selection import Fold

SUBSETS = ("A1", "A2", "A3", "A4")
FOLDS = 5
FOLD_SEED = 0  # part of what a data set's name means: never change it
_ARCHIVE = "CVPPP2017_LSC_training/training"
FOLDERS = ("cvppp", f"cvppp/{_ARCHIVE}", _ARCHIVE)


def register_cvppp(root):
    """Register ``cvppp_{A1..A4}`` and ``cvppp_{A1..A4}_fold{0..4}_{train,val}``; nothing is read.

    Args:
        root (pathlib.Path): what ``DETECTRON2_DATASETS`` names.

    Raises:
        UserError: one of the names is taken by other code.
    """
    for subset in SUBSETS:
        folder = first_existing(root, [f"{parent}/{subset}" for parent in FOLDERS])
        _register(root, f"cvppp_{subset}", folder, None)
        for index in range(FOLDS):
            for split in ("train", "val"):
                fold = Fold(index, FOLDS, held_out=split == "val", seed=FOLD_SEED)
                _register(root, f"cvppp_{subset}_fold{index}_{split}", folder, fold)


def _register(root, name, folder, fold):
    source = label_map.make_source(
        name=name,
        image_dir=folder,
        label_dir=folder,
        image_suffix="_rgb",
        label_suffix="_label",
        foreground_suffix="_fg",
        thing_classes=("leaf",),
        selection=fold,
        hint=placement_hint(root, f"cvppp/ or {_ARCHIVE}/"),
    )
    label_map.register_label_map_source(source, replace=True)
