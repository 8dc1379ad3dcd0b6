"""One image through a trained model, as Detectron2's DefaultPredictor does it, errors in sentences.

DefaultPredictor asserts where a user errs, ignores a fixed squash in INPUT.AUGMENTATIONS, and loads
weights that fit only partly without an error.
"""

import numpy as np
import torch
from detectron2.data import transforms as T

from instance_seg_common.data.loader import build_augmentations
from instance_seg_common.engine.checkpoint import load_weights
from instance_seg_common.engine.trainer import build_model_quietly
from instance_seg_common.errors import UserError


def build_predictor(cfg):
    """The model of a config with its weights, in evaluation mode.

    Args:
        cfg (CfgNode): MODEL.WEIGHTS names a checkpoint; may be empty for a model that has no
            parameters, such as the classical one.

    Returns:
        nn.Module: on MODEL.DEVICE.

    Raises:
        UserError: no weights, or weights that cannot be read or do not fit.
    """
    model = build_model_quietly(cfg.clone())
    if cfg.MODEL.WEIGHTS or any(True for _ in model.parameters()):
        load_weights(model, cfg.MODEL.WEIGHTS)
    return model.eval()


def model_input(cfg, image):
    """An image as the model takes it.

    Args:
        cfg (CfgNode): ``INPUT.FORMAT``, sizes at test time, ``INPUT.AUGMENTATIONS``.
        image (ndarray): (H, W, 3) uint8 RGB.

    Returns:
        dict: ``image`` (3, h, w) tensor in INPUT.FORMAT, ``height`` H, ``width`` W.
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
def predict(cfg, model, image, file_name=""):
    """Predict the instances of one image.

    Args:
        cfg (CfgNode): see :func:`model_input`.
        model (nn.Module): of :func:`build_predictor`.
        image (ndarray): (H, W, 3) uint8 RGB.
        file_name (str): for the message when the model gives no instances.

    Returns:
        Instances: on the CPU, at the size of the image, with ``pred_masks`` (N, H, W) bool.

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
