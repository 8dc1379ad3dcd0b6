"""Scores of a predicted label map against the true one: matching at an IoU threshold, SBD, DiC.

A label map is an (H, W) integer array. Ids may be anything and have gaps; for the matching scores
0 is background. Every score of a pair of maps comes out of one contingency table.

Shape shorthand in this module:
    H, W: image   G: objects of the ground truth   P: objects of the prediction
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union, overload

import numpy as np

from ..masks import MaskPairs
from .contingency import Overlap, contingency_table


@dataclass(frozen=True)
class Matching:
    """Counts of a one-to-one matching; adding two of them pools them.

    Every ratio is a fraction in [0, 1]. Where nothing is to be found and nothing is predicted, all
    of them are 1 (the answer is right), and adding such an image to others changes nothing. A ratio
    whose denominator alone is 0, like the precision of an empty prediction where there are objects,
    is 0.

    Attributes:
        iou_threshold: pairs with an IoU of at least this may match.
        tp, fp, fn: matched pairs, unmatched predictions, unmatched ground truth.
        iou_sum: sum of the IoU of the matched pairs.
    """

    iou_threshold: float
    tp: int
    fp: int
    fn: int
    iou_sum: float

    def __add__(self, other: "Matching") -> "Matching":
        if self.iou_threshold != other.iou_threshold:
            raise ValueError(f"cannot pool IoU {self.iou_threshold} with {other.iou_threshold}")
        return Matching(
            iou_threshold=self.iou_threshold,
            tp=self.tp + other.tp,
            fp=self.fp + other.fp,
            fn=self.fn + other.fn,
            iou_sum=self.iou_sum + other.iou_sum,
        )

    def _ratio(self, numerator, denominator):
        if self.tp + self.fp + self.fn == 0:
            return 1.0
        return numerator / denominator if denominator else 0.0

    @property
    def precision(self) -> float:
        """tp / (tp + fp)"""
        return self._ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """tp / (tp + fn)"""
        return self._ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 tp / (2 tp + fp + fn)"""
        return self._ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float:
        """tp / (tp + fp + fn)"""
        return self._ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def pq(self) -> float:
        """Panoptic quality of one class: sum of matched IoU / (tp + fp / 2 + fn / 2).

        Source: Kirillov et al. 2019, Eq. 1; there the IoU must exceed 0.5.
        """
        return self._ratio(self.iou_sum, self.tp + (self.fp + self.fn) / 2)

    @property
    def mean_matched_iou(self) -> float:
        """Mean mask IoU of the matched pairs; 0 where there are objects and none matched."""
        return self._ratio(self.iou_sum, self.tp)


def match_pairs(pairs: MaskPairs, iou_threshold: float) -> "tuple[np.ndarray, np.ndarray]":
    """Choose the matched pairs of one image.

    The matching has as many pairs as possible and, among those, the largest sum of IoU. Above an
    IoU of 0.5 it is unique and is read off the pairs; below, or with two halves of exactly 0.5, an
    object can have several candidates and the assignment problem is solved.

    Args:
        pairs: of an object (row) and a prediction (column), each pair once.
        iou_threshold: a pair may match where its IoU is greater or equal, as in COCO.

    Returns:
        Rows and columns of the pairs, int64, by row.
    """
    candidates = (pairs.iou >= iou_threshold) & (pairs.iou > 0)
    rows, columns, iou = (array[candidates] for array in pairs)
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    chosen = alone.copy()
    for members in _connected(rows[~alone], columns[~alone]):
        edges = np.flatnonzero(~alone)[members]
        chosen[edges] = _assigned(rows[edges], columns[edges], iou[edges])
    order = np.argsort(rows[chosen], kind="stable")
    return rows[chosen][order], columns[chosen][order]


def _connected(rows: np.ndarray, columns: np.ndarray) -> "list[np.ndarray]":
    """The pairs in groups that share no row and no column: positions (n,) of each."""
    if not len(rows):
        return []
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    nodes = int(rows.max()) + int(columns.max()) + 2
    ends = columns + int(rows.max()) + 1
    graph = coo_matrix((np.ones(len(rows)), (rows, ends)), shape=(nodes, nodes))
    group = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _assigned(rows: np.ndarray, columns: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """(n,) bool: which of n pairs are in the best matching of them."""
    from scipy.optimize import linear_sum_assignment

    row_ids, row = np.unique(rows, return_inverse=True)
    column_ids, column = np.unique(columns, return_inverse=True)
    # One more pair outweighs any gain in IoU, for the sum of IoU is at most min(G, P).
    gain = np.zeros((len(row_ids), len(column_ids)))
    gain[row.reshape(-1), column.reshape(-1)] = min(gain.shape) + iou
    partner = np.full(len(row_ids), -1)
    found, partners = linear_sum_assignment(gain, maximize=True)
    partner[found] = partners
    return partner[row.reshape(-1)] == column.reshape(-1)


def match_overlap(overlap: Overlap, iou_threshold: float) -> Matching:
    """Counts of the matching of two label maps; see :func:`match_label_maps`."""
    pairs = overlap.pairs
    rows, columns = match_pairs(pairs, iou_threshold)
    partner = np.full(len(overlap.gt_ids), -1)
    partner[rows] = columns
    return Matching(
        iou_threshold=float(iou_threshold),
        tp=len(rows),
        fp=len(overlap.pred_ids) - len(rows),
        fn=len(overlap.gt_ids) - len(rows),
        iou_sum=float(pairs.iou[partner[pairs.rows] == pairs.columns].sum()),
    )


@overload
def match_label_maps(gt: np.ndarray, pred: np.ndarray, iou_threshold: float = 0.5) -> Matching: ...
@overload
def match_label_maps(
    gt: np.ndarray, pred: np.ndarray, iou_threshold: Sequence[float]
) -> "list[Matching]": ...
def match_label_maps(
    gt: np.ndarray, pred: np.ndarray, iou_threshold: Union[float, Sequence[float]] = 0.5
) -> "Union[Matching, list[Matching]]":
    """Match predicted to true objects one to one; classes play no part.

    Args:
        gt, pred: (H, W) integers, 0 is background, other ids are arbitrary.
        iou_threshold: a pair may match where IoU >= threshold. A sequence shares one pass over the
            pixels.

    Returns:
        A matching, or a list of them for a sequence: tp, fp, fn and, as properties, precision,
        recall, f1, accuracy = tp / (tp + fp + fn), pq, mean_matched_iou.

    Raises:
        UserError: the maps are not integers, or differ in shape.
    """
    overlap = contingency_table(gt, pred).overlap()
    matchings = [match_overlap(overlap, threshold) for threshold in np.atleast_1d(iou_threshold)]
    return matchings if np.ndim(iou_threshold) else matchings[0]


def best_dice(labels: np.ndarray, reference: np.ndarray) -> float:
    """Mean over the labels of one map of their best Dice with any label of the other.

    As the CVPPP leaf segmentation challenge has it: the smallest label present in a map is its
    background, even where that is an object because no pixel is background; the mean runs over the
    labels min + 1 .. max, of which an absent one counts 0, so that gaps are punished; a map of a
    single label scores 0. Maps of different size are an error.

    Args:
        labels, reference: (H, W) integers.

    Returns:
        In [0, 1]; not symmetric.

    Source: Scharr et al., Leaf segmentation in plant phenotyping, 2016, Eq. 2.
    """
    return contingency_table(labels, reference).best_dice()


def symmetric_best_dice(gt: np.ndarray, pred: np.ndarray) -> float:
    """SBD: the smaller :func:`best_dice` of the two directions, as in the CVPPP challenge.

    Two maps without objects score 0, as does a map without objects against any other.

    Args:
        gt, pred: (H, W) integers, labelled without gaps.

    Returns:
        In [0, 1].
    """
    return contingency_table(gt, pred).symmetric_best_dice()


def difference_in_count(gt: np.ndarray, pred: np.ndarray) -> int:
    """DiC: predicted minus true number of objects, counting max - min of the labels of each map.

    The challenge reports the mean over images of this and of its absolute value.

    Args:
        gt, pred: (H, W) integers, labelled without gaps (a gap counts as an object).

    Returns:
        Negative where objects are missing.
    """
    return contingency_table(gt, pred).difference_in_count()
