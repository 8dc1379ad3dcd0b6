"""The model of a config."""

import logging

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..data.model_image import check_input
from .checks import check_augmentation, check_meta_architecture

logger = logging.getLogger(__name__)


def build_model_quietly(cfg: CfgNode) -> nn.Module:
    """Build the config's model and log how many parameters it has.

    Args:
        cfg: ``MODEL.*``.

    Returns:
        On ``MODEL.DEVICE``.

    Raises:
        UserError: the meta-architecture is not registered, does not follow ``TEST.AUG.ENABLED``, or
            ``INPUT`` and ``MODEL.PIXEL_*`` do not fit together.
    """
    check_meta_architecture(cfg)
    check_input(cfg)
    model = build_model(cfg)
    check_augmentation(cfg, model)
    parameters = sum(p.numel() for p in model.parameters())
    logger.info("%s: %.2f million parameters.", cfg.MODEL.META_ARCHITECTURE, parameters / 1e6)
    return model
