"""Costs and losses of a sequence of masks.

Shape shorthand in this module:
    B: images in the batch   T: steps   K: ground-truth instances, padded   H, W: grid of the masks
    C: classes   M: matches
"""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from .matcher import Matches

EPSILON = 1e-6
OUTSIDE = -1e4  # logit of pixels that never count


def soft_iou_cost(mask_logits: Tensor, gt_masks: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """1 - soft IoU of every step's mask with every instance, by one batched product.

    soft IoU = <p, y> / (|p| + |y| - <p, y>) with p = sigmoid(logits).

    Source: Romera-Paredes & Torr 2016 (relaxed IoU); Salvador et al. 2018 (sIoU).

    Args:
        mask_logits (Tensor): (B, T, H, W) float.
        gt_masks (Tensor): (B, K, H, W) bool, or float in [0, 1]; empty where an image has fewer.
        valid (Tensor or None): (B, H, W) bool; pixels where it is False never count.

    Returns:
        Tensor: (B, T, K) float32 in [0, 1].
    """
    with torch.autocast(mask_logits.device.type, enabled=False):
        logits, truth, inside = _flat(mask_logits, gt_masks, valid)
        probabilities = torch.sigmoid(logits)
        if inside is not None:
            probabilities = probabilities * inside
        both = probabilities @ truth.transpose(1, 2)
        total = probabilities.sum(2)[:, :, None] + truth.sum(2)[:, None]
        return 1 - both / (total - both + EPSILON)


def position_cost(mask_logits: Tensor, gt_masks: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """How unsure a step is to lie on each instance, however much of it it covers.

    -log <q, y> with q the softmax of the logits over all positions.

    Args:
        mask_logits, gt_masks, valid: as in :func:`soft_iou_cost`.

    Returns:
        Tensor: (B, T, K) float32, from 0 on.
    """
    with torch.autocast(mask_logits.device.type, enabled=False):
        logits, truth, inside = _flat(mask_logits, gt_masks, valid)
        rivals = logits if inside is None else logits.masked_fill(inside == 0, OUTSIDE)
        return -(rivals.softmax(2) @ truth.transpose(1, 2) + EPSILON).log()


def _flat(
    mask_logits: Tensor, gt_masks: Tensor, valid: Optional[Tensor]
) -> "tuple[Tensor, Tensor, Optional[Tensor]]":
    """Logits (B, T, H W), truth (B, K, H W), 0 where not valid, and valid (B, 1, H W), float32."""
    logits = mask_logits.float().flatten(2)
    truth = gt_masks.flatten(2).to(logits.dtype)
    if valid is None:
        return logits, truth, None
    inside = valid.flatten(1)[:, None].to(logits.dtype)
    return logits, truth * inside, inside


def matched_mean(costs: Tensor, matches: Matches) -> Tensor:
    """Mean of the matched entries over all matches of the batch.

    Args:
        costs (Tensor): (B, T, K) float.
        matches (list[tuple[Tensor, Tensor]]): of :func:`matcher.match_instances`.

    Returns:
        Tensor: scalar; 0, still in the graph, without any match.
    """
    image, step, instance = flat_matches(matches, costs.device)
    if len(image) == 0:
        return costs.sum() * 0
    return costs[image, step, instance].mean()


def flat_matches(
    matches: Matches, device: Optional[torch.device] = None
) -> "tuple[Tensor, Tensor, Tensor]":
    """All matches of a batch as three index vectors.

    Args:
        matches (list[tuple[Tensor, Tensor]]): steps and instances of each image.
        device (torch.device or None)

    Returns:
        tuple[Tensor, Tensor, Tensor]: (M,) int64 image, step, instance.
    """
    image = [torch.full_like(steps, i) for i, (steps, _) in enumerate(matches)]
    steps, instances = zip(*matches)
    image, step, instance = (torch.cat(part).to(device) for part in (image, steps, instances))
    return image, step, instance


def class_loss(class_logits: Tensor, gt_classes: Tensor, matches: Matches) -> Tensor:
    """Cross-entropy of the classes of the matched steps.

    Args:
        class_logits (Tensor): (B, T, C) float.
        gt_classes (Tensor): (B, K) int64.
        matches (list[tuple[Tensor, Tensor]])

    Returns:
        Tensor: scalar, mean over the matches; 0, still in the graph, without any.
    """
    image, step, instance = flat_matches(matches, class_logits.device)
    if len(image) == 0:
        return class_logits.float().sum() * 0
    return F.cross_entropy(class_logits[image, step].float(), gt_classes[image, instance])


def stop_targets(
    num_instances: Sequence[int], num_steps: int, device: Optional[torch.device] = None
) -> tuple[Tensor, Tensor]:
    """Objectness of every step, and which steps are judged: as many as instances, and one more.

    Args:
        num_instances (list[int]): of each image.
        num_steps (int): T.
        device (torch.device or None)

    Returns:
        tuple[Tensor, Tensor]: (B, T) float, 1 where the sequence goes on; (B, T) bool, judged.
    """
    step = torch.arange(num_steps, device=device)
    count = torch.tensor(num_instances, device=device)[:, None]
    return (step < count).float(), step <= count


def stop_loss(stop_logits: Tensor, num_instances: Sequence[int]) -> Tensor:
    """Binary cross-entropy of the objectness: 1 while there are instances left, then 0.

    Source: Salvador et al. 2018 (stop loss).

    Args:
        stop_logits (Tensor): (B, T) float; above 0 the sequence goes on.
        num_instances (list[int]): of each image.

    Returns:
        Tensor: scalar, mean over the judged steps.
    """
    targets, judged = stop_targets(num_instances, stop_logits.shape[1], stop_logits.device)
    weights = judged.float()
    losses = F.binary_cross_entropy_with_logits(stop_logits.float(), targets, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp(min=EPSILON)
