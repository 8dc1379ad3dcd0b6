"""Masks as a model takes them (targets), as it gives them (predictions), and as label maps.

Shape shorthand in this module:
    B: images in the batch   K: ground-truth instances   N: predicted instances
    H, W: padded network input, or the output size   h, w: an unpadded image
"""

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from pycocotools import mask as mask_util
from torch import Tensor
from torch.nn import functional as F

from .errors import UserError

# Masks resized at once; keeps the float intermediate of 400 full-size masks out of memory.
CHUNK = 32
IGNORED = 255  # in `sem_seg`, what the stock mapper reads from `sem_seg_file_name`
Device = Union[torch.device, str, None]
# masks, B of (K, H, W) bool; classes, B of (K,) int64; valid, (B, H, W) bool
Targets = tuple[list[Tensor], list[Tensor], Tensor]


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
    ignore = [x["sem_seg"] == IGNORED if "sem_seg" in x else None for x in batched_inputs]
    instances = [x["instances"] for x in batched_inputs]
    return targets_from_instances(instances, padded_size, device, ignore=ignore)


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
    valid = torch.zeros(len(instances), *padded_size, dtype=torch.bool, device=device)
    masks, classes = [], []
    for index, item in enumerate(instances):
        h, w = item.image_size
        valid[index, :h, :w] = True
        ignored = None if ignore is None else ignore[index]
        if ignored is not None:
            valid[index, :h, :w] &= ignored.to(valid.device) == 0
        bitmasks = _bitmasks(item).to(valid.device)
        kept = bitmasks.flatten(1).any(dim=1)
        padding = (0, padded_size[1] - w, 0, padded_size[0] - h)
        masks.append(F.pad(bitmasks[kept], padding))
        has_classes = item.has("gt_classes")
        item_classes = item.gt_classes if has_classes else torch.zeros(len(kept))
        classes.append(item_classes.to(valid.device, torch.int64)[kept])
    return masks, classes, valid


def _bitmasks(instances: Instances) -> Tensor:
    """(K, h, w) bool of the ground-truth masks of one image, whatever their format."""
    h, w = instances.image_size
    if len(instances) == 0:
        return torch.zeros(0, h, w, dtype=torch.bool)
    if not instances.has("gt_masks"):
        raise UserError(
            f"{len(instances)} ground-truth instances have no gt_masks. The stock mapper drops "
            "masks unless MODEL.MASK_ON is True: set it in the config."
        )
    masks = instances.gt_masks
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, h, w)
    return masks.tensor.bool()


def instance_id_maps(
    masks: Sequence[Tensor], classes: Sequence[Tensor], valid: Tensor
) -> "tuple[Tensor, Tensor]":
    """Boolean masks as a map of instance ids and one of classes for each image.

    A pixel in several masks belongs to the smallest of them, which would vanish otherwise.

    Args:
        masks: B of (K, H, W) bool.
        classes: B of (K,) int64, 0-based.
        valid: (B, H, W) bool.

    Returns:
        ``instance_ids`` (B, H, W) int64: 0 background, k + 1 for instance k, -1 where not valid;
        ``class_ids`` (B, H, W) int64: 0-based class of the instance, -1 elsewhere.
    """
    instance_ids = torch.zeros(valid.shape, dtype=torch.int64, device=valid.device)
    class_ids = torch.full_like(instance_ids, -1)
    for index, (image_masks, image_classes) in enumerate(zip(masks, classes)):
        for k in torch.argsort(_areas(image_masks), descending=True).tolist():
            instance_ids[index][image_masks[k]] = k + 1
            class_ids[index][image_masks[k]] = image_classes[k]
    instance_ids[~valid] = -1
    class_ids[~valid] = -1
    return instance_ids, class_ids


def _areas(masks: Tensor) -> Tensor:
    """(N,) int64 pixels of (N, H, W) bool; one by one, as a sum along a dimension takes 8 N H W."""
    areas = [mask.sum() for mask in masks]
    return torch.stack(areas) if areas else masks.new_zeros(0, dtype=torch.int64)


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
    result = Instances((height, width))
    result.pred_masks = masks[kept]
    result.pred_boxes = Boxes(tight_boxes(result.pred_masks))
    result.scores = scores[kept]
    result.pred_classes = classes[kept].to(torch.int64)
    return result


def tight_boxes(masks: Tensor) -> Tensor:
    """The boxes of masks, as those of ``BitMasks``, without its loop over the masks.

    Args:
        masks: (N, H, W) bool, none empty.

    Returns:
        (N, 4) float32 XYXY; the right and bottom edges are exclusive.
    """
    pixels = masks.view(torch.uint8)
    low, high = [], []
    for dim in (1, 2):  # columns, then rows
        touched = pixels.amax(dim=dim)
        low.append(touched.argmax(dim=1))
        high.append(touched.shape[1] - touched.flip(1).argmax(dim=1))
    return torch.stack([*low, *high], dim=1).float()


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


def instances_to_label_map(
    instances: Instances, score_threshold: float = 0.0, min_area: int = 0
) -> np.ndarray:
    """Predicted instances as one label map: the highest score wins a pixel, classes together.

    Args:
        instances: with ``pred_masks`` (N, H, W) bool and ``scores`` (N,).
        score_threshold: instances with a lower score are left out.
        min_area: an instance left with fewer pixels is dropped; its pixels are background.

    Returns:
        (H, W) int64; 0 is background, 1.. are the instances by descending score,
        consecutive although some have lost all their pixels to better ones.
    """
    scores = instances.scores.detach().cpu()
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[scores[order] >= score_threshold]
    labels = np.zeros(instances.image_size, dtype=np.int64)
    masks = instances.pred_masks.detach().cpu()
    for rank, index in reversed(list(enumerate(order.tolist(), start=1))):
        labels[masks[index].numpy()] = rank
    return drop_small(labels, min_area)


def drop_small(labels: np.ndarray, min_area: int = 0) -> np.ndarray:
    """A label map without its small instances, ids made consecutive in their order.

    Args:
        labels: (H, W) int64, 0 is background.
        min_area: instances with fewer pixels become background.

    Returns:
        (H, W) int64.
    """
    kept = np.bincount(labels.ravel(), minlength=1) >= max(min_area, 1)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0)[labels]


def annotations_to_label_map(
    annotations: "Sequence[Mapping[str, Any]]", height: int, width: int
) -> "tuple[np.ndarray, np.ndarray]":
    """The annotations of a data set dict as one label map.

    Args:
        annotations: in Detectron2's format: ``segmentation`` an RLE dict or polygons, ``iscrowd``
            optional.
        height, width: pixels.

    Returns:
        (height, width) int64: 0 is background, i + 1 the i-th annotation that is not a crowd; where
        objects overlap the smaller one is on top. (height, width) bool: crowd regions.
    """
    crowd = np.zeros((height, width), dtype=bool)
    objects = []
    for annotation in annotations:
        mask = decode_segmentation(annotation["segmentation"], height, width)
        if annotation.get("iscrowd", 0):
            crowd |= mask
        else:
            pixels = np.flatnonzero(mask)
            objects.append((len(pixels), len(objects) + 1, pixels))
    labels = np.zeros(height * width, dtype=np.int64)
    for _, label, pixels in sorted(objects, key=lambda item: -item[0]):
        labels[pixels] = label
    return labels.reshape(height, width), crowd


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """(height, width) bool of one annotation: RLE (compressed or not), or polygons in pixels."""
    if isinstance(segmentation, list):
        rles = mask_util.frPyObjects(segmentation, height, width)
        return mask_util.decode(mask_util.merge(rles)).astype(bool)
    if isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, height, width)
    return mask_util.decode(segmentation).astype(bool)
