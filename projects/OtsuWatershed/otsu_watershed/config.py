"""Config keys of ``OtsuWatershed``."""

from detectron2.config import CfgNode

DEFAULTS = {
    "NUM_CLASSES": 1,  # classes of the data set; every object is given class 0
    "SMOOTHING": 0.5,  # standard deviation of the Gaussian before the threshold, pixels; 0 = none
    "MIN_DISTANCE": 6,  # least distance between the centres of two objects, pixels
    "MIN_AREA": 20,  # objects with fewer pixels are dropped
    "SPLIT": True,  # watershed; False = plain connected components
}


def add_otsu_watershed_config(cfg: CfgNode) -> None:
    """Register ``MODEL.OTSU_WATERSHED`` on ``cfg``; a second call changes nothing.

    Args:
        cfg (detectron2.config.CfgNode): not frozen.
    """
    if "OTSU_WATERSHED" not in cfg.MODEL:
        cfg.MODEL.OTSU_WATERSHED = CfgNode(DEFAULTS)
