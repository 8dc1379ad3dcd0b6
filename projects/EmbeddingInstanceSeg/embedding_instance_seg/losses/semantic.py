"""Semantics: classes and background.

Shape shorthand in this module:
    B: images in the batch   C: classes without background
    H, W: network input   h, w: the network's grid
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from instance_seg_common.masks import check_classes

from ..segments import segment_mean

IGNORE = -1


def semantic_targets(instance_ids: Tensor, class_ids: Tensor, num_classes: int) -> Tensor:
    """Class of every pixel.

    Args:
        instance_ids (Tensor): (..., H, W) int64; 0 is background, < 0 does not count.
        class_ids (Tensor): (..., H, W) int64, 0-based on instances.
        num_classes (int): C.

    Returns:
        Tensor: (..., H, W) int64: C is background, -1 does not count.

    Raises:
        UserError: a class that is not below C.
    """
    check_classes(class_ids, num_classes, "MODEL.EMBEDDING_INSTANCE_SEG.NUM_CLASSES")
    target = torch.where(instance_ids > 0, class_ids, torch.full_like(class_ids, num_classes))
    return target.masked_fill(instance_ids < 0, IGNORE)


def semantic_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the classes and Dice loss of the foreground, at the size of the input.

    The Dice loss counts what is wrong by the area of the objects, the cross-entropy by that of the
    image, of which objects may be a small part.

    Source of the Dice loss: Milletari et al. 2016 (V-Net), section 3.
    Deviates: not squared, and 1 is added above and below, for images without objects.

    Args:
        logits (Tensor): (B, C + 1, h, w) float, the last channel background.
        targets (Tensor): (B, H, W) int64 of :func:`semantic_targets`.

    Returns:
        Tensor: scalar, the mean of the cross-entropy over the pixels that count, 0 without any,
        plus the mean of the Dice loss over the images.
    """
    # One image at a time, enlarged again for the backward: with 80 classes the enlarged logits of
    # a batch are many times larger than everything else.
    terms = [
        checkpoint(_image_losses, *pair, use_reentrant=False, preserve_rng_state=False)
        for pair in zip(logits, targets)
    ]
    sums, dice = (torch.stack(term) for term in zip(*terms))
    return sums.sum() / (targets != IGNORE).sum().clamp(min=1) + dice.mean()


def _image_losses(logits: Tensor, targets: Tensor) -> "tuple[Tensor, Tensor]":
    """Sum of the cross-entropy and Dice loss over (H, W) targets, from (C + 1, h, w) logits."""
    size, background = targets.shape, len(logits) - 1
    enlarged = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)
    logs = enlarged.log_softmax(dim=1)
    entropy = F.nll_loss(logs, targets[None], ignore_index=IGNORE, reduction="sum")
    objects = (targets != background) & (targets != IGNORE)
    found = (1 - logs[0, -1].exp()) * (targets != IGNORE)
    overlap = 2 * (found * objects).sum() + 1
    return entropy, 1 - overlap / (found.sum() + objects.sum() + 1)


def instance_class_loss(logits: Tensor, instance_ids: Tensor, class_ids: Tensor) -> Tensor:
    """Cross-entropy of the instances' classes, by the mean logits of their pixels.

    Every instance counts the same, however small, and background takes no part: what is learned is
    which class an object is as a whole.

    Args:
        logits (Tensor): (B, C + 1, h, w) float, the last channel background.
        instance_ids, class_ids (Tensor): (B, h, w) int64, as in :func:`semantic_targets`.

    Returns:
        Tensor: scalar, the mean over all instances of the batch; 0 without any.
    """
    kinds = logits.shape[1] - 1
    member = instance_ids > 0
    images = torch.arange(len(logits), device=logits.device)[:, None, None].expand_as(member)
    keys = torch.stack([images[member], instance_ids[member], class_ids[member]])
    instances, owners = torch.unique(keys, dim=1, return_inverse=True)
    count = instances.shape[1]
    values = logits[:, :kinds].movedim(1, -1)[member]
    means = segment_mean(values, owners, count)
    return F.cross_entropy(means, instances[2], reduction="sum") / max(count, 1)
