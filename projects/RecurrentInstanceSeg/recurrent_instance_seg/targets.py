"""Ground truth of a batch, padded to the image with most instances.

Shape shorthand in this module:
    B: images in the batch   K: ground-truth instances, padded   H, W: padded network input
    h, w: H and W over a stride
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from instance_seg_common.masks import check_classes, targets_from_inputs


@dataclass(frozen=True)
class Targets:
    """Instances of a batch.

    ``masks``: (B, K, h, w) float in [0, 1], the share of each cell that an instance covers;
    ``classes``: (B, K) int64; ``valid``: (B, h, w) bool; ``counts``: instances of each image.
    """

    masks: Tensor
    classes: Tensor
    valid: Tensor
    counts: "list[int]"
    # By stride: several losses and the teacher ask for the same grids.
    _coarser: "dict[int, Targets]" = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def at(self, stride: int) -> "Targets":
        """The same on a grid that is coarser by the factor ``stride``."""
        if stride == 1:
            return self
        if stride not in self._coarser:
            self._coarser[stride] = self._pooled(stride)
        return self._coarser[stride]

    def _pooled(self, stride: int) -> "Targets":
        valid = F.avg_pool2d(self.valid[:, None].float(), stride)[:, 0] >= 0.5
        masks = self.masks
        shape = (*masks.shape[:2], *valid.shape[-2:])
        pooled = F.avg_pool2d(masks, stride) if masks.shape[1] else masks.new_zeros(shape)
        return Targets(pooled, self.classes, valid, self.counts)


def batch_targets(
    batched_inputs: Sequence[Mapping[str, Any]],
    padded_size: Sequence[int],
    *,
    num_classes: int,
    device: Optional[torch.device] = None,
) -> Targets:
    """The ground truth that a data mapper gives.

    Args:
        batched_inputs (list[dict]): of ``instance_seg_common.masks.targets_from_inputs``.
        padded_size (tuple[int, int]): (H, W).
        num_classes (int): classes must be below.
        device (torch.device or None): where the targets go.

    Raises:
        UserError: a class that is not, or instances without masks.
    """
    masks, classes, valid = targets_from_inputs(batched_inputs, tuple(padded_size), device=device)
    # What the losses never see, no hint of the instances may show either.
    masks = [m & v for m, v in zip(masks, valid)]
    return pad_targets(masks, classes, valid, num_classes=num_classes)


def pad_targets(
    masks: Sequence[Tensor], classes: Sequence[Tensor], valid: Tensor, *, num_classes: int
) -> Targets:
    """Lists of masks and classes as :class:`Targets` at stride 1.

    Args:
        masks (list[Tensor]): B of (K_b, H, W) bool, none empty.
        classes (list[Tensor]): B of (K_b,) int64.
        valid (Tensor): (B, H, W) bool. An instance without a valid pixel is dropped.
        num_classes (int): classes must be below.

    Raises:
        UserError: a class that is not.
    """
    seen = [(m & v).flatten(1).any(dim=1) for m, v in zip(masks, valid)]
    masks = [m[s] for m, s in zip(masks, seen)]
    classes = [c[s] for c, s in zip(classes, seen)]
    check_classes(torch.cat(classes), num_classes, "MODEL.RECURRENT_INSTANCE_SEG.NUM_CLASSES")
    return stack_targets(masks, classes, valid)


def stack_targets(masks: Sequence[Tensor], classes: Sequence[Tensor], valid: Tensor) -> Targets:
    """Lists of masks (K_b, H, W) and classes (K_b,), and (B, H, W) bool, as :class:`Targets`."""
    counts = [len(m) for m in masks]
    padded = torch.zeros(len(masks), max(counts), *valid.shape[1:], device=valid.device)
    labels = torch.zeros(len(masks), max(counts), dtype=torch.int64, device=valid.device)
    for index, (image_masks, image_classes) in enumerate(zip(masks, classes)):
        padded[index, : len(image_masks)] = image_masks
        labels[index, : len(image_classes)] = image_classes
    return Targets(padded, labels, valid, counts)


def hide_found(targets: Targets, numbers: Tensor) -> "tuple[Targets, Tensor]":
    """Count some instances as found already, so that late steps are learned in short sequences.

    Args:
        targets (Targets)
        numbers (Tensor): (B,) float in [0, 1), random: which share of each image's instances is
            found, from none to all; which ones is random, too.

    Returns:
        tuple[Targets, Tensor]: the instances that are left; (B, h, w) float, the union of the
        others.
    """
    found = torch.zeros_like(targets.valid, dtype=torch.float32)
    masks, classes = [], []
    for index, count in enumerate(targets.counts):
        order = torch.randperm(count).to(targets.masks.device)
        hidden = int(numbers[index] * (count + 1))
        if hidden:
            found[index] = targets.masks[index, order[:hidden]].amax(dim=0)
        masks.append(targets.masks[index, order[hidden:]])
        classes.append(targets.classes[index, order[hidden:]])
    return stack_targets(masks, classes, targets.valid), found


def centers_of_mass(masks: Tensor) -> Tensor:
    """Where the instances are.

    Args:
        masks (Tensor): (B, K, h, w) float in [0, 1].

    Returns:
        Tensor: (B, K, 2) float: x and y in cells, the first cell's centre is 0; 0 for an empty one.
    """
    area = masks.sum(dim=(2, 3)).clamp(min=1e-6)
    rows, columns = (torch.arange(n, device=masks.device).to(masks) for n in masks.shape[-2:])
    return torch.stack([masks.sum(2) @ columns / area, masks.sum(3) @ rows / area], dim=2)
