"""One image through a trained model, as Detectron2's DefaultPredictor does it, errors in sentences.

DefaultPredictor asserts where a user errs, ignores a fixed squash in INPUT.AUGMENTATIONS, and loads
weights that fit only partly without an error.
"""

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.structures import Instances
from torch import nn

from ..data.mapper import build_augmentations
from ..errors import UserError
from .checkpoint import load_weights
from .trainer import build_model_quietly


def build_predictor(cfg: CfgNode) -> nn.Module:
    """The model of a config with its weights, in evaluation mode.

    Args:
        cfg: MODEL.WEIGHTS names a checkpoint; may be empty for a model that has no parameters, such
            as the classical one.

    Returns:
        On MODEL.DEVICE.

    Raises:
        UserError: no weights, or weights that cannot be read or do not fit.
    """
    model = build_model_quietly(cfg.clone())
    if cfg.MODEL.WEIGHTS or any(True for _ in model.parameters()):
        load_weights(model, cfg.MODEL.WEIGHTS)
    return model.eval()


def model_input(cfg: CfgNode, image: np.ndarray) -> "dict[str, Any]":
    """An image as the model takes it.

    Args:
        cfg: ``INPUT.FORMAT``, sizes at test time, ``INPUT.AUGMENTATIONS``.
        image: (H, W, 3) uint8 RGB.

    Returns:
        ``image`` (3, h, w) tensor in INPUT.FORMAT, ``height`` H, ``width`` W.
    """
    if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
        raise UserError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}; use RGB or BGR for plain images.")
    height, width = image.shape[:2]
    ordered = image if cfg.INPUT.FORMAT == "RGB" else image[:, :, ::-1]
    augmented = T.AugInput(np.ascontiguousarray(ordered))
    T.AugmentationList(build_augmentations(cfg, is_train=False))(augmented)
    tensor = torch.as_tensor(np.ascontiguousarray(augmented.image.transpose(2, 0, 1)))
    return {"image": tensor, "height": height, "width": width}


@torch.no_grad()
def predict(cfg: CfgNode, model: nn.Module, image: np.ndarray, *, file_name: str = "") -> Instances:
    """Predict the instances of one image.

    Args:
        cfg: see :func:`model_input`.
        model: of :func:`build_predictor`.
        image: (H, W, 3) uint8 RGB.
        file_name: for the message when the model gives no masks.

    Returns:
        On the CPU, at the size of the image, with ``pred_masks`` (N, H, W) bool.

    Raises:
        UserError: the model predicts no masks.
    """
    instances = model([model_input(cfg, image)])[0]["instances"].to("cpu")
    if not instances.has("pred_masks"):
        raise UserError(
            f"The model {cfg.MODEL.META_ARCHITECTURE} predicts no masks for {file_name}. Set "
            "MODEL.MASK_ON True, with weights trained so."
        )
    return instances
