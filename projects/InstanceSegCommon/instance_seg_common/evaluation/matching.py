"""Scores of a predicted label map against the true one: matching at an IoU threshold, SBD, DiC.

A label map is an (H, W) integer array. Ids may be anything and have gaps; for the matching scores
0 is background. Every score of a pair of maps comes out of one contingency table.

Shape shorthand in this module:
    H, W: image   G: ids of the ground truth   P: ids of the prediction
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import UserError

# A lookup table this much larger than the image gives way to sorting its ids.
_DENSE_FACTOR = 4
_DENSE_MINIMUM = 1 << 16


@dataclass(frozen=True)
class Matching:
    """Counts of a one-to-one matching; adding two of them pools them.

    Every ratio is a fraction in [0, 1]. With nothing to find and nothing predicted all of them are
    1 (the answer is right) and adding such an image to others changes nothing. A ratio whose
    denominator alone is 0, like the precision of an empty prediction where there are objects, is 0.

    Attributes:
        iou_threshold (float): pairs with an IoU of at least this may match.
        tp, fp, fn (int): matched pairs, unmatched predictions, unmatched ground truth.
        iou_sum (float): sum of the IoU of the matched pairs.
    """

    iou_threshold: float
    tp: int
    fp: int
    fn: int
    iou_sum: float

    def __add__(self, other):
        if self.iou_threshold != other.iou_threshold:
            raise ValueError(f"cannot pool IoU {self.iou_threshold} with {other.iou_threshold}")
        sums = (getattr(self, key) + getattr(other, key) for key in ("tp", "fp", "fn", "iou_sum"))
        return Matching(self.iou_threshold, *sums)

    def _ratio(self, numerator, denominator):
        if self.tp + self.fp + self.fn == 0:
            return 1.0
        return numerator / denominator if denominator else 0.0

    @property
    def precision(self):
        """tp / (tp + fp)"""
        return self._ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self):
        """tp / (tp + fn)"""
        return self._ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self):
        """2 tp / (2 tp + fp + fn)"""
        return self._ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def accuracy(self):
        """tp / (tp + fp + fn)"""
        return self._ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def pq(self):
        """Panoptic quality of one class: sum of matched IoU / (tp + fp / 2 + fn / 2).

        Source: Kirillov et al. 2019, Eq. 1; there the IoU must exceed 0.5.
        """
        return self._ratio(self.iou_sum, self.tp + (self.fp + self.fn) / 2)

    @property
    def mean_matched_iou(self):
        """Mean mask IoU of the matched pairs; 0 where there are objects and none matched."""
        return self._ratio(self.iou_sum, self.tp)


class Overlap(NamedTuple):
    """The objects of two label maps, background left out.

    gt_ids, pred_ids: (G,) and (P,) int64, ascending.
    gt_areas, pred_areas: (G,) and (P,) int64, pixels.
    intersection: (G, P) int64, pixels.
    iou: (G, P) float64.
    """

    gt_ids: np.ndarray
    pred_ids: np.ndarray
    gt_areas: np.ndarray
    pred_areas: np.ndarray
    intersection: np.ndarray
    iou: np.ndarray


@dataclass(frozen=True)
class ContingencyTable:
    """Pixels shared by each id of one label map with each id of another, background included.

    Attributes:
        counts (ndarray): (G, P) int64, pixels.
        gt_ids, pred_ids (ndarray): (G,) and (P,) int64, ascending, only ids that own a pixel.
    """

    counts: np.ndarray
    gt_ids: np.ndarray
    pred_ids: np.ndarray

    @property
    def transposed(self):
        """The same table with the two maps exchanged."""
        return ContingencyTable(self.counts.T, self.pred_ids, self.gt_ids)

    def overlap(self):
        """Every object with every prediction.

        Returns:
            Overlap: without the row and column of id 0.
        """
        gt_kept, pred_kept = self.gt_ids != 0, self.pred_ids != 0
        shared = self.counts[np.ix_(gt_kept, pred_kept)]
        gt_areas = self.counts.sum(axis=1)[gt_kept]
        pred_areas = self.counts.sum(axis=0)[pred_kept]
        iou = shared / (gt_areas[:, None] + pred_areas[None] - shared)
        gt_ids, pred_ids = self.gt_ids[gt_kept], self.pred_ids[pred_kept]
        return Overlap(gt_ids, pred_ids, gt_areas, pred_areas, shared, iou)

    def match(self, iou_threshold):
        """Counts of the matching at one threshold; see :func:`match_label_maps`."""
        iou = self.overlap().iou
        rows, columns = match_pairs(iou, iou_threshold)
        tp = len(rows)
        iou_sum = float(iou[rows, columns].sum())
        return Matching(float(iou_threshold), tp, iou.shape[1] - tp, iou.shape[0] - tp, iou_sum)

    def best_dice(self):
        """:func:`best_dice` of the ground truth's labels (rows) against the prediction's."""
        if not self.counts.size:
            return 0.0
        gt_first, pred_first = self._background_ids()
        number = int(self.gt_ids.max()) - gt_first
        if number <= 0:
            return 0.0
        gt_kept, pred_kept = self.gt_ids > gt_first, self.pred_ids > pred_first
        areas = self.counts.sum(axis=1)[:, None] + self.counts.sum(axis=0)[None]
        dice = (2 * self.counts / areas)[np.ix_(gt_kept, pred_kept)]
        return float(dice.max(axis=1, initial=0).sum()) / number

    def symmetric_best_dice(self):
        """See :func:`symmetric_best_dice`."""
        return min(self.best_dice(), self.transposed.best_dice())

    def difference_in_count(self):
        """See :func:`difference_in_count`."""
        if not self.counts.size:
            return 0
        gt_first, pred_first = self._background_ids()
        return (int(self.pred_ids.max()) - pred_first) - (int(self.gt_ids.max()) - gt_first)

    def _background_ids(self):
        return int(self.gt_ids.min()), int(self.pred_ids.min())


def contingency_table(gt, pred):
    """Count the pixels of every pair of ids.

    Args:
        gt, pred (ndarray): (H, W) integers or bool, ids of any size.

    Returns:
        ContingencyTable

    Raises:
        UserError: the maps are not integers, or differ in shape.
    """
    gt, pred = _label_array(gt, "ground truth"), _label_array(pred, "prediction")
    if gt.shape != pred.shape:
        raise UserError(
            f"The label maps differ in size: ground truth {gt.shape}, prediction {pred.shape}. "
            "Predictions must be at the size of the original image."
        )
    gt_codes, gt_ids = _compress(gt.ravel())
    pred_codes, pred_ids = _compress(pred.ravel())
    joint = gt_codes * len(pred_ids)
    joint += pred_codes
    counts = np.bincount(joint, minlength=len(gt_ids) * len(pred_ids))
    counts = counts.reshape(len(gt_ids), len(pred_ids))
    # A range of ids taken as it is may hold ids without pixels.
    gt_kept, pred_kept = counts.any(axis=1), counts.any(axis=0)
    if gt_kept.all() and pred_kept.all():
        return ContingencyTable(counts, gt_ids, pred_ids)
    return ContingencyTable(counts[gt_kept][:, pred_kept], gt_ids[gt_kept], pred_ids[pred_kept])


def match_pairs(iou, iou_threshold):
    """Choose the matched pairs of one image.

    The matching has as many pairs as possible and, among those, the largest sum of IoU. Above an
    IoU of 0.5 it is unique and is read off the matrix; below, or with two halves of exactly 0.5, an
    object can have several candidates and the assignment problem is solved.

    Args:
        iou (ndarray): (G, P) float64.
        iou_threshold (float): a pair may match where its IoU is greater or equal, as in COCO.

    Returns:
        tuple[ndarray, ndarray]: rows and columns of the pairs, int64.
    """
    candidates = (iou >= iou_threshold) & (iou > 0)
    ambiguous = (candidates.sum(axis=0) > 1).any() or (candidates.sum(axis=1) > 1).any()
    if not ambiguous:
        return np.nonzero(candidates)
    from scipy.optimize import linear_sum_assignment

    # One more pair outweighs any gain in IoU, for the sum of IoU is at most min(G, P).
    gain = np.where(candidates, min(iou.shape) + iou, 0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    chosen = candidates[rows, columns]
    return rows[chosen], columns[chosen]


def match_label_maps(gt, pred, iou_threshold=0.5):
    """Match predicted to true objects one to one; classes play no part.

    Args:
        gt, pred (ndarray): (H, W) integers, 0 is background, other ids are arbitrary.
        iou_threshold (float or sequence of float): a pair may match where IoU >= threshold. A
            sequence shares one pass over the pixels.

    Returns:
        Matching, or a list of them for a sequence: tp, fp, fn and, as properties, precision,
        recall, f1, accuracy = tp / (tp + fp + fn), pq, mean_matched_iou.

    Raises:
        UserError: the maps are not integers, or differ in shape.
    """
    table = contingency_table(gt, pred)
    if np.ndim(iou_threshold) == 0:
        return table.match(iou_threshold)
    return [table.match(threshold) for threshold in iou_threshold]


def best_dice(labels, reference):
    """Mean over the labels of one map of their best Dice with any label of the other.

    As the CVPPP leaf segmentation challenge has it: the smallest label present in a map is its
    background, even where that is an object because no pixel is background; the mean runs over the
    labels min + 1 .. max, of which an absent one counts 0, so that gaps are punished; a map of a
    single label scores 0. Maps of different size are an error.

    Args:
        labels, reference (ndarray): (H, W) integers.

    Returns:
        float: in [0, 1]; not symmetric.

    Source: Scharr et al., Leaf segmentation in plant phenotyping, 2016, Eq. 2.
    """
    return contingency_table(labels, reference).best_dice()


def symmetric_best_dice(gt, pred):
    """SBD: the smaller :func:`best_dice` of the two directions, as in the CVPPP challenge.

    Two maps without objects score 0, as does a map without objects against any other.

    Args:
        gt, pred (ndarray): (H, W) integers, labelled without gaps.

    Returns:
        float: in [0, 1].
    """
    return contingency_table(gt, pred).symmetric_best_dice()


def difference_in_count(gt, pred):
    """DiC: predicted minus true number of objects, counting max - min of the labels of each map.

    The challenge reports the mean over images of this and of its absolute value.

    Args:
        gt, pred (ndarray): (H, W) integers, labelled without gaps (a gap counts as an object).

    Returns:
        int: negative where objects are missing.
    """
    return contingency_table(gt, pred).difference_in_count()


def relabel(labels):
    """The same objects with consecutive ids, in the order of their old ones.

    Args:
        labels (ndarray): (H, W) integers >= 0, 0 is background.

    Returns:
        ndarray: (H, W) int64 with ids 0..K.
    """
    labels = _label_array(labels, "label map")
    codes, ids = _compress(labels.ravel())
    present = np.bincount(codes, minlength=len(ids)) > 0
    present[ids == 0] = False
    return np.where(present, np.cumsum(present), 0)[codes].reshape(labels.shape)


def _label_array(labels, name):
    labels = np.asarray(labels)
    if labels.dtype != bool and not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"The {name} label map has values of type {labels.dtype}; label maps hold integers. "
            "Convert it, for instance with .astype(int)."
        )
    return labels


def _compress(flat):
    """(codes (n,) intp, ids (G,) int64), ids[codes] == flat; ids may list some without pixels."""
    if not flat.size:
        return flat.astype(np.intp), np.zeros(0, dtype=np.int64)
    first, last = int(flat.min()), int(flat.max())
    size = last - first + 1
    if size > max(_DENSE_FACTOR * flat.size, _DENSE_MINIMUM):
        ids, codes = np.unique(flat, return_inverse=True)
        return codes.reshape(-1), ids.astype(np.int64)
    codes = flat.astype(np.intp)
    if first:
        codes -= first
    if size <= 256:
        return codes, np.arange(first, last + 1)
    present = np.zeros(size, dtype=bool)
    present[codes] = True
    ids = np.flatnonzero(present) + first
    return (np.cumsum(present) - 1)[codes], ids
