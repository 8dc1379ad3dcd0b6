"""From config keys to the parts of the model."""

import math
from collections.abc import Sequence

from detectron2.config import CfgNode

from instance_seg_common.meta_arch import instance_limit

from .grouping import InferenceSettings
from .head import EmbeddingHead, PyramidDecoder
from .losses import Criterion


def build_head(cfg: CfgNode, in_channels: Sequence[int]) -> EmbeddingHead:
    """The decoder and the layer of its outputs.

    Args:
        cfg (CfgNode)
        in_channels (list[int]): of the levels that it fuses, finest first.
    """
    node = cfg.MODEL.EMBEDDING_INSTANCE_SEG
    # Each stride below 2 has half the channels: all strides cost about the same.
    widths = {4: node.HEAD_CHANNELS, 2: node.HEAD_CHANNELS, 1: node.HEAD_CHANNELS // 2}
    decoder = PyramidDecoder(
        in_channels,
        channels=node.CHANNELS,
        widths={s: width for s, width in widths.items() if s >= node.OUTPUT_STRIDE},
        image_channels=len(cfg.MODEL.PIXEL_MEAN),
        coordinates=node.COORDINATES,
        norm=node.NORM,
    )
    return EmbeddingHead(
        decoder,
        num_classes=node.NUM_CLASSES,
        embedding_dim=node.EMBEDDING_DIM,
        position_unit=node.POSITION_UNIT if node.SEMI_CONVOLUTIONAL else None,
        seeds=node.CLUSTERING == "seeded",
    )


def build_criterion(cfg: CfgNode) -> Criterion:
    """The losses that the config switches on."""
    node = cfg.MODEL.EMBEDDING_INSTANCE_SEG
    weights = {"loss_semantic": node.SEMANTIC_WEIGHT}
    if node.CLASS_AGNOSTIC:
        weights["loss_class"] = node.CLASS_WEIGHT
    if node.CLUSTERING == "seeded":
        weights |= {"loss_mask": 1.0, "loss_bandwidth": 1.0, "loss_seed": 1.0}
    else:
        weights |= {
            "loss_variance": node.VARIANCE_WEIGHT,
            "loss_distance": node.DISTANCE_WEIGHT,
            "loss_regularization": node.REGULARIZATION_WEIGHT,
        }
    return Criterion(
        node.NUM_CLASSES, weights, delta_var=node.DELTA_VAR, delta_dist=node.DELTA_DIST
    )


def build_inference(cfg: CfgNode) -> InferenceSettings:
    """How pixels become instances."""
    node = cfg.MODEL.EMBEDDING_INSTANCE_SEG
    return InferenceSettings(
        clustering=node.CLUSTERING,
        bandwidth=node.BANDWIDTH,
        min_cluster_size=node.MIN_CLUSTER_SIZE,
        seed_threshold=node.SEED_THRESHOLD,
        reach=node.REACH or math.inf,
        score=tuple(node.SCORE),
        class_agnostic=node.CLASS_AGNOSTIC,
        min_area=node.MIN_AREA,
        max_instances=instance_limit(cfg),
    )
