"""What a stock Mask R-CNN finds up to its boxes: proposals, detections, and what NMS removed.

Shape shorthand in this module:
    P: proposals of the RPN   R: proposals that the box head sees   C: classes
    N: detections above the score threshold, before NMS   G: ground-truth objects
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.layers import cat
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor

from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.matching import match_pairs
from instance_seg_common.masks import MaskPairs

# No IoU exceeds it: NMS with this threshold removes nothing.
NO_NMS = 2.0


class BoxOutput(NamedTuple):
    """The box head's output of one image. proposals: R, on the network input; boxes: (R, 4 or 4 C)
    XYXY; scores: (R, C + 1), the last column is background."""

    proposals: Instances
    boxes: Tensor
    scores: Tensor


def box_head_output(
    model: GeneralizedRCNN, batched_inputs: Sequence[Mapping[str, Any]]
) -> "tuple[dict[str, Tensor], list[BoxOutput]]":
    """Run Mask R-CNN up to its boxes.

    Args:
        model (GeneralizedRCNN): in evaluation mode, with ``StandardROIHeads``.
        batched_inputs (list[dict]): what the model takes.

    Returns:
        tuple: features of the padded batch by level; a BoxOutput an image.
    """
    heads = model.roi_heads
    images = model.preprocess_image(batched_inputs)
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features, None)
    levels = [features[name] for name in heads.box_in_features]
    pooled = heads.box_pooler(levels, [x.proposal_boxes for x in proposals])
    predictions = heads.box_predictor(heads.box_head(pooled))
    boxes = heads.box_predictor.predict_boxes(predictions, proposals)
    scores = heads.box_predictor.predict_probs(predictions, proposals)
    return features, [BoxOutput(*parts) for parts in zip(proposals, boxes, scores)]


def detect(
    boxes: Tensor,
    scores: Tensor,
    image_size: "tuple[int, int]",
    *,
    score_threshold: float,
    nms_threshold: float,
    limit: int,
) -> "tuple[Instances, Tensor]":
    """Detectron2's own inference on the box head's output of one image.

    Args:
        boxes (Tensor): (R, 4 or 4 C) XYXY.
        scores (Tensor): (R, C + 1).
        image_size (tuple[int, int]): height, width; boxes are clipped to it.
        score_threshold, nms_threshold (float): of the detector.
        limit (int): detections kept per image; negative for all.

    Returns:
        tuple[Instances, Tensor]: detections, best first; (N,) int64, the proposal of each.
    """
    parts = (boxes, scores, image_size)
    return fast_rcnn_inference_single_image(
        *parts, score_thresh=score_threshold, nms_thresh=nms_threshold, topk_per_image=limit
    )


@torch.no_grad()
def proposal_internals(
    model: GeneralizedRCNN, batched_inputs: Sequence[Mapping[str, Any]]
) -> "list[dict[str, Tensor]]":
    """Run Mask R-CNN up to its boxes and keep what is normally thrown away.

    The candidates and the kept boxes both come from Detectron2's own inference function, called
    without and with NMS, so that ``kept`` is exactly what the model returns.

    Args:
        model (GeneralizedRCNN): in evaluation mode, with ``StandardROIHeads``.
        batched_inputs (list[dict]): what the model takes; ``height`` and ``width`` are optional.

    Returns:
        list[dict[str, Tensor]]: one an image, boxes XYXY in pixels of the output size:
        ``proposals`` (P, 4) and ``objectness`` (P,) logits, best first;
        ``boxes`` (N, 4), ``scores`` (N,), ``classes`` (N,) int64, best first;
        ``kept`` (N,) bool, what the model returns; ``removed`` (N,) bool, what NMS removed
        (the rest exceeded TEST.DETECTIONS_PER_IMAGE); ``removed_by`` (N,) int64, row of the
        detection that NMS kept instead or -1; ``removed_iou`` (N,) their IoU, 0 without one.

    Raises:
        UserError: the model has other RoI heads.
    """
    heads = getattr(model, "roi_heads", None)
    if type(heads) is not StandardROIHeads:
        raise UserError(
            f"--internals needs MODEL.ROI_HEADS.NAME StandardROIHeads, but this model has "
            f"{type(heads).__name__}. Leave out --internals."
        )
    _, images = box_head_output(model, batched_inputs)
    return [_one_image(heads.box_predictor, *pair) for pair in zip(batched_inputs, images)]


def _one_image(
    predictor: torch.nn.Module, inputs: Mapping[str, Any], image: BoxOutput
) -> "dict[str, Tensor]":
    height, width = image.proposals.image_size
    detections = nms_record(
        image.boxes,
        image.scores,
        (height, width),
        score_threshold=predictor.test_score_thresh,
        nms_threshold=predictor.test_nms_thresh,
        limit=predictor.test_topk_per_image,
    )
    zoom = (inputs.get("width", width) / width, inputs.get("height", height) / height)
    factors = image.boxes.new_tensor(zoom * 2)
    detections["boxes"] = detections["boxes"] * factors
    result = {
        "proposals": image.proposals.proposal_boxes.tensor * factors,
        "objectness": image.proposals.objectness_logits,
        **detections,
    }
    return {name: tensor.cpu() for name, tensor in result.items()}


def nms_record(
    boxes: Tensor,
    scores: Tensor,
    image_size: "tuple[int, int]",
    *,
    score_threshold: float,
    nms_threshold: float,
    limit: int,
) -> "dict[str, Tensor]":
    """What one image's box head output becomes, and why the rest does not.

    Args:
        boxes, scores, image_size, score_threshold, nms_threshold, limit: of :func:`detect`.

    Returns:
        dict[str, Tensor]: ``boxes``, ``scores``, ``classes``, ``kept``, ``removed``, ``removed_by``
        and ``removed_iou`` of :func:`proposal_internals`, boxes in pixels of ``image_size``.
    """

    def run(threshold: float, limit: int) -> "tuple[Instances, Tensor]":
        return detect(
            boxes, scores, image_size,
            score_threshold=score_threshold, nms_threshold=threshold, limit=limit,
        )  # fmt: skip

    candidates, candidate_rows = run(NO_NMS, -1)

    def among_candidates(detections: Instances, rows: Tensor) -> Tensor:
        return _is_among(
            candidate_rows, candidates.pred_classes,
            chosen_rows=rows, chosen_classes=detections.pred_classes,
        )  # fmt: skip

    survived = among_candidates(*run(nms_threshold, -1))
    # Both runs sort by score, but equal scores may change places: the limit is the detector's.
    kept = among_candidates(*run(nms_threshold, limit)) if limit >= 0 else survived.clone()
    removed_by, removed_iou = _removers(candidates, survived)
    return {
        "boxes": candidates.pred_boxes.tensor,
        "scores": candidates.scores,
        "classes": candidates.pred_classes,
        "kept": kept,
        "removed": ~survived,
        "removed_by": removed_by,
        "removed_iou": removed_iou,
    }


def _is_among(
    rows: Tensor, classes: Tensor, *, chosen_rows: Tensor, chosen_classes: Tensor
) -> Tensor:
    """A detection is named by its proposal and its class: (N,) bool."""
    stride = int(cat([classes, chosen_classes]).max()) + 1 if len(classes) else 1
    return torch.isin(rows * stride + classes, chosen_rows * stride + chosen_classes)


def _removers(candidates: Instances, survived: Tensor) -> "tuple[Tensor, Tensor]":
    """(N,) row of the survivor of the same class that overlaps most, (N,) IoU; -1 and 0 if none."""
    removed_by = torch.full_like(candidates.pred_classes, -1)
    removed_iou = torch.zeros_like(candidates.scores)
    survivors, removed = survived.nonzero()[:, 0], (~survived).nonzero()[:, 0]
    if len(removed) == 0:
        return removed_by, removed_iou
    boxes, classes, scores = candidates.pred_boxes, candidates.pred_classes, candidates.scores
    iou = pairwise_iou(boxes[removed], boxes[survivors])
    rival = classes[removed][:, None] == classes[survivors][None]
    rival &= scores[removed][:, None] <= scores[survivors][None]
    best, column = iou.masked_fill(~rival, -1).max(dim=1)
    removed_by[removed] = torch.where(best >= 0, survivors[column], -1)
    removed_iou[removed] = best.clamp(min=0)
    return removed_by, removed_iou


def lost_to_nms(
    internals: Mapping[str, Tensor], gt_boxes: Tensor, *, iou_threshold: float = 0.5
) -> "list[tuple[int, int]]":
    """Objects that were detected and then removed by the detection of another object.

    Kept detections are given to objects one to one, as many as fit; an object without
    one is lost if a removed detection fits it better than any other object. This is what happens to
    crossing sticks whose boxes nearly coincide.

    Args:
        internals (dict[str, Tensor]): one image of :func:`proposal_internals`.
        gt_boxes (Tensor): (G, 4) XYXY in the same pixels.
        iou_threshold (float): from this box IoU on, a detection shows an object.

    Returns:
        list[tuple[int, int]]: (object, row of its best removed detection), objects ascending.
    """
    if len(gt_boxes) == 0 or len(internals["boxes"]) == 0:
        return []
    iou = pairwise_iou(Boxes(gt_boxes.float()), Boxes(internals["boxes"].float()))
    found, _ = match_pairs(MaskPairs.of(iou[:, internals["kept"]].numpy()), iou_threshold)
    best_iou, best_gt = iou.max(dim=0)
    usable = internals["removed"] & (best_iou >= iou_threshold)
    lost = []
    for g in range(len(gt_boxes)):
        rows = (usable & (best_gt == g)).nonzero()[:, 0]
        if g not in found and len(rows):
            lost.append((g, int(rows[internals["scores"][rows].argmax()])))
    return lost
