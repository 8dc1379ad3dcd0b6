"""Rows of the benchmark about instance_seg_common.evaluation."""

from instance_seg_common.evaluation.matching import symmetric_best_dice

from .inputs import leaf_like_maps
from .reference_models import sbd_over_pairs
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
