"""Config keys that the shared trainer, data and evaluation need beyond stock Detectron2."""

from detectron2.config import CfgNode


def add_common_config(cfg):
    """Register the shared keys on ``cfg``; a second call changes nothing.

    Args:
        cfg (detectron2.config.CfgNode): not frozen.
    """
    _add_defaults(cfg.DATASETS, REGISTER=[])
    _add_defaults(cfg.INPUT, AUGMENTATIONS=[])
    _add_defaults(
        cfg.SOLVER,
        OPTIMIZER="SGD",
        BACKBONE_LR_FACTOR=1.0,
        FULL_MODEL_CLIP_NORM=0.0,
    )
    _add_defaults(
        cfg.TEST,
        BEST_METRIC="segm/AP",
        PATIENCE=0,
        VALIDATION_LOSS_IMAGES=64,
        PICTURES=4,
        LABEL_MAP_SCORE_THRESHOLD=0.5,
        LABEL_MAP_MIN_AREA=0,
    )
    if "OTSU_WATERSHED" not in cfg.MODEL:
        cfg.MODEL.OTSU_WATERSHED = CfgNode()
    _add_defaults(
        cfg.MODEL.OTSU_WATERSHED,
        NUM_CLASSES=1,  # classes of the data set; every object is given class 0
        SMOOTHING=0.5,  # standard deviation of the Gaussian before the threshold, pixels; 0 = none
        MIN_DISTANCE=6,  # least distance between the centres of two objects, pixels
        MIN_AREA=20,  # objects with fewer pixels are dropped
        SPLIT=True,  # watershed; False = plain connected components
    )


def _add_defaults(node, **defaults):
    for key, value in defaults.items():
        if key not in node:
            node[key] = value
