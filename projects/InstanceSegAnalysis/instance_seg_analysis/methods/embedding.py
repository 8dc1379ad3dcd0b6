"""Analysis of the embedding method."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Optional

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances

from embedding_instance_seg import EmbeddingInstanceSeg
from embedding_instance_seg.grouping import Grouping, InferenceSettings
from embedding_instance_seg.maps import Maps
from instance_seg_analysis.internals.embedding import draw_embedding
from instance_seg_analysis.limits.adapters import (
    DETECTIONS,
    FACTORS,
    Knob,
    MethodAdapter,
    Setting,
    limit_of,
    threshold_knob,
    value_of,
)
from instance_seg_common.meta_arch import wanted_size

from .base import MethodAnalysis

NODE = "MODEL.EMBEDDING_INSTANCE_SEG"


class GroupedMaps(NamedTuple):
    """Maps of one image, the size of the output, and the groupings that were tried on them."""

    maps: Maps
    output_size: tuple[int, int]
    groupings: dict[InferenceSettings, Grouping]


class EmbeddingAdapter(MethodAdapter):
    """The maps are computed once, then clustered for each setting."""

    model: EmbeddingInstanceSeg

    capacity_keys = (DETECTIONS,)

    def knob_of(self, cfg: CfgNode) -> Optional[Knob]:
        """Bandwidth, or the seed threshold where the network says the bandwidth."""
        node = value_of(cfg, NODE)
        if node.CLUSTERING == "seeded":
            return threshold_knob(cfg, f"{NODE}.SEED_THRESHOLD", "seed threshold")
        if node.CLUSTERING == "hdbscan":
            return None
        values = tuple(round(node.BANDWIDTH * factor, 6) for factor in FACTORS)
        return Knob(f"{NODE}.BANDWIDTH", "bandwidth", node.BANDWIDTH, values)

    @torch.no_grad()
    def run(self, item: Mapping[str, Any]) -> GroupedMaps:
        """The maps of one image."""
        (maps,) = self.model.image_maps([item])
        return GroupedMaps(maps, wanted_size(item, maps.probabilities.shape[-2:]), {})

    def predict(self, state: GroupedMaps, setting: Setting) -> Instances:
        """Instances with another bandwidth or with fewer of them."""
        inference = self.model.inference
        if self.knob and self.knob.key in setting:
            field = self.knob.key.rsplit(".", 1)[-1].lower()
            inference = replace(inference, **{field: setting[self.knob.key]})
        if inference not in state.groupings:
            state.groupings[inference] = self.model.group(state.maps, inference=inference)
        limited = replace(inference, max_instances=limit_of(self.cfg, setting))
        grouping = state.groupings[inference]
        return self.model.make_instances(grouping, state.output_size, inference=limited).to("cpu")


ANALYSIS = MethodAnalysis(
    draw_internals=draw_embedding,
    shows="semantic output, embedding in the colours of its principal components, its pixels along "
    "two of them, and clusters",
    network_modules=("backbone", "head"),
    adapter=EmbeddingAdapter,
    semantic_output=True,
)
