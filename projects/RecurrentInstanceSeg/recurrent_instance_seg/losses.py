"""Costs and losses of a sequence of masks.

Shape shorthand in this module:
    B: images in the batch   T: steps   K: ground-truth instances, padded   H, W: grid of the masks
    C: classes
"""

import torch
from torch.nn import functional as F

from .matcher import match_instances
from .targets import boxes_of

EPSILON = 1e-6


def soft_iou_cost(mask_logits, gt_masks, valid=None):
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
    return overlap_costs(mask_logits, gt_masks, valid)["iou"]


def overlap_costs(mask_logits, gt_masks, valid=None, kinds=("iou",)):
    """Costs of every step's mask against every instance.

    Args:
        mask_logits, gt_masks, valid: as in :func:`soft_iou_cost`.
        kinds (collection[str]): of "iou" (1 - soft IoU), "dice" (1 - 2 <p, y> / (|p| + |y|)),
            "bce" (cross-entropy, mean over the pixels that count) and "position" (-log <q, y> with
            q the softmax of the logits over all positions: how sure the mask is to lie on this one
            instance, however much of it it covers).

    Returns:
        dict[str, Tensor]: (B, T, K) float32 by kind.
    """
    with torch.autocast(mask_logits.device.type, enabled=False):
        logits = mask_logits.float().flatten(2)
        truth = gt_masks.flatten(2).to(logits.dtype)
        probabilities = torch.sigmoid(logits)
        if valid is not None:
            inside = valid.flatten(1)[:, None].to(logits.dtype)
            probabilities, truth = probabilities * inside, truth * inside
        both = probabilities @ truth.transpose(1, 2)
        total = probabilities.sum(2)[:, :, None] + truth.sum(2)[:, None]
        costs = {}
        if "iou" in kinds:
            costs["iou"] = 1 - both / (total - both + EPSILON)
        if "dice" in kinds:
            costs["dice"] = 1 - 2 * both / (total + EPSILON)
        if "bce" in kinds:
            # -y log p - (1 - y) log(1 - p) = softplus(x) - x y
            rest = F.softplus(logits)
            rest = rest.sum(2) if valid is None else (rest * inside).sum(2)
            count = logits.shape[2] if valid is None else inside.sum(2)[:, :, None].clamp(min=1)
            costs["bce"] = (rest[:, :, None] - logits @ truth.transpose(1, 2)) / count
        if "position" in kinds:
            rivals = logits if valid is None else logits.masked_fill(inside == 0, -1e4)
            costs["position"] = -(rivals.softmax(2) @ truth.transpose(1, 2) + EPSILON).log()
        return costs


def matched_mean(costs, matches):
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


def flat_matches(matches, device=None):
    """All matches of a batch as three index vectors.

    Args:
        matches (list[tuple[Tensor, Tensor]]): steps and instances of each image.
        device (torch.device or None)

    Returns:
        tuple[Tensor, Tensor, Tensor]: (M,) int64 image, step, instance.
    """
    image = [torch.full_like(steps, i) for i, (steps, _) in enumerate(matches)]
    parts = (image, [steps for steps, _ in matches], [instances for _, instances in matches])
    return tuple(torch.cat(part).to(device) for part in parts)


def class_loss(class_logits, gt_classes, matches):
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


def stop_targets(num_instances, num_steps, device=None):
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


def stop_loss(stop_logits, num_instances, balanced=True):
    """Binary cross-entropy of the objectness: 1 while there are instances left, then 0.

    Source: Salvador et al. 2018 (stop loss).

    Args:
        stop_logits (Tensor): (B, T) float; above 0 the sequence goes on.
        num_instances (list[int]): of each image.
        balanced (bool): going on and stopping count half each, whatever the numbers of steps.
            Deviates: the released code multiplies both by one half, which balances nothing.

    Returns:
        Tensor: scalar, mean over the judged steps.
    """
    targets, judged = stop_targets(num_instances, stop_logits.shape[1], stop_logits.device)
    weights = judged.float()
    if balanced:
        ones = (weights * targets).sum()
        zeros = (weights * (1 - targets)).sum()
        weights = weights / torch.where(targets > 0, ones, zeros).clamp(min=1)
    losses = F.binary_cross_entropy_with_logits(stop_logits.float(), targets, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp(min=EPSILON)


def box_loss(boxes, gt_boxes, matches):
    """Squared error of the corners of the matched boxes.

    Source: the later versions of Salvador et al. 2018.

    Args:
        boxes (Tensor): (B, T, 4) float, fractions of the padded input.
        gt_boxes (Tensor): (B, K, 4) float.
        matches (list[tuple[Tensor, Tensor]])

    Returns:
        Tensor: scalar, mean; 0, still in the graph, without any match.
    """
    image, step, instance = flat_matches(matches, boxes.device)
    if len(image) == 0:
        return boxes.float().sum() * 0
    return F.mse_loss(boxes[image, step].float(), gt_boxes[image, instance])


def coarse_loss(levels, targets, matches):
    """Mean soft IoU loss of the auxiliary masks, each on the grid of its level.

    Args:
        levels (tuple[Tensor]): (B, T, h_l, w_l) logits each.
        targets (Targets): at stride 1.
        matches (list[tuple[Tensor, Tensor]])

    Returns:
        Tensor: scalar.
    """
    losses = []
    for logits in levels:
        level = targets.at(targets.valid.shape[-1] // logits.shape[-1])
        losses.append(matched_mean(soft_iou_cost(logits, level.masks, level.valid), matches))
    return sum(losses) / max(len(losses), 1)


def sequence_losses(steps, targets, names, stride=1, balanced=True, matches=None):
    """All losses of a sequence, unweighted.

    Args:
        steps (Step): stacked, T steps.
        targets (Targets): at stride 1.
        names (collection[str]): of loss_mask, loss_class, loss_stop, loss_bce, loss_dice,
            loss_position, loss_coarse, loss_box; the first three are always computed.
        stride (int): of the grid on which masks are compared.
        balanced (bool): of :func:`stop_loss`.
        matches (list[tuple[Tensor, Tensor]] or None): which instance each step is to show; None:
            the assignment with the least soft IoU cost.

    Returns:
        dict[str, Tensor]: scalars.
    """
    compared = targets.at(stride)
    logits = steps.masks.float()
    if logits.shape[-2:] != compared.valid.shape[-2:]:
        logits = F.interpolate(
            logits, compared.valid.shape[-2:], mode="bilinear", align_corners=False
        )
    kinds = {"iou"} | {kind for kind in ("bce", "dice", "position") if f"loss_{kind}" in names}
    of_points = {"position"} & kinds if steps.attention is not None else set()
    costs = overlap_costs(logits, compared.masks, compared.valid, kinds - of_points)
    if of_points:
        level = targets.at(targets.valid.shape[-1] // steps.attention.shape[-1])
        costs |= overlap_costs(steps.attention, level.masks, level.valid, of_points)
    if matches is None:
        matches = match_instances(costs["iou"], targets.counts)
    losses = {
        "loss_mask": matched_mean(costs["iou"], matches),
        "loss_class": class_loss(steps.classes, targets.classes, matches),
        "loss_stop": stop_loss(steps.stop, targets.counts, balanced),
    }
    for kind in kinds - {"iou"}:
        losses[f"loss_{kind}"] = matched_mean(costs[kind], matches)
    if "loss_coarse" in names:
        losses["loss_coarse"] = coarse_loss(steps.coarse, targets, matches)
    if "loss_box" in names:
        losses["loss_box"] = box_loss(steps.boxes, boxes_of(targets), matches)
    return losses
