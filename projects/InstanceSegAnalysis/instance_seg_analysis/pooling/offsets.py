"""RoIAlign against RoIPool: how far each reads beside the box, and what that does to small masks.

Shape shorthand in this module:
    S: positions of a box   n: bins along one side of the pooled grid   H, W: image
"""

from typing import NamedTuple

import numpy as np
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes

from instance_seg_common.evaluation.contingency import contingency_table
from instance_seg_common.visualization import drawing
from instance_seg_common.visualization.figures import new_figure

ALIGN_COLOR = (80, 230, 110)
POOL_COLOR = (255, 150, 30)
TRUTH_COLOR = (255, 255, 255)


def pooling_offsets(pooler_type, shifts, box_size=100.0, stride=16, output_size=7):
    """How far beside its place each bin of a pooled box is read.

    A feature map that holds its own x coordinate is pooled, and its negative: half the difference
    is the centre of what a bin reads, for the mean of RoIAlign and the maximum of RoIPool alike.

    Args:
        pooler_type (str): MODEL.ROI_*_HEAD.POOLER_TYPE: ROIAlignV2, ROIAlign or ROIPool.
        shifts (sequence[float]): S positions of the box's left edge, in strides.
        box_size (float): side of the square box in image pixels.
        stride (int): image pixels per cell of the feature map.
        output_size (int): n.

    Returns:
        ndarray: (S, n) float64, read minus true centre of each bin in image pixels, along x.
    """
    shifts = np.asarray(shifts, dtype=np.float64)
    margin = 2 * stride
    left = margin + shifts * stride
    cells = int(np.ceil((left.max() + box_size + margin) / stride)) + 1
    # Cell i covers the pixels from i * stride to (i + 1) * stride: its centre is half a cell on.
    ramp = ((torch.arange(cells) + 0.5) * stride).expand(cells, cells)
    features = torch.stack([ramp, -ramp])[None]
    boxes = torch.tensor([[x, margin, x + box_size, margin + box_size] for x in left.tolist()])
    pooler = ROIPooler(output_size, [1 / stride], sampling_ratio=0, pooler_type=pooler_type)
    pooled = pooler([features], [Boxes(boxes)]).double()
    read = ((pooled[:, 0] - pooled[:, 1]) / 2).mean(dim=1).numpy()
    true = left[:, None] + (np.arange(output_size) + 0.5) * box_size / output_size
    return read - true


def offsets_figure(path, stride=16, box_size=100.0):
    """Draw the offsets of a box that moves over two cells, and write a PNG.

    Args:
        path (Path): the file.
        stride, box_size: of :func:`pooling_offsets`.

    Returns:
        dict[str, dict[str, float]]: per pooler type, in image pixels: ``mean``, the constant part,
        which a network can learn to undo, and ``std``, the part that changes with the position of
        the box, which it cannot.
    """
    shifts = np.linspace(0, 2, 129)
    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    result = {}
    for name, label, color in (
        ("ROIPool", "RoIPool", "tab:orange"),
        ("ROIAlign", "RoIAlign without half-pixel correction", "tab:gray"),
        ("ROIAlignV2", "RoIAlign", "tab:green"),
    ):
        offsets = pooling_offsets(name, shifts, box_size, stride)
        result[name] = {"mean": float(offsets.mean()), "std": float(offsets.std())}
        axes.fill_between(shifts, offsets.min(axis=1), offsets.max(axis=1), color=color, alpha=0.2)
        text = f"{label}: {offsets.mean():.1f} +- {offsets.std():.1f} pixels"
        axes.plot(shifts, offsets.mean(axis=1), color=color, label=text)
    axes.set_xlabel(f"position of the box, in strides of {stride} pixels")
    axes.set_ylabel("read beside the bin by (image pixels)")
    axes.set_title(f"Box of {box_size:g} pixels: mean over its 7 x 7 bins, and their range")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False)
    figure.savefig(path, dpi=110)
    return result


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


def best_ious(gt, pred):
    """Best IoU of each object of one image.

    Args:
        gt, pred (ndarray): (H, W) int label maps, 0 is background.

    Returns:
        dict[int, tuple[float, int]]: ground-truth id -> (IoU, predicted id), (0.0, 0) if none.
    """
    table = contingency_table(gt, pred).overlap()
    if table.iou.shape[1] == 0:
        return {int(g): (0.0, 0) for g in table.gt_ids}
    best = table.iou.argmax(axis=1)
    ious = table.iou[np.arange(len(best)), best]
    pred_ids = np.where(ious > 0, table.pred_ids[best], 0)
    return {int(g): (float(iou), int(p)) for g, iou, p in zip(table.gt_ids, ious, pred_ids)}


def compare_objects(image, gt, align, pool):
    """Both models' IoU of every object of one image.

    Args:
        image (int): index of the image, kept in the result.
        gt, align, pool (ndarray): (H, W) int label maps.

    Returns:
        list[ObjectComparison]: one for each object.
    """
    with_align, with_pool = best_ious(gt, align), best_ious(gt, pool)
    areas = np.bincount(gt.ravel())
    return [
        ObjectComparison(image, g, int(areas[g]), with_align[g][0], with_pool[g][0])
        for g in with_align
    ]


def choose_objects(objects, count, max_area, seed=0):
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


def object_tile(image, gt, align, pool, item, side=220):
    """One object, zoomed: RoIAlign's contour over the truth | RoIPool's contour over the truth.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB.
        gt, align, pool (ndarray): (H, W) int label maps.
        item (ObjectComparison): which object.
        side (int): of each panel in pixels.

    Returns:
        ndarray: (H', W', 3) uint8 RGB; the truth's contour is white.
    """
    window = _window(gt == item.gt_id)
    scale = side / (window[0].stop - window[0].start)
    bright, _ = drawing.brighten(image)
    crop = drawing.resize_image(_cut(bright, window), scale)
    truth = drawing.resize_labels((_cut(gt, window) == item.gt_id), scale)
    panels = []
    for name, labels, iou, color in (
        ("RoIAlign", align, item.iou_align, ALIGN_COLOR),
        ("RoIPool", pool, item.iou_pool, POOL_COLOR),
    ):
        pred_id = best_ious(gt, labels)[item.gt_id][1]
        chosen = drawing.resize_labels(_cut(labels, window) == pred_id, scale)
        picture = crop.copy()
        picture[drawing.boundaries(truth, 2)] = TRUTH_COLOR
        picture[drawing.boundaries(chosen, 2)] = color
        panels.append((f"{name}: IoU {iou:.2f}", picture))
    return drawing.side_by_side(panels)


def _window(mask):
    """A square around a mask, half an object wider; it may reach beyond the image."""
    rows, columns = np.nonzero(mask)
    side = int(1.5 * max(np.ptp(rows), np.ptp(columns))) + 9
    top = (int(rows.min()) + int(rows.max()) - side) // 2
    left = (int(columns.min()) + int(columns.max()) - side) // 2
    return slice(top, top + side), slice(left, left + side)


def _cut(array, window):
    """The window of an image or label map; zeros beyond its rim."""
    rows, columns = window
    size = (rows.stop - rows.start, columns.stop - columns.start)
    result = np.zeros(size + array.shape[2:], array.dtype)
    top, left = max(rows.start, 0), max(columns.start, 0)
    part = array[top : rows.stop, left : columns.stop]
    y, x = top - rows.start, left - columns.start
    result[y : y + part.shape[0], x : x + part.shape[1]] = part
    return result


def comparison_picture(groups, columns=3):
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
