"""Analysis of Detectron2's Mask R-CNN."""

from instance_seg_analysis.internals.proposals import proposal_internals
from instance_seg_analysis.internals.proposals_drawing import draw_proposals
from instance_seg_analysis.limits.adapters import MaskRCNNWay

from .base import MethodAnalysis

ANALYSIS = MethodAnalysis(
    draw_internals=draw_proposals,
    compute_internals=proposal_internals,
    shows="proposals, detections before and after NMS, objects lost to NMS",
    network_parts=(
        "backbone.forward",
        "proposal_generator.rpn_head.forward",
        "roi_heads.box_pooler.forward",
        "roi_heads.box_head.forward",
        "roi_heads.box_predictor.forward",
        "roi_heads.mask_pooler.forward",
        "roi_heads.mask_head.forward",
    ),
    adapter=MaskRCNNWay,
)
