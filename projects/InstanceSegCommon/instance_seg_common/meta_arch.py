"""What meta-architectures share: a padded batch, its features, sizes and limits, scalars, export.

Shape shorthand in this module:
    B: images in the batch   h, w: an image   H, W: padded network input
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Optional, Union

import torch
from detectron2.config import CfgNode
from detectron2.modeling import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.structures import ImageList
from detectron2.utils.events import get_event_storage
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn

from .errors import UserError

# Height and width (h, w) of each image of a batch; a tensor (B, 2) where a network is exported.
ImageSizes = Union[Sequence[tuple[int, int]], Tensor]
# Tensors in, tensors out: a part of a network in whatever runs it.
Runner = Callable[..., Sequence[Tensor]]
# Height and width of what networks are traced with, in cells of the coarsest level: two, for levels
# that are coarser still, and other than one, which exporters take for a constant.
EXAMPLE_CELLS = (4, 6)
# Where limits that are reached are noted; None: nobody listens.
_LISTENERS: "ContextVar[Optional[set[tuple[str, int]]]]" = ContextVar("limits", default=None)


def padded_batch(
    batched_inputs: Sequence[Mapping[str, Any]],
    *,
    pixel_mean: Tensor,
    pixel_std: Tensor,
    backbone: Backbone,
    divisibility: int,
) -> ImageList:
    """Normalise the images of a batch and pad them to one size.

    Args:
        batched_inputs: B inputs with ``image`` (C, h, w), any dtype.
        pixel_mean, pixel_std: (C, 1, 1) float, on the device of the model.
        backbone: whose own needs of the size are met, too.
        divisibility: of H and W.

    Returns:
        ``tensor`` (B, C, H, W) float, ``image_sizes`` (h, w) of each image.

    Raises:
        UserError: an image of another number of channels, which would else be spread over the
            channels of the model, or fail far from here.
    """
    for item in batched_inputs:
        check_channels(item, len(pixel_mean))
    images = [(x["image"].to(pixel_mean.device) - pixel_mean) / pixel_std for x in batched_inputs]
    size = max(backbone.size_divisibility, divisibility)
    # Detectron2 0.6 has no constraints beyond divisibility.
    constraints = getattr(backbone, "padding_constraints", None)
    further = {"padding_constraints": constraints} if constraints else {}
    return ImageList.from_tensors(images, size, **further)


def read_levels(backbone: Backbone, images: Tensor, names: Sequence[str]) -> "list[Tensor]":
    """The backbone's features that a model reads.

    Args:
        backbone: of the model.
        images: (B, C, H, W) float.
        names: of the levels, in the order of the result.

    Returns:
        (B, C_l, H_l, W_l) float of each level. In training, the first one has all other outputs of
        the backbone in its graph, with weight 0: distributed training waits for the parameters of
        levels that nothing reads.
    """
    features = backbone(images)
    levels = [features.pop(name) for name in names]
    if backbone.training:
        levels[0] = levels[0] + 0 * sum(x.sum() for x in features.values())
    return levels


def feature_pyramid(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """Detectron2's feature pyramid on a backbone, as its ResNets have it.

    Args:
        cfg: ``MODEL.FPN``.
        bottom_up: with the levels ``MODEL.FPN.IN_FEATURES``.

    Returns:
        Levels pN of stride 2**N with ``MODEL.FPN.OUT_CHANNELS`` channels: those of ``bottom_up``
        and one that is coarser, without parameters.
    """
    node = cfg.MODEL.FPN
    return FPN(
        bottom_up=bottom_up,
        in_features=node.IN_FEATURES,
        out_channels=node.OUT_CHANNELS,
        norm=node.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=node.FUSE_TYPE,
    )


def wanted_size(item: Mapping[str, Any], size: Sequence[int]) -> "tuple[int, int]":
    """Height and width of what a model returns for an input: what the input asks for, else its own.

    Args:
        item (dict): with or without ``height`` and ``width``.
        size: (h, w) of its image.
    """
    return item.get("height", size[0]), item.get("width", size[1])


def instance_limit(cfg: CfgNode) -> Optional[int]:
    """``TEST.DETECTIONS_PER_IMAGE``; None, no limit, where it is below 0."""
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    return limit if limit >= 0 else None


def note_limit(key: str, value: int) -> None:
    """Say that a limit has cut something off in the image at hand.

    Whoever counts hears of it (:func:`noted_limits`); otherwise the log says it, once for each key.

    Args:
        key: of the config, or what the limit is in words.
        value: of the limit.
    """
    listeners = _LISTENERS.get()
    if listeners is not None:
        listeners.add((key, value))
        return
    log_first_n(
        logging.WARNING,
        f"{key} is {value}, and an image has reached it: what lies beyond it is left out.",
        name=__name__,
        key="message",
    )


@contextmanager
def noted_limits() -> "Iterator[set[tuple[str, int]]]":
    """Hear of the limits that are reached within the context: keys and values."""
    noted: set[tuple[str, int]] = set()
    token = _LISTENERS.set(noted)
    try:
        yield noted
    finally:
        _LISTENERS.reset(token)


def put_scalars(scalars: Mapping[str, float], **options: Any) -> None:
    """Hand figures to Detectron2's event storage; without a trainer nothing happens.

    Args:
        scalars: by name.
        **options: of ``EventStorage.put_scalar``.
    """
    iteration = current_iteration()
    if iteration is not None:
        for name, value in scalars.items():
            get_event_storage().put_scalar(name, value, **options)


def current_iteration() -> Optional[int]:
    """The trainer's iteration; None outside of one."""
    try:
        return get_event_storage().iter
    except AssertionError:  # Detectron2 0.6 cannot be asked whether there is a storage
        return None


def check_channels(item: Mapping[str, Any], channels: int) -> None:
    """Raise a sentence unless an input has as many channels as the model.

    Args:
        item (dict): ``image`` (C, h, w), and its ``file_name`` where it has one.
        channels: of the model.
    """
    found = len(item["image"])
    if found != channels:
        raise UserError(
            f"The image {item.get('file_name', 'given')} reaches the model with {found} channels, "
            f"but MODEL.PIXEL_MEAN has {channels} values, one a channel. Give both the same number."
        )


def check_pixel_std(pixel_mean: Sequence[float], pixel_std: Sequence[float]) -> None:
    """Raise a sentence unless ``PIXEL_STD`` has a value above 0 for each of ``PIXEL_MEAN``."""
    if len(pixel_std) != len(pixel_mean) or not all(value > 0 for value in pixel_std):
        raise UserError(
            f"MODEL.PIXEL_STD is {list(pixel_std)} and MODEL.PIXEL_MEAN {list(pixel_mean)}: both "
            "need a value for each channel of the images, those of PIXEL_STD above 0."
        )


def as_buffer(values: Sequence[float]) -> Tensor:
    """``PIXEL_MEAN`` or ``PIXEL_STD`` as a tensor (C, 1, 1) to normalise images with."""
    return torch.tensor(values).view(-1, 1, 1)


@dataclass(frozen=True)
class NetworkPart:
    """A part of a network that can run without the rest of its model, as in another runtime.

    Attributes:
        name: for files.
        module: takes and returns tensors by position, those of images with B = 1.
        inputs: by name, in the order of the module's arguments: examples, which tracing may need.
        outputs: names, in the order of the module's results.
        axes: of inputs, by name: dimensions of any size; each has a symbol and a number of which,
            times the symbol's value, its size is a multiple: ``{2: ("h", 32), 3: ("w", 32)}``.
    """

    name: str
    module: nn.Module
    inputs: "Mapping[str, Tensor]"
    outputs: "Sequence[str]"
    axes: "Mapping[str, Mapping[int, tuple[str, int]]]"


@dataclass(frozen=True)
class NetworkExport:
    """How the network of a method is exported, announced as ``instance_seg.exports``.

    Attributes:
        parts: from a model in evaluation mode to the parts of its network. A UserError says why a
            model has none.
        attach: makes a model run its network by the parts' runners, by their names; what comes
            before and after stays the model's own.
    """

    parts: "Callable[[Any], list[NetworkPart]]"
    attach: "Callable[[Any, Mapping[str, Runner]], None]"


def example_image(channels: int, divisibility: int) -> Tensor:
    """A normalised, padded image (1, C, H, W) to trace a network with: ``EXAMPLE_CELLS`` times the
    divisibility."""
    return torch.zeros(1, channels, *(n * divisibility for n in EXAMPLE_CELLS))


def run_by_image(runner: Runner, tensors: "Sequence[Tensor]") -> "list[Tensor]":
    """Run a part that takes one image at a time on a batch.

    Args:
        runner: of a :class:`NetworkPart`.
        tensors: (B, ...) each, in the order of its inputs.

    Returns:
        (B, ...) each, in the order of its outputs.
    """
    images = zip(*(x.split(1) for x in tensors))
    return [torch.cat(results) for results in zip(*(runner(*image) for image in images))]
