"""The image of a record as a model takes it: channels, their order, their range of values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from .images import read_stock
from .reading import reading_of


def read_model_image(cfg: CfgNode, record: Mapping[str, Any]) -> np.ndarray:
    """Read the image of a record as the model of a config takes it, before any augmentation.

    Args:
        cfg: of the run.
        record (dict): of a data set, with ``file_name``.

    Returns:
        (H, W, C), C = ``len(cfg.MODEL.PIXEL_MEAN)``.

    Raises:
        UserError: absent, unreadable, or with more than 8 bits per channel.
    """
    return read_stock(record["file_name"], cfg.INPUT.FORMAT, reading_of(record))
