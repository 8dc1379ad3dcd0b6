"""The objects that two models find, with RoIAlign and with RoIPool: their IoU, and their contours.

Shape shorthand in this module:
    H, W: image   H', W': picture
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from instance_seg_common.evaluation.contingency import contingency_table
from instance_seg_common.visualization import drawing

ALIGN_COLOR = (80, 230, 110)
POOL_COLOR = (255, 150, 30)
TRUTH_COLOR = (255, 255, 255)
Window = tuple[slice, slice]


class LabelMaps(NamedTuple):
    """Label maps of one image, (H, W) int, 0 is background: the truth and both models'."""

    truth: np.ndarray
    align: np.ndarray
    pool: np.ndarray


class ObjectComparison(NamedTuple):
    """One object under both models.

    image: index of the image.   gt_id: id in the ground-truth label map.   area: pixels.
    iou_align, iou_pool: mask IoU of each model's best prediction of it, 0 if there is none.
    """

    image: int
    gt_id: int
    area: int
    iou_align: float
    iou_pool: float


def best_ious(gt: np.ndarray, pred: np.ndarray) -> "dict[int, tuple[float, int]]":
    """Best IoU of each object of one image.

    Args:
        gt, pred (ndarray): (H, W) int label maps, 0 is background.

    Returns:
        dict[int, tuple[float, int]]: ground-truth id -> (IoU, predicted id), (0.0, 0) if none.
    """
    table = contingency_table(gt, pred).overlap()
    best = {int(g): (0.0, 0) for g in table.gt_ids}
    for row, column, iou in zip(*(array.tolist() for array in table.pairs)):
        gt_id = int(table.gt_ids[row])
        if iou > best[gt_id][0]:
            best[gt_id] = (iou, int(table.pred_ids[column]))
    return best


def compare_objects(image: int, maps: LabelMaps) -> "list[ObjectComparison]":
    """Both models' IoU of every object of one image.

    Args:
        image (int): index of the image, kept in the result.
        maps (LabelMaps): of the image.

    Returns:
        list[ObjectComparison]: one for each object.
    """
    with_align, with_pool = (best_ious(maps.truth, x) for x in (maps.align, maps.pool))
    areas = np.bincount(maps.truth.ravel())
    return [
        ObjectComparison(
            image, g, int(areas[g]), iou_align=with_align[g][0], iou_pool=with_pool[g][0]
        )
        for g in with_align
    ]


def choose_objects(
    objects: Sequence[ObjectComparison], count: int, max_area: int, *, seed: int = 0
) -> "tuple[list[ObjectComparison], list[ObjectComparison]]":
    """The small objects on which the models differ most, and as many drawn at random.

    Objects that a model does not find at all (IoU below 0.5 in one of them) say nothing about
    alignment and are left out.

    Args:
        objects (list[ObjectComparison]): of all images.
        count (int): of each kind, at most.
        max_area (int): pixels; larger objects are left out.
        seed (int): of the random ones.

    Returns:
        tuple: (largest difference first, random): lists of ObjectComparison without common ones.
    """
    usable = [o for o in objects if o.area <= max_area and min(o.iou_align, o.iou_pool) >= 0.5]
    usable.sort(key=lambda o: -abs(o.iou_align - o.iou_pool))
    rest = usable[count:]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rest))[:count]
    return usable[:count], [rest[i] for i in order]


def object_tile(
    image: np.ndarray, maps: LabelMaps, item: ObjectComparison, *, side: int = 220
) -> np.ndarray:
    """One object, zoomed: RoIAlign's contour over the truth | RoIPool's contour over the truth.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB.
        maps (LabelMaps): of the image.
        item (ObjectComparison): which object.
        side (int): of each panel in pixels.

    Returns:
        ndarray: (H', W', 3) uint8 RGB; the truth's contour is white.
    """
    gt = maps.truth
    window = _window(gt == item.gt_id)
    scale = side / (window[0].stop - window[0].start)
    bright, _ = drawing.brighten(image)
    crop = drawing.resize_image(_part(bright, window), scale)
    truth = drawing.resize_labels((_part(gt, window) == item.gt_id), scale)
    panels = []
    for name, labels, iou, color in (
        ("RoIAlign", maps.align, item.iou_align, ALIGN_COLOR),
        ("RoIPool", maps.pool, item.iou_pool, POOL_COLOR),
    ):
        pred_id = best_ious(gt, labels)[item.gt_id][1]
        chosen = drawing.resize_labels(_part(labels, window) == pred_id, scale)
        picture = crop.copy()
        picture[drawing.boundaries(truth, 2)] = TRUTH_COLOR
        picture[drawing.boundaries(chosen, 2)] = color
        panels.append((f"{name}: IoU {iou:.2f}", picture))
    return drawing.side_by_side(panels)


def _window(mask: np.ndarray) -> Window:
    """A square around a mask, half an object wider; it may reach beyond the image."""
    rows, columns = np.nonzero(mask)
    side = int(1.5 * max(np.ptp(rows), np.ptp(columns))) + 9
    top = (int(rows.min()) + int(rows.max()) - side) // 2
    left = (int(columns.min()) + int(columns.max()) - side) // 2
    return slice(top, top + side), slice(left, left + side)


def _part(array: np.ndarray, window: Window) -> np.ndarray:
    """The window of an image or label map; zeros beyond its rim."""
    rows, columns = window
    size = (rows.stop - rows.start, columns.stop - columns.start)
    result = np.zeros(size + array.shape[2:], array.dtype)
    top, left = max(rows.start, 0), max(columns.start, 0)
    part = array[top : rows.stop, left : columns.stop]
    y, x = top - rows.start, left - columns.start
    result[y : y + part.shape[0], x : x + part.shape[1]] = part
    return result


def comparison_picture(
    groups: "Sequence[tuple[str, Sequence[np.ndarray]]]", *, columns: int = 3
) -> np.ndarray:
    """All tiles in one picture.

    Args:
        groups (list[tuple]): (heading, list of tiles of :func:`object_tile`, all of one size).
        columns (int): tiles in a row.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    groups = [(heading, tiles) for heading, tiles in groups if tiles]
    height, width = groups[0][1][0].shape[:2]
    total = columns * (width + drawing.GAP)
    parts = []
    for heading, tiles in groups:
        parts.append(drawing.text_strip([(heading, None)], total))
        for start in range(0, len(tiles), columns):
            row = np.full((height + drawing.GAP, total, 3), drawing.BACKGROUND, dtype=np.uint8)
            for index, tile in enumerate(tiles[start : start + columns]):
                x = index * (width + drawing.GAP)
                row[:height, x : x + width] = tile
            parts.append(row)
    legend = [("truth", TRUTH_COLOR), ("RoIAlign", ALIGN_COLOR), ("RoIPool", POOL_COLOR)]
    return np.concatenate(parts + [drawing.text_strip(legend, total)])
