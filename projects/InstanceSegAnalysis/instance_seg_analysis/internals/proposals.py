"""Pictures of what happens inside a Mask R-CNN: proposals, and what NMS removed.

Shape shorthand in this module:
    H, W: image   H', W': the picture
"""

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from instance_seg_analysis.annotations import ground_truth_boxes
from instance_seg_analysis.internals.detections import lost_to_nms
from instance_seg_common.evaluation.image_report import truth_of
from instance_seg_common.visualization import drawing

MAX_PROPOSALS = 60
MAX_REMOVED = 300
KEPT = (80, 220, 100)
REMOVED = (255, 80, 80)
PLAIN = (150, 150, 150)
LOST = (255, 220, 40)


def draw_proposals(
    image: np.ndarray,
    internals: Mapping[str, Tensor],
    dataset_dict: Optional[Mapping[str, Any]] = None,
    *,
    name: str = "",
) -> np.ndarray:
    """Best proposals | kept and removed by NMS | objects lost to NMS (with ground truth).

    Args:
        image (ndarray): (H, W, 3) uint8 RGB.
        internals (dict[str, Tensor]): of ``detections.proposal_internals``.
        dataset_dict (dict or None): its annotations are the ground truth.
        name (str): for the header.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    scale = drawing.display_scale(*image.shape[:2])
    bright, _ = drawing.brighten(image)
    canvas = drawing.resize_image(bright, scale)
    panels = [_proposal_panel(canvas, internals, scale), _nms_panel(canvas, internals, scale)]
    legend = [("kept by NMS", KEPT), ("removed by NMS", REMOVED)]
    if dataset_dict is not None and dataset_dict.get("annotations"):
        panels.append(_lost_panel(canvas, internals, dataset_dict, scale=scale))
        legend.append(("object whose detection NMS removed for another object's", LOST))
        legend.append(("other objects", PLAIN))
    return drawing.side_by_side(panels, f"{name}   inside Mask R-CNN", legend)


def _proposal_panel(
    canvas: np.ndarray, internals: Mapping[str, Tensor], scale: float
) -> "tuple[str, np.ndarray]":
    boxes = internals["proposals"][:MAX_PROPOSALS].numpy() * scale
    objectness = torch.sigmoid(internals["objectness"][:MAX_PROPOSALS]).numpy()
    # The best last, on top; faint where the network is less sure.
    low = np.array((70, 80, 160))
    span = np.array((120, 220, 255)) - low
    rank = np.linspace(1, 0, len(boxes)) if len(boxes) else []
    colors = [tuple(int(c) for c in low + span * r) for r in rank]
    title = f"proposals: best {len(boxes)} of {len(internals['proposals'])}"
    if len(boxes):
        title += f", objectness {objectness[0]:.2f} to {objectness[-1]:.2f}"
    return title, drawing.draw_boxes(canvas, boxes[::-1], colors[::-1])


def _nms_panel(
    canvas: np.ndarray, internals: Mapping[str, Tensor], scale: float
) -> "tuple[str, np.ndarray]":
    kept, removed = internals["kept"], internals["removed"]
    boxes = internals["boxes"] * scale
    shown = boxes[removed][:MAX_REMOVED].numpy()
    picture = drawing.draw_boxes(canvas, shown, [REMOVED] * len(shown))
    best = boxes[kept].numpy()
    picture = drawing.draw_boxes(picture, best, [KEPT] * len(best), width=2)
    over_limit = int((~kept & ~removed).sum())
    title = f"detections: {int(kept.sum())} kept, {int(removed.sum())} removed by NMS"
    if len(shown) < int(removed.sum()):
        title += f" (best {len(shown)} drawn)"
    return title + (f", {over_limit} over the limit" if over_limit else ""), picture


def _lost_panel(
    canvas: np.ndarray,
    internals: Mapping[str, Tensor],
    dataset_dict: Mapping[str, Any],
    *,
    scale: float,
) -> "tuple[str, np.ndarray]":
    gt = torch.as_tensor(ground_truth_boxes(dataset_dict))
    lost = lost_to_nms(internals, gt)
    picture = _tint_objects(canvas, dataset_dict, {g + 1 for g, _ in lost}, scale=scale)
    tags = []
    for g, row in lost:
        winner = int(internals["removed_by"][row])
        pair = internals["boxes"][[winner, row]].numpy() * scale
        picture = drawing.draw_boxes(picture, pair, [KEPT, REMOVED])
        text = f"removed at IoU {float(internals['removed_iou'][row]):.2f}"
        tags.append((int(gt[g, 0] * scale), int(gt[g, 1] * scale), text, LOST))
    title = f"lost to NMS: {len(lost)} of {len(gt)} objects"
    return title, drawing.draw_tags(picture, tags)


def _tint_objects(
    canvas: np.ndarray, dataset_dict: Mapping[str, Any], lost_ids: "set[int]", *, scale: float
) -> np.ndarray:
    """Lost objects in their colour, all others grey."""
    truth = truth_of(dataset_dict)
    colors = np.full((len(truth.classes) + 1, 3), PLAIN, dtype=np.uint8)
    colors[sorted(lost_ids)] = LOST
    labels = drawing.resize_labels(truth.labels, scale)
    return drawing.overlay_labels(canvas, labels, colors, alpha=0.5)
