"""Pictures of what happens inside a Mask R-CNN: proposals, and what NMS removed."""

import numpy as np
import torch
from detectron2.structures import BoxMode

from instance_seg_analysis.internals.proposals import lost_to_nms
from instance_seg_common.evaluation.image_report import truth_of
from instance_seg_common.visualization import drawing

MAX_PROPOSALS = 60
MAX_REMOVED = 300
KEPT = (80, 220, 100)
REMOVED = (255, 80, 80)
PLAIN = (150, 150, 150)
LOST = (255, 220, 40)


def draw_proposals(image, internals, dataset_dict=None, name=""):
    """Best proposals | kept and removed by NMS | objects lost to NMS (with ground truth)."""
    scale = drawing.display_scale(*image.shape[:2])
    bright, _ = drawing.brighten(image)
    canvas = drawing.resize_image(bright, scale)
    panels = [_proposal_panel(canvas, internals, scale), _nms_panel(canvas, internals, scale)]
    legend = [("kept by NMS", KEPT), ("removed by NMS", REMOVED)]
    if dataset_dict is not None and dataset_dict.get("annotations"):
        panels.append(_lost_panel(canvas, internals, scale, dataset_dict))
        legend.append(("object whose detection NMS removed for another object's", LOST))
        legend.append(("other objects", PLAIN))
    return drawing.side_by_side(panels, f"{name}   inside Mask R-CNN", legend)


def _proposal_panel(canvas, internals, scale):
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


def _nms_panel(canvas, internals, scale):
    kept, removed = internals["kept"], internals["removed"]
    boxes = internals["boxes"] * scale
    shown = boxes[removed][:MAX_REMOVED].numpy()
    picture = drawing.draw_boxes(canvas, shown, [REMOVED] * len(shown))
    best = boxes[kept].numpy()
    picture = drawing.draw_boxes(picture, best, [KEPT] * len(best), width=2)
    cut = int((~kept & ~removed).sum())
    title = f"detections: {int(kept.sum())} kept, {int(removed.sum())} removed by NMS"
    if len(shown) < int(removed.sum()):
        title += f" (best {len(shown)} drawn)"
    return title + (f", {cut} over the limit" if cut else ""), picture


def _lost_panel(canvas, internals, scale, dataset_dict):
    gt = torch.as_tensor(ground_truth_boxes(dataset_dict))
    lost = lost_to_nms(internals, gt)
    picture = _tint_objects(canvas, dataset_dict, scale, {g + 1 for g, _ in lost})
    tags = []
    for g, row in lost:
        winner = int(internals["removed_by"][row])
        pair = internals["boxes"][[winner, row]].numpy() * scale
        picture = drawing.draw_boxes(picture, pair, [KEPT, REMOVED])
        text = f"removed at IoU {float(internals['removed_iou'][row]):.2f}"
        tags.append((int(gt[g, 0] * scale), int(gt[g, 1] * scale), text, LOST))
    title = f"lost to NMS: {len(lost)} of {len(gt)} objects"
    return title, drawing.draw_tags(picture, tags)


def _tint_objects(canvas, dataset_dict, scale, lost_ids):
    """Lost objects in their colour, all others grey."""
    truth = truth_of(dataset_dict)
    colors = np.full((len(truth.classes) + 1, 3), PLAIN, dtype=np.uint8)
    colors[sorted(lost_ids)] = LOST
    labels = drawing.resize_labels(truth.labels, scale)
    return drawing.overlay_labels(canvas, labels, colors, alpha=0.5)


def ground_truth_boxes(dataset_dict):
    """(G, 4) float32 XYXY of the annotations that are not crowds."""
    boxes = [
        BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS)
        for a in dataset_dict["annotations"]
        if not a.get("iscrowd", 0)
    ]
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)
