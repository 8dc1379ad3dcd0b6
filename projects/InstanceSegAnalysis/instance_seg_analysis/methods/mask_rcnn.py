"""Analysis of Detectron2's Mask R-CNN.

Shape shorthand in this module:
    R: proposals   C: classes   N: detections
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Instances
from torch import Tensor, nn

from instance_seg_analysis.annotations import encoded_iou
from instance_seg_analysis.internals.detections import (
    NO_NMS,
    box_head_output,
    detect,
    proposal_internals,
)
from instance_seg_analysis.internals.proposals import draw_proposals
from instance_seg_analysis.limits.adapters import (
    SUPPRESSION,
    Knob,
    MethodAdapter,
    Setting,
    limit_of,
    threshold_knob,
    value_of,
)
from instance_seg_analysis.limits.nms import among_equals, box_iou, greedy_nms, soft_nms
from instance_seg_common.masks import CutMasks
from instance_seg_common.meta_arch import wanted_size

from .base import MethodAnalysis


class Detections(NamedTuple):
    """What the network gave for one image. boxes: (R, 4 or 4 C); scores: (R, C + 1); size: of the
    network input; candidates: with masks, at the output size, and ``key`` (N,), row * C + class."""

    boxes: Tensor
    scores: Tensor
    size: tuple[int, int]
    candidates: Instances


class MaskRCNNAdapter(MethodAdapter):
    """Stock Mask R-CNN: boxes and masks of all detections are computed before NMS."""

    model: GeneralizedRCNN

    NMS = "MODEL.ROI_HEADS.NMS_THRESH_TEST"
    PROPOSALS = "MODEL.RPN.POST_NMS_TOPK_TEST"
    # The last one is what any rule could keep: what it misses, NMS has not lost.
    suppressions = ("box NMS", "mask NMS", "soft-NMS", "no NMS")
    capacity_keys = (PROPOSALS,)
    proposal_limit = PROPOSALS

    def knob_of(self, cfg: CfgNode) -> Knob:
        """NMS threshold."""
        return threshold_knob(cfg, self.NMS, "NMS threshold (box IoU)")

    def run(self, item: Mapping[str, Any]) -> Detections:
        """Box head's output of all proposals, masks of all detections above the score threshold."""
        features, (image,) = box_head_output(self.model, [item])
        size = image.proposals.image_size
        everything, keys = self._detect(image.boxes, image.scores, size=size, threshold=NO_NMS)
        everything.key = keys
        (everything,) = self.model.roi_heads.forward_with_given_boxes(features, [everything])
        height, width = wanted_size(item, size)
        candidates = detector_postprocess(everything, height, width).to("cpu")
        return Detections(image.boxes, image.scores, size, candidates)

    def _detect(
        self,
        boxes: Tensor,
        scores: Tensor,
        *,
        size: "tuple[int, int]",
        threshold: float,
        limit: int = -1,
    ) -> "tuple[Instances, Tensor]":
        """Detectron2's own inference: Instances, (N,) their keys."""
        least = self.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST
        detections, rows = detect(
            boxes, scores, size, score_threshold=least, nms_threshold=threshold, limit=limit
        )
        return detections, rows * (scores.shape[1] - 1) + detections.pred_classes

    def predict(self, state: Detections, setting: Setting) -> Instances:
        """Detections with another NMS threshold, rule, or number of proposals or detections."""
        threshold = setting.get(self.NMS, value_of(self.cfg, self.NMS))
        limit, rule = limit_of(self.cfg, setting), setting.get(SUPPRESSION, "box NMS")
        if rule == "no NMS":
            return state.candidates
        if rule == "mask NMS":
            return without_overlapping_masks(state.candidates, threshold)[:limit]
        if rule == "soft-NMS":
            least = self.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST
            return with_decayed_scores(state.candidates, least)[:limit]
        # Proposals come best first: fewer of them are the first of them.
        first = slice(setting.get(self.PROPOSALS))
        _, keys = self._detect(
            state.boxes[first], state.scores[first], size=state.size, threshold=threshold,
            limit=-1 if limit is None else limit,
        )  # fmt: skip
        return state.candidates[torch.isin(state.candidates.key, keys.cpu())]


def without_overlapping_masks(candidates: Instances, threshold: float) -> Instances:
    """What NMS by the IoU of masks, within each class, leaves of N candidates, best first."""
    masks = CutMasks.of(candidates.pred_masks).run_lengths()
    iou = among_equals(encoded_iou(masks, masks), candidates.pred_classes.numpy())
    return candidates[torch.from_numpy(greedy_nms(iou, candidates.scores.numpy(), threshold))]


def with_decayed_scores(candidates: Instances, least: float) -> Instances:
    """N candidates with the scores of soft-NMS, those of at least ``least``, best first."""
    iou = box_iou(candidates.pred_boxes.tensor)
    scores = soft_nms(
        among_equals(iou, candidates.pred_classes.numpy()), np.asarray(candidates.scores)
    )
    decayed = torch.from_numpy(scores).float()
    order = torch.argsort(decayed, descending=True, stable=True)
    result = candidates[order]
    result.scores = decayed[order]
    return result[result.scores >= least]


def has_standard_heads(model: nn.Module) -> bool:
    """Whether the RoI heads are those of Mask R-CNN: others, such as a cascade's, call other
    parts."""
    return type(getattr(model, "roi_heads", None)) is StandardROIHeads


ANALYSIS = MethodAnalysis(
    draw_internals=draw_proposals,
    compute_internals=proposal_internals,
    shows="proposals, detections before and after NMS, objects lost to NMS",
    fits=has_standard_heads,
    network_modules=(
        "backbone",
        "proposal_generator.rpn_head",
        "roi_heads.box_pooler",
        "roi_heads.box_head",
        "roi_heads.box_predictor",
        "roi_heads.mask_pooler",
        "roi_heads.mask_head",
    ),
    adapter=MaskRCNNAdapter,
    proposal_based=True,
)
