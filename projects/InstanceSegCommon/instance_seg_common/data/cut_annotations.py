"""The annotations of an image, transformed as the image was, as a model's ground truth.

Objects are painted into few maps of numbers, and these are transformed: where pixels are moved and
not blended, thousands of objects cost what one does. What a crop leaves out is never decoded. Boxes
are XYXY in pixels, the right and bottom edges exclusive.

Shape shorthand in this module:
    N: objects   h, w: the frame that they are painted in: the image, or what a first crop leaves
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.logger import log_first_n

from ..masks import CutMasks, Window, boxes_of, decode_window, is_dense, to_run_lengths

Size = tuple[int, int]  # height, width
Annotations = Sequence[Mapping[str, Any]]

# They change colours: no pixel moves.
_IN_PLACE = (T.NoOpTransform, T.BlendTransform, T.ColorTransform, T.PILColorTransform)
# Each pixel of the result is one of the source, and the corners of a box bound what is in it.
# Others, like ExtentTransform, which blends neighbours, are applied to one object at a time.
_MOVES_PIXELS = (
    *_IN_PLACE, T.CropTransform, T.PadTransform, T.HFlipTransform, T.VFlipTransform,
    T.ResizeTransform, T.RotationTransform,
)  # fmt: skip
_ROUNDING = 1  # pixels by which a nearest neighbour may lie outside of a transformed box


class _Drawn(NamedTuple):
    """Objects of one frame, and what is still to be done to it.

    rles: N encodings of the whole image; frame: box of what is painted; rest: transforms.
    """

    rles: "list[dict[str, Any]]"
    frame: "tuple[int, int, int, int]"
    rest: "list[T.Transform]"


def transformed_instances(
    annotations: Annotations,
    transforms: T.TransformList,
    image_size: Size,
    *,
    mask_format: str,
) -> Instances:
    """Ground truth of an image after its augmentations.

    Args:
        annotations: in Detectron2's format, of the image before the transforms; crowds are passed
            over.
        transforms: what was done to the image, in order.
        image_size: height and width after the transforms.
        mask_format: "bitmask" or "polygon", of ``gt_masks``; polygons that a crop cuts become
            bitmasks all the same.

    Returns:
        With ``gt_boxes``, tight around what is left of the masks, ``gt_classes`` and ``gt_masks``;
        objects that lie outside are left out. Where the masks are too many for a tensor
        (``masks.DENSE_PIXELS``), they are :class:`..masks.CutMasks`, otherwise ``BitMasks``.
    """
    objects = [a for a in annotations if not a.get("iscrowd", 0)]
    steps = list(transforms.transforms)
    cropped = any(isinstance(step, T.CropTransform) for step in steps)
    if not all("segmentation" in a for a in objects) or (mask_format == "polygon" and not cropped):
        return _as_detectron2(objects, transforms, image_size, mask_format=mask_format)
    if mask_format == "polygon":
        log_first_n(
            logging.INFO,
            "INPUT.MASK_FORMAT is polygon and INPUT.CROP cuts the images: objects are learned as "
            "bitmasks, drawn from the polygons as they were before the crop.",
            name=__name__,
        )
    windows = _windows([a["segmentation"] for a in objects], steps, image_size)
    kept = sorted(windows)
    return _instances(
        CutMasks.from_windows([windows[i] for i in kept], image_size),
        [int(objects[i]["category_id"]) for i in kept],
    )


def _windows(
    segmentations: "list[Any]", steps: "list[T.Transform]", image_size: Size
) -> "dict[int, Window]":
    """What the transforms leave of each mask, by its index; without those that lie outside."""
    windows: dict[int, Window] = {}
    polygons = [i for i, one in enumerate(segmentations) if isinstance(one, list)]
    bitmaps = [i for i, one in enumerate(segmentations) if not isinstance(one, list)]
    for draw, indices in ((_polygons, polygons), (_bitmaps, bitmaps)):
        drawn = draw([segmentations[i] for i in indices], steps, image_size)
        for number, window in _transformed(drawn, image_size).items():
            windows[indices[number]] = window
    return windows


def _instances(masks: CutMasks, classes: "list[int]") -> Instances:
    result = Instances(masks.image_size)
    result.gt_boxes = Boxes(torch.from_numpy(masks.boxes.astype(np.float32)))
    result.gt_classes = torch.tensor(classes, dtype=torch.int64)
    dense = is_dense(len(masks), masks.image_size)
    result.gt_masks = BitMasks(masks.tensor) if dense else masks
    return result


def _as_detectron2(
    objects: Annotations, transforms: T.TransformList, image_size: Size, *, mask_format: str
) -> Instances:
    """Detectron2's own way: boxes without masks, and polygons that stay polygons."""
    transformed = [
        utils.transform_instance_annotations(dict(annotation), transforms, image_size)
        for annotation in objects
    ]
    instances = utils.annotations_to_instances(transformed, image_size, mask_format=mask_format)
    instances = utils.filter_empty_instances(instances)
    if instances.has("gt_masks"):
        instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    return instances


def _polygons(segmentations: "list[Any]", steps: "list[T.Transform]", size: Size) -> _Drawn:
    """Polygons are moved by their corners up to the first crop, and drawn in what it leaves."""
    crop = next((i for i, t in enumerate(steps) if isinstance(t, T.CropTransform)), len(steps))
    before = T.TransformList(steps[:crop])
    frame, rest = (0, 0, size[1], size[0]), steps[crop + 1 :]
    if crop < len(steps):
        frame = _crop_box(steps[crop])
    rles = []
    for segmentation in segmentations:
        corners = [np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in segmentation]
        moved = [p.reshape(-1) for p in before.apply_polygons(corners)]
        # Whatever lies beyond the frame on the right and below has no part in it.
        rles.append(to_run_lengths(moved, frame[3], frame[2]))
    return _Drawn(rles, frame, rest)


def _bitmaps(segmentations: "list[Any]", steps: "list[T.Transform]", _: Size) -> _Drawn:
    """Run lengths are drawn as they are, in the image or in what a crop leaves at the beginning."""
    rles = [to_run_lengths(segmentation, 0, 0) for segmentation in segmentations]
    first = next((i for i, t in enumerate(steps) if not isinstance(t, _IN_PLACE)), len(steps))
    if first < len(steps) and isinstance(steps[first], T.CropTransform):
        return _Drawn(rles, _crop_box(steps[first]), steps[first + 1 :])
    height, width = rles[0]["size"] if rles else (0, 0)
    return _Drawn(rles, (0, 0, int(width), int(height)), steps[first:])


def _crop_box(crop: Any) -> "tuple[int, int, int, int]":
    return int(crop.x0), int(crop.y0), int(crop.x0 + crop.w), int(crop.y0 + crop.h)


def _transformed(drawn: _Drawn, image_size: Size) -> "dict[int, Window]":
    """What is left of the objects after the transforms, by their index."""
    boxes, chosen = _visible(drawn, image_size)
    if not len(chosen):
        return {}
    corner = np.array(drawn.frame[:2] * 2)
    frame_size = (drawn.frame[3] - drawn.frame[1], drawn.frame[2] - drawn.frame[0])
    windows = [decode_window(drawn.rles[i], (boxes[i] + corner).tolist()) for i in chosen]
    result: dict[int, Window] = {}
    shared = _only_moves(drawn.rest)
    for members, layer in _layers(windows, boxes[chosen], frame_size, shared=shared):
        labels = _apply(drawn.rest, layer, len(members))
        if labels.shape != tuple(image_size):
            raise ValueError(
                f"A mask is {labels.shape[1]}x{labels.shape[0]} pixels after the augmentations, "
                f"its image {image_size[1]}x{image_size[0]}"
            )
        masks = CutMasks.from_labels(labels, len(members))
        for member, (box, pixels) in zip(members, masks.windows()):
            if pixels.size:
                result[int(chosen[member])] = box, pixels
    return result


def _visible(drawn: _Drawn, image_size: Size) -> "tuple[np.ndarray, np.ndarray]":
    """Boxes (N, 4) int64 within the frame, and the indices of the objects that may be seen."""
    x0, y0, x1, y1 = drawn.frame
    corner, high = np.array([x0, y0, x0, y0]), np.array([x1 - x0, y1 - y0] * 2)
    boxes = np.clip(boxes_of(drawn.rles) - corner, 0, high)
    seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if _only_moves(drawn.rest) and len(boxes):
        grown = np.array([-_ROUNDING, -_ROUNDING, _ROUNDING, _ROUNDING])
        moved = boxes + grown.astype(np.float64)
        for step in drawn.rest:
            moved = step.apply_box(moved) + grown
        seen &= (moved[:, :2] < np.array(image_size[::-1])).all(1) & (moved[:, 2:] > 0).all(1)
    return boxes, np.flatnonzero(seen)


def _only_moves(steps: "list[T.Transform]") -> bool:
    return all(isinstance(step, _MOVES_PIXELS) for step in steps)


def _layers(
    windows: "list[np.ndarray]", boxes: np.ndarray, size: Size, *, shared: bool
) -> "list[tuple[list[int], np.ndarray]]":
    """Maps in which no two objects share a pixel; with ``shared`` False each has one of its own.

    Returns:
        Of each the numbers of its objects, and (h, w) int32: k + 1 where its k-th object is.
    """
    layers: list[tuple[list[int], np.ndarray]] = []
    for number, (pixels, (x0, y0, x1, y1)) in enumerate(zip(windows, boxes)):
        free = (layer for layer in layers if shared and not layer[1][y0:y1, x0:x1][pixels].any())
        chosen = next(free, None)
        if chosen is None:
            chosen = [], np.zeros(size, dtype=np.int32)
            layers.append(chosen)
        members, layer = chosen
        members.append(number)
        layer[y0:y1, x0:x1][pixels] = len(members)
    return layers


def _apply(steps: "list[T.Transform]", labels: np.ndarray, count: int) -> np.ndarray:
    """A map of the numbers 0 to ``count`` after the transforms, which take 8 bits at a time."""
    if not steps:
        return labels
    rest = T.TransformList(steps)
    result = np.zeros((0, 0), dtype=np.int32)
    for number in range((count.bit_length() + 7) // 8):
        part = rest.apply_segmentation(((labels >> (8 * number)) & 255).astype(np.uint8))
        moved = part.astype(np.int32) << (8 * number)
        result = result | moved if number else moved
    return np.where(result <= count, result, 0)  # what a padding writes is no object
