"""All rows of ``tools/benchmark.py time``; whoever has rows adds a function that returns them."""

from .embedding_rows import (
    embedding_clustering_rows,
    embedding_inference_rows,
    embedding_loss_rows,
)
from .evaluation_rows import evaluation_rows
from .recurrent_rows import (
    recurrent_decoder_rows,
    recurrent_inference_rows,
    recurrent_loss_rows,
    recurrent_training_rows,
)
from .timing import Row

ROW_SOURCES = [
    evaluation_rows,
    embedding_loss_rows,
    embedding_clustering_rows,
    embedding_inference_rows,
    recurrent_loss_rows,
    recurrent_decoder_rows,
    recurrent_training_rows,
    recurrent_inference_rows,
]


def all_rows() -> "list[Row]":
    """The rows of all sources, in their order."""
    return [row for source in ROW_SOURCES for row in source()]
