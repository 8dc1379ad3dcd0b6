"""All rows of ``tools/benchmark.py time``; whoever has rows adds a function that returns them."""

from instance_seg_common.evaluation.matching import symmetric_best_dice

from .embedding_rows import (
    embedding_clustering_rows,
    embedding_inference_rows,
    embedding_loss_rows,
)
from .inputs import leaf_like_maps
from .recurrent_rows import (
    recurrent_decoder_rows,
    recurrent_inference_rows,
    recurrent_loss_rows,
    recurrent_training_rows,
)
from .references import sbd_over_pairs
from .timing import Function, Row


def _build_sbd() -> tuple[Function, Function]:
    gt, pred = leaf_like_maps()
    return lambda: symmetric_best_dice(gt, pred), lambda: sbd_over_pairs(gt, pred)


def evaluation_rows() -> list[Row]:
    """Rows of instance_seg_common.evaluation."""
    return [
        Row(
            name="sbd",
            what="SBD, 20 instances, 530x500",
            reference="loop over pairs, both directions",
            required=30,
            build=_build_sbd,
        )
    ]


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
