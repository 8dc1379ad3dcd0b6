"""Instance segmentation by pixel embeddings, as a Detectron2 meta-architecture."""

from .arch import EmbeddingInstanceSeg
from .config import add_embedding_instance_seg_config

__all__ = ["EmbeddingInstanceSeg", "add_embedding_instance_seg_config"]
