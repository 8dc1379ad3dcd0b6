"""Config keys beyond stock Detectron2: the shared ones, and those of what is installed.

A method announces itself by an entry point of the group ``instance_seg.methods``: its name is the
meta-architecture, its value the function that adds the method's keys to a config. Loading that
function imports the package, which registers the meta-architecture. Packages with backbones do the
same under ``instance_seg.backbones``, by any name.
"""

from importlib.metadata import entry_points
from typing import Any

from detectron2.config import CfgNode, get_cfg

from .errors import UserError

MAX_PIXELS = 2_000_000_000  # default of INPUT.MAX_PIXELS, which holds where no config is loaded
METHODS = "instance_seg.methods"
BACKBONES = "instance_seg.backbones"
# Entry points of dicts {dotted key: RemovedKey}: keys that a config had in earlier versions.
REMOVED_KEYS = "instance_seg.removed_keys"


def get_cfg_with_plugins() -> CfgNode:
    """Detectron2's defaults with the shared keys and those of installed methods and backbones.

    Returns:
        Not frozen.

    Raises:
        UserError: an installed package cannot be imported.
    """
    cfg = get_cfg()
    add_common_config(cfg)
    for group in (METHODS, BACKBONES):
        for add_config in announced(group).values():
            add_config(cfg)
    return cfg


def announced(group: str) -> dict[str, Any]:
    """What installed packages announce under a group of entry points.

    Args:
        group: such as ``METHODS``.

    Returns:
        The objects by their names, in the order of the names, which is the same everywhere.

    Raises:
        UserError: an object cannot be imported.
    """
    objects = {}
    for entry in sorted(_entries(group), key=lambda entry: entry.name):
        try:
            objects[entry.name] = entry.load()
        except Exception as error:  # whatever a foreign package raises while it is imported
            raise UserError(
                f"The package of {entry.name} announces {entry.value} as {group}, which cannot be "
                f"imported: {type(error).__name__}: {error}. Mend or uninstall that package."
            ) from error
    return objects


def _entries(group):
    everything = entry_points()
    if hasattr(everything, "select"):
        return everything.select(group=group)
    return everything.get(group, ())  # Python 3.9 has a plain dict


def add_common_config(cfg: CfgNode) -> None:
    """Register the shared keys on ``cfg``; a second call changes nothing.

    Args:
        cfg: not frozen.
    """
    _add_defaults(
        cfg.DATASETS,
        REGISTER=[],  # own data sets, a list of mappings; see datasets/README.md
    )
    _add_defaults(
        cfg.INPUT,
        MAX_PIXELS=MAX_PIXELS,  # height times width of the largest image that is read
        AUGMENTATIONS=[],  # [name, arguments] of detectron2.data.transforms, before crop and resize
        CHANNELS=[],  # of the image files, from 0, in this order; [] = all; a data set's own win
        NORMALIZATION="fixed",  # values as they are; percentile: of each image and channel
        PERCENTILES=[1.0, 99.8],  # brought to 0 and 255 (StarDist's; Cellpose has 1 and 99)
    )
    _add_defaults(
        cfg.SOLVER,
        OPTIMIZER="SGD",  # SGD or AdamW
        BACKBONE_LR_FACTOR=1.0,  # learning rate of the backbone, as a factor of BASE_LR
        EMA_DECAY=0.0,  # of the weights' moving average, which is evaluated and saved; 0 = none
        FULL_MODEL_CLIP_NORM=0.0,  # largest L2 norm of the whole model's gradient; 0 = no clipping
    )
    _add_defaults(
        cfg.TEST,
        BEST_METRIC="segm/AP",  # model_best.pth is chosen by it; "-dic/DiC" = lower is better
        PATIENCE=0,  # evaluations without a better value until training stops; 0 = never
        VALIDATION_LOSS_IMAGES=64,  # images of DATASETS.TEST[0] for the validation loss; 0 = none
        PICTURES=4,  # images of DATASETS.TEST[0] drawn into TensorBoard at each evaluation
        LABEL_MAP_SCORE_THRESHOLD=0.5,  # least score of an instance in a label map, 0 to 1
        LABEL_MAP_MIN_AREA=0,  # least area of an instance in a label map, pixels
        TILE_SIZE=0,  # pixels; images 1.5 times as long are predicted in such tiles; 0 = never
        TILE_OVERLAP=64,  # least overlap of two tiles, pixels
        FOREGROUND_GIVEN=False,  # restrict predictions to the foreground that the data set supplies
    )


def _add_defaults(node: CfgNode, **defaults: Any) -> None:
    for key, value in defaults.items():
        if key not in node:
            node[key] = value
