"""Pixels that two label maps share, counted once for every pair of ids.

A label map is an (H, W) integer array. Ids may be anything and have gaps.

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
        counts: (G, P) int64, pixels.
        gt_ids, pred_ids: (G,) and (P,) int64, ascending, only ids that own a pixel.
    """

    counts: np.ndarray
    gt_ids: np.ndarray
    pred_ids: np.ndarray

    @property
    def transposed(self) -> "ContingencyTable":
        """The same table with the two maps exchanged."""
        return ContingencyTable(self.counts.T, self.pred_ids, self.gt_ids)

    def overlap(self) -> Overlap:
        """Every object with every prediction, without the row and column of id 0."""
        gt_kept, pred_kept = self.gt_ids != 0, self.pred_ids != 0
        shared = self.counts[np.ix_(gt_kept, pred_kept)]
        gt_areas = self.counts.sum(axis=1)[gt_kept]
        pred_areas = self.counts.sum(axis=0)[pred_kept]
        return Overlap(
            gt_ids=self.gt_ids[gt_kept],
            pred_ids=self.pred_ids[pred_kept],
            gt_areas=gt_areas,
            pred_areas=pred_areas,
            intersection=shared,
            iou=shared / (gt_areas[:, None] + pred_areas[None] - shared),
        )

    def best_dice(self) -> float:
        """`matching.best_dice` of the ground truth's labels (rows) against the prediction's."""
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

    def symmetric_best_dice(self) -> float:
        """See `matching.symmetric_best_dice`."""
        return min(self.best_dice(), self.transposed.best_dice())

    def difference_in_count(self) -> int:
        """See `matching.difference_in_count`."""
        if not self.counts.size:
            return 0
        gt_first, pred_first = self._background_ids()
        return (int(self.pred_ids.max()) - pred_first) - (int(self.gt_ids.max()) - gt_first)

    def _background_ids(self):
        return int(self.gt_ids.min()), int(self.pred_ids.min())


def contingency_table(gt: np.ndarray, pred: np.ndarray) -> ContingencyTable:
    """Count the pixels of every pair of ids.

    Args:
        gt, pred: (H, W) integers or bool, ids of any size.

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


def relabel(labels: np.ndarray) -> np.ndarray:
    """The same objects with consecutive ids, in the order of their old ones.

    Args:
        labels: (H, W) integers >= 0, 0 is background.

    Returns:
        (H, W) int64 with ids 0..K.
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
