"""The parts of the model from its config: besides the checks of :mod:`config`, only this module
tells the decoders apart."""

from collections.abc import Sequence
from typing import Optional

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import nn

from instance_seg_common.meta_arch import instance_limit

from .criterion import SequenceCriterion
from .decoders import Decoder, GuidedDecoder, RISDecoder, RSISDecoder
from .decoders.guided import POSITION_WEIGHT
from .decoders.rsis import detail_level
from .inference import InferenceSettings
from .schedule import Schedule
from .teaching import Teaching

# Least iterations between two additions of an object, or a stall: the running loss looks back about
# 20 iterations, and must have seen the object that was added last.
SPACING = 50


def build_decoder(node: CfgNode, levels: Sequence[ShapeSpec]) -> Decoder:
    """The decoder that ``DECODER`` names.

    Args:
        node (CfgNode): ``MODEL.RECURRENT_INSTANCE_SEG``.
        levels (list[ShapeSpec]): that it reads of the backbone, coarsest first.
    """
    channels, stride = [level.channels for level in levels], levels[-1].stride
    shared = (node.HIDDEN_CHANNELS, node.NUM_CLASSES)
    if node.DECODER == "ris":
        return RISDecoder(
            channels[0], *shared, stride=stride, norm=node.NORM,
            inhibition_bias=node.RIS.INHIBITION_BIAS, inhibition_gain=node.RIS.INHIBITION_GAIN,
        )  # fmt: skip
    if node.DECODER == "guided":
        return GuidedDecoder(
            channels, *shared, stride=stride, norm=node.NORM, unit=node.GUIDED.UNIT
        )
    if node.RSIS.DETAIL:
        channels, stride = [*channels, node.HIDDEN_CHANNELS[-1]], stride // 2
    return RSISDecoder(channels, *shared, stride=stride, norm=node.NORM)


def build_detail(cfg: CfgNode) -> Optional[nn.Module]:
    """From the image to one more, finest level; None where the backbone's levels are all."""
    node = cfg.MODEL.RECURRENT_INSTANCE_SEG
    if not node.RSIS.DETAIL:
        return None
    return detail_level(len(cfg.MODEL.PIXEL_MEAN), node.HIDDEN_CHANNELS[-1], node.NORM)


def build_criterion(node: CfgNode) -> SequenceCriterion:
    """The losses of a sequence; ``node`` is ``MODEL.RECURRENT_INSTANCE_SEG``."""
    position = {"guided": POSITION_WEIGHT, "ris": node.RIS.POSITION_WEIGHT}
    return SequenceCriterion(
        class_weight=node.CLASS_WEIGHT,
        stop_weight=node.STOP_WEIGHT,
        position_weight=position.get(node.DECODER, 0.0),
        stride=node.LOSS_STRIDE,
    )


def build_teaching(node: CfgNode) -> Teaching:
    """Curriculum, hints and onsets; ``node`` is ``MODEL.RECURRENT_INSTANCE_SEG``."""
    schedule = Schedule(
        node.MAX_STEPS,
        start=node.CURRICULUM_START,
        threshold=node.CURRICULUM_LOSS,
        patience=node.PATIENCE,
        min_iterations=min(SPACING, node.PATIENCE),
    )
    return Teaching(
        schedule,
        max_steps=node.MAX_STEPS,
        hints_until=node.GUIDED.TEACHER_UNTIL if node.DECODER == "guided" else None,
        class_after=node.CLASS_LOSS_AFTER,
        stop_after=node.STOP_LOSS_AFTER,
    )


def build_inference(cfg: CfgNode) -> InferenceSettings:
    """How sequences become instances."""
    node = cfg.MODEL.RECURRENT_INSTANCE_SEG
    return InferenceSettings(
        max_steps=node.MAX_STEPS,
        stop_threshold=node.STOP_THRESHOLD,
        mask_threshold=node.MASK_THRESHOLD,
        min_area=node.MIN_AREA,
        overlap=node.OVERLAP,
        score=tuple(node.SCORE),
        all_classes=node.ALL_CLASSES,
        max_instances=instance_limit(cfg),
    )
