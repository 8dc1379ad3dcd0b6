"""Kendall's tau of the activations in an encoder's blocks with the order of the objects."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from instance_seg_analysis.order.tau import TauSummary, summarize_taus

AFTER = "after"  # the trained encoder, among the names of encoders
Activations = dict[str, dict[str, np.ndarray]]  # of one image: encoder -> block -> (N,) float


class BlockTaus(NamedTuple):
    """Of one block. after: training; before: it, one for each encoder, empty where it is not
    known. Positive: the most active objects are found first."""

    after: TauSummary
    before: list[TauSummary]


def summarize_activations(images: Sequence[Activations]) -> "dict[str, BlockTaus]":
    """Tau of activations by block, deepest first.

    Args:
        images (list[dict]): of each image, not empty; an encoder before training may lack blocks.
    """

    def summary(encoder: str, block: str) -> TauSummary:
        # The most active come first: keys ascend.
        return summarize_taus([-image[encoder][block] for image in images])

    encoders = images[0]
    return {
        block: BlockTaus(
            summary(AFTER, block),
            [summary(e, block) for e, known in encoders.items() if e != AFTER and block in known],
        )
        for block in encoders[AFTER]
    }
