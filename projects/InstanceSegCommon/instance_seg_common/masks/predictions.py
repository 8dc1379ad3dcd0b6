"""What a model found, as Detectron2's Instances at the size the user asked for.

Shape shorthand in this module:
    N: predicted instances   H, W: padded network input, or the output size   h, w: without padding
"""

from collections.abc import Sequence

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torch.nn import functional as F

from .cut_masks import CHUNK, CutMasks, Masks, is_dense, tight_boxes


def instances_from_masks(
    mask_probs: Tensor,
    scores: Tensor,
    classes: Tensor,
    *,
    input_size: Sequence[int],
    output_size: Sequence[int],
    threshold: float = 0.5,
    min_area: int = 1,
) -> Instances:
    """Predictions on the network's grid as Instances at the size the user asked for.

    Args:
        mask_probs: (N, H, W) float in [0, 1], on the padded network input; bool counts as 0 and 1.
        scores: (N,) float.
        classes: (N,) int64, 0-based.
        input_size: (h, w) of the network input without padding.
        output_size: (height, width) of the result.
        threshold: a pixel belongs to a mask above this probability.
        min_area: masks with fewer pixels of the output are dropped; at least 1.

    Returns:
        ``pred_masks`` (n, height, width) bool, tight ``pred_boxes`` XYXY in pixels
        (right and bottom edge exclusive), ``scores`` (n,) float, ``pred_classes`` (n,) int64.
    """
    cropped = mask_probs[:, : input_size[0], : input_size[1]]
    height, width = output_size
    masks = _resized_masks(cropped, (height, width), threshold)
    kept = _areas(masks) >= max(min_area, 1)
    return _instances(masks[kept], scores[kept], classes[kept])


def instances_from_labels(
    labels: Tensor,
    scores: Tensor,
    classes: Tensor,
    *,
    output_size: Sequence[int],
    min_area: int = 1,
) -> Instances:
    """Objects that share no pixel as Instances at the size the user asked for.

    Args:
        labels: (h, w) int64 on the network's input without padding: i + 1 where instance i is, 0
            where there is none.
        scores, classes, output_size, min_area: of :func:`instances_from_masks`.

    Returns:
        What :func:`instances_from_masks` gives of the same objects. Where their masks are too many
        for a tensor (``cut_masks.DENSE_PIXELS``), ``pred_masks`` are :class:`CutMasks`.
    """
    count, (height, width) = len(scores), output_size
    if is_dense(count, (height, width)) and is_dense(count, labels.shape):
        numbers = torch.arange(1, count + 1, device=labels.device)
        return instances_from_masks(
            labels == numbers[:, None, None], scores, classes,
            input_size=labels.shape, output_size=output_size, min_area=min_area,
        )  # fmt: skip
    masks = CutMasks.from_labels(labels.cpu().numpy(), count)
    if tuple(labels.shape) != (height, width):
        chunks = [masks[begin : begin + CHUNK].tensor for begin in range(0, count, CHUNK)]
        resized = [CutMasks.of(_resized_masks(chunk, (height, width), 0.5)) for chunk in chunks]
        masks = CutMasks.cat(resized)
    kept = masks.areas() >= max(min_area, 1)
    kept_there = kept.to(scores.device)
    return _instances(masks[kept].to(labels.device), scores[kept_there], classes[kept_there])


def _instances(masks: Masks, scores: Tensor, classes: Tensor) -> Instances:
    result = Instances(tuple(masks.shape[1:]))
    result.pred_masks = masks
    if isinstance(masks, CutMasks):
        result.pred_boxes = masks.get_bounding_boxes().to(masks.device)
    else:
        result.pred_boxes = Boxes(tight_boxes(masks))
    result.scores = scores
    result.pred_classes = classes.to(torch.int64)
    return result


def _areas(masks: Tensor) -> Tensor:
    """(N,) int64 pixels of (N, H, W) bool; one by one, as a sum along a dimension takes 8 N H W."""
    areas = [mask.sum() for mask in masks]
    return torch.stack(areas) if areas else masks.new_zeros(0, dtype=torch.int64)


def _resized_masks(probabilities: Tensor, size: "tuple[int, int]", threshold: float) -> Tensor:
    """(N, *size) bool from (N, h, w) float or bool, a chunk at a time."""
    same = tuple(probabilities.shape[1:]) == size
    if same and probabilities.dtype == torch.bool:
        return probabilities
    masks = torch.zeros(len(probabilities), *size, dtype=torch.bool, device=probabilities.device)
    for start in range(0, len(probabilities), CHUNK):
        chunk = probabilities[start : start + CHUNK].float()[None]
        if not same:
            chunk = F.interpolate(chunk, size=size, mode="bilinear", align_corners=False)
        masks[start : start + CHUNK] = chunk[0] > threshold
    return masks
