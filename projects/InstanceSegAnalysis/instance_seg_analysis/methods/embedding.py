"""Analysis of the embedding method."""

from instance_seg_analysis.internals.embedding import draw_embedding
from instance_seg_analysis.limits.adapters import EmbeddingWay

from .base import MethodAnalysis

ANALYSIS = MethodAnalysis(
    draw_internals=draw_embedding,
    shows="semantic output, embedding in the colours of its principal components, its pixels along "
    "two of them, and clusters",
    network_parts=("network",),
    adapter=EmbeddingWay,
    semantic_output=True,
)
