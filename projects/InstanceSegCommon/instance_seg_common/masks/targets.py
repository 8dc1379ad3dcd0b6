"""The ground truth of a batch as a model takes it: masks, or maps of ids.

Shape shorthand in this module:
    B: images in the batch   K: ground-truth instances
    H, W: padded network input   h, w: an unpadded image
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from .cut_masks import CutMasks, Masks

IGNORED = 255  # in `sem_seg`, what the stock mapper reads from `sem_seg_file_name`
Device = Union[torch.device, str, None]
# masks, B of (K, H, W) bool; classes, B of (K,) int64; valid, (B, H, W) bool
Targets = tuple[list[Tensor], list[Tensor], Tensor]


class IdMaps(NamedTuple):
    """The ground truth of a batch as maps.

    instance_ids: (B, H, W) int64: 0 background, k + 1 for instance k, -1 where not valid.
    class_ids: (B, H, W) int64: 0-based class of the instance, -1 elsewhere.
    classes: B of (K,) int64, of the instances that have a mask.
    """

    instance_ids: Tensor
    class_ids: Tensor
    classes: "list[Tensor]"


def targets_from_inputs(
    batched_inputs: "Sequence[Mapping[str, Any]]",
    padded_size: Sequence[int],
    device: Device = None,
) -> Targets:
    """What :func:`targets_from_instances` returns, of what a data mapper gives.

    Args:
        batched_inputs: with ``instances``, and optionally ``sem_seg`` (h, w), IGNORED where pixels
            do not count.
        padded_size, device: see there.
    """
    instances = [x["instances"] for x in batched_inputs]
    return targets_from_instances(
        instances, padded_size, device, ignore=[_ignored(x) for x in batched_inputs]
    )


def _ignored(item: "Mapping[str, Any]") -> Optional[Tensor]:
    return item["sem_seg"] == IGNORED if "sem_seg" in item else None


def check_classes(classes: Tensor, num_classes: int, key: str) -> None:
    """Refuse ground truth of more classes than the model has.

    Args:
        classes: int64 of any shape, 0-based.
        num_classes: of the model.
        key: of the config, where ``num_classes`` stands.

    Raises:
        UserError: a class that is not below ``num_classes``.
    """
    largest = int(classes.max()) if classes.numel() else -1
    if largest >= num_classes:
        raise UserError(
            f"The ground truth has class {largest} but {key} is {num_classes}: classes count from "
            f"0, so it must be at least {largest + 1}."
        )


def targets_from_instances(
    instances: Sequence[Instances],
    padded_size: Sequence[int],
    device: Device = None,
    *,
    ignore: "Optional[Sequence[Optional[Tensor]]]" = None,
) -> Targets:
    """Ground truth of a batch as boolean masks on the padded grid of the network input.

    Args:
        instances: one for each image, ``image_size`` (h, w) before padding, with ``gt_masks``
            (BitMasks or PolygonMasks) and ``gt_classes``; an image without objects may lack both
            fields, as the stock mapper leaves it.
        padded_size: (H, W) of the padded batch.
        device: where the targets go.
        ignore: one (h, w) or None for each image, nonzero where pixels never count.

    Returns:
        ``masks``, a list of B tensors (K, H, W) bool, empty masks dropped; ``classes``, a list of B
        tensors (K,) int64; ``valid`` (B, H, W) bool, False on padding and ignored pixels.

    Raises:
        UserError: instances that have objects but no masks.
    """
    valid = _valid(instances, padded_size, device, ignore=ignore)
    masks, classes = [], []
    for item in instances:
        h, w = item.image_size
        bitmasks: Any = _masks(item)
        tensor: Tensor = getattr(bitmasks, "tensor", bitmasks).to(valid.device)
        kept = tensor.flatten(1).any(dim=1)
        padding = (0, padded_size[1] - w, 0, padded_size[0] - h)
        masks.append(F.pad(tensor[kept], padding))
        classes.append(_classes(item).to(valid.device)[kept])
    return masks, classes, valid


def id_maps_from_inputs(
    batched_inputs: "Sequence[Mapping[str, Any]]",
    padded_size: Sequence[int],
    device: Device = None,
) -> IdMaps:
    """The ground truth of a batch as maps of instance ids, drawn without a mask of the whole image.

    A pixel in several masks belongs to the smallest of them, which would vanish otherwise.

    Args:
        batched_inputs, padded_size, device: of :func:`targets_from_inputs`.

    Raises:
        UserError: instances that have objects but no masks.
    """
    instances = [x["instances"] for x in batched_inputs]
    valid = _valid(instances, padded_size, device, ignore=[_ignored(x) for x in batched_inputs])
    drawn = np.zeros((2, *valid.shape), dtype=np.int64)
    drawn[1] = -1
    kept_classes = []
    for index, item in enumerate(instances):
        masks = CutMasks.of(_masks(item))
        kept = masks.areas() > 0
        classes = _classes(item)[kept]
        _draw_ids(masks[kept], classes.numpy(), drawn[:, index])
        kept_classes.append(classes.to(valid.device))
    instance_ids, class_ids = torch.from_numpy(drawn).to(valid.device)
    instance_ids[~valid] = -1
    class_ids[~valid] = -1
    return IdMaps(instance_ids, class_ids, kept_classes)


def _draw_ids(masks: CutMasks, classes: np.ndarray, drawn: np.ndarray) -> None:
    """Write ids and classes into (2, H, W), the smallest mask last."""
    windows = list(masks.windows())
    for k in torch.argsort(masks.areas(), descending=True, stable=True).tolist():
        (x0, y0, x1, y1), pixels = windows[k]
        drawn[0, y0:y1, x0:x1][pixels] = k + 1
        drawn[1, y0:y1, x0:x1][pixels] = classes[k]


def _valid(
    instances: Sequence[Instances],
    padded_size: Sequence[int],
    device: Device,
    *,
    ignore: "Optional[Sequence[Optional[Tensor]]]",
) -> Tensor:
    """(B, H, W) bool, False on padding and ignored pixels."""
    valid = torch.zeros(len(instances), *padded_size, dtype=torch.bool, device=device)
    for index, item in enumerate(instances):
        h, w = item.image_size
        valid[index, :h, :w] = True
        ignored = None if ignore is None else ignore[index]
        if ignored is not None:
            valid[index, :h, :w] &= ignored.to(valid.device) == 0
    return valid


def _classes(instances: Instances) -> Tensor:
    """(K,) int64 on the CPU; 0 where there is no field of classes."""
    if instances.has("gt_classes"):
        return instances.gt_classes.cpu().to(torch.int64)
    return torch.zeros(len(instances), dtype=torch.int64)


def _masks(instances: Instances) -> Masks:
    """(K, h, w) ground-truth masks of one image, whatever their format."""
    h, w = instances.image_size
    if len(instances) == 0:
        return torch.zeros(0, h, w, dtype=torch.bool)
    if not instances.has("gt_masks"):
        raise UserError(
            f"{len(instances)} ground-truth instances have no gt_masks. The stock mapper drops "
            "masks unless MODEL.MASK_ON is True: set it in the config."
        )
    masks = instances.gt_masks
    return BitMasks.from_polygon_masks(masks, h, w) if isinstance(masks, PolygonMasks) else masks
