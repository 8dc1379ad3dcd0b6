"""Weights of torchvision's ResNets for Detectron2's: the same networks under other names.

torchvision's are for RGB images of the range 0 to 1, less ``MEAN``, divided by ``STD``.
"""

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Union

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from torch import Tensor

from ..errors import UserError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
RANGE = 255.0  # of the values of a config's images
# Grey levels by which a config's mean may differ unmentioned: other roundings of the same.
TOLERANCE = 1.0
FIRST = "stem.conv1.weight"
# Parts of torchvision's names, and what they are in Detectron2's.
RENAMINGS = (
    (r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}"),
    (r"\bbn(\d)", r"conv\1.norm"),
    (r"\bdownsample\.0", "shortcut"),
    (r"\bdownsample\.1", "shortcut.norm"),
    (r"^conv1", "stem.conv1"),
)


def detectron2_name(name: str) -> str:
    """The name that a tensor of torchvision's ResNets has in Detectron2's."""
    for pattern, replacement in RENAMINGS:
        name = re.sub(pattern, replacement, name)
    return name


def converted(state: "Mapping[str, Tensor]", cfg: CfgNode) -> "tuple[dict[str, Tensor], list[str]]":
    """Weights of torchvision for the ResNet of a config.

    Args:
        state: torchvision's ``state_dict()``; stays as it is.
        cfg: ``MODEL.BACKBONE``, ``MODEL.RESNETS``, ``MODEL.PIXEL_*``, ``INPUT.FORMAT``.

    Returns:
        Tensors by Detectron2's names without the parts before ``stem`` or ``res``, and what does
        not carry over, a sentence each.

    Raises:
        UserError: another network than that of the config.
    """
    found = {detectron2_name(name): value for name, value in state.items()}
    own = {
        name.removeprefix("bottom_up."): value
        for name, value in build_backbone(cfg).state_dict().items()
        if not name.startswith("fpn_")
    }
    _check_same_network(found, own, cfg)
    with_statistics = "stem.conv1.norm.running_mean" in own
    weights = {
        name: value
        for name, value in found.items()
        if name.startswith(("stem.", "res")) and (with_statistics or ".norm." not in name)
    }
    weights[FIRST] = first_kernel(weights[FIRST], cfg)
    return weights, [*_left_out(found, weights, cfg), *_other_mean(cfg)]


def first_kernel(kernel: Tensor, cfg: CfgNode) -> Tensor:
    """The first convolution for the order and the scale in which a config's images arrive.

    Args:
        kernel: (O, 3, k, l) for RGB.
        cfg: as above; where its images have other than 3 channels, their mean scale is taken.

    Returns:
        (O, 3, k, l).
    """
    std, own = list(STD), list(cfg.MODEL.PIXEL_STD)
    if cfg.INPUT.FORMAT == "BGR":
        kernel, std = kernel.flip(1), std[::-1]
    if len(own) != len(std):
        own = [sum(own) / len(own)] * len(std)
    scale = kernel.new_tensor([a / (RANGE * b) for a, b in zip(own, std)])
    return kernel * scale.view(1, -1, 1, 1)


def _check_same_network(found, own, cfg):
    def convolutions(tensors: "Mapping[str, Any]") -> "set[tuple[str, tuple[int, ...]]]":
        shapes = {name: tuple(x.shape) for name, x in tensors.items() if x.ndim == 4}
        return {(name, s if name != FIRST else (s[0], *s[2:])) for name, s in shapes.items()}

    node = cfg.MODEL.RESNETS
    apart = sorted(convolutions(found) ^ convolutions(own))
    if apart:
        raise UserError(
            f"The file is not of the network of the config ({cfg.MODEL.BACKBONE.NAME}, "
            f"MODEL.RESNETS.DEPTH {node.DEPTH}): {len(apart)} convolutions are of one of them "
            f"alone, first {apart[0][0]} {apart[0][1]}. Give a ResNet of torchvision and a config "
            "with Detectron2's ResNet of the same depth."
        )
    if node.DEPTH >= 50 and node.STRIDE_IN_1X1:
        raise UserError(
            "MODEL.RESNETS.STRIDE_IN_1X1 is True; torchvision's ResNets have their strides in the "
            "3x3 convolutions. Set it to False."
        )


def _left_out(found, weights, cfg):
    norms = [name for name in found if ".norm." in name and name not in weights]
    others = [name for name in found if ".norm." not in name and name not in weights]
    if norms:
        yield (
            f"{len(norms)} tensors of batch norms are left out: MODEL.RESNETS.NORM is "
            f"{cfg.MODEL.RESNETS.NORM or 'none'}, which starts anew. With FrozenBN or BN they load."
        )
    if others:
        yield f"{', '.join(others)}: left out, for the backbone has no such layers."


def _other_mean(cfg):
    own = list(cfg.MODEL.PIXEL_MEAN)
    mean = [RANGE * value for value in (MEAN[::-1] if cfg.INPUT.FORMAT == "BGR" else MEAN)]
    if len(own) == len(mean) and any(abs(a - b) > TOLERANCE for a, b in zip(own, mean)):
        numbers = ", ".join(f"{value:.3f}" for value in mean)
        yield f"MODEL.PIXEL_MEAN is {own}; the weights were trained with [{numbers}]."


def convert_torchvision(
    file: Union[str, Path], cfg: CfgNode, target: Union[str, Path]
) -> "Iterable[str]":
    """Write a file that ``MODEL.WEIGHTS`` of a config can start from.

    Args:
        file: of torchvision's ``state_dict()``, alone or as the entry ``model``.
        cfg: see :func:`converted`.
        target: the new file.

    Returns:
        What does not carry over, a sentence each.

    Raises:
        UserError: the file cannot be read, or is of another network.
    """
    if not Path(file).is_file():
        raise UserError(f"There is no weights file {file}.")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        state = dict(content.get("model", content))
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{file} cannot be read as a state dict of torch: {reason}.") from error
    weights, sentences = converted(state, cfg)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    # The names lack the prefix that they have in the model, which differs with a pyramid.
    content = {"model": weights, "matching_heuristics": True, "__author__": "torchvision"}
    torch.save(content, target)
    return sentences
