"""One image through a trained model, as Detectron2's DefaultPredictor does it, errors in sentences.

DefaultPredictor asserts where a user errs, ignores a fixed squash in INPUT.AUGMENTATIONS, and loads
weights that fit only partly without an error.
"""

from collections.abc import Mapping
from typing import Any, Union

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import nn

from ..data.mapper import (
    build_test_augmentations,
    errors_in_sentences,
    image_input,
    pixels_input,
)
from ..data.model_image import given_model_image
from ..tiling.tiled_model import require_masks, with_tiles
from .build import build_model_quietly
from .checkpoint import load_weights


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


def model_input(
    cfg: CfgNode, image: "Union[np.ndarray, Mapping[str, Any]]", *, tiled: bool = False
) -> "dict[str, Any]":
    """An image as the model takes it.

    Args:
        cfg: ``INPUT``, with its fixed squash and the sizes at test time; ``MODEL.PIXEL_MEAN``.
        image: a record (dict) of a data set, or one that has ``file_name`` alone; or pixels (H, W,
            channels) of any integer or float dtype, colours in the order RGB.
        tiled: see ``data.mapper.build_test_mapper``.

    Returns:
        ``image`` (C, h, w) tensor, ``height`` H, ``width`` W; of a record also its other keys.

    Raises:
        UserError: a file that cannot be used, or channels that the model does not take.
    """
    augmentations = build_test_augmentations(cfg, tiled=tiled)
    if isinstance(image, Mapping):
        with errors_in_sentences(image):
            return image_input(cfg, image, augmentations)[0]
    return pixels_input(given_model_image(cfg, image).cut(), augmentations)


@torch.no_grad()
def predict(
    cfg: CfgNode, model: nn.Module, image: "Union[np.ndarray, Mapping[str, Any]]"
) -> Instances:
    """Predict the instances of one image; of a large one in tiles, see ``TEST.TILE_SIZE``.

    Args:
        cfg, image: see :func:`model_input`.
        model: of :func:`build_predictor`.

    Returns:
        On the CPU, at the size of the image, with ``pred_masks`` (N, H, W) bool.

    Raises:
        UserError: the image cannot be used, or the model predicts no masks.
    """
    item = model_input(cfg, image, tiled=True)
    instances = with_tiles(cfg, model)([item])[0]["instances"].to("cpu")
    require_masks(instances, item.get("file_name", "the image"), cfg.MODEL.META_ARCHITECTURE)
    return instances
