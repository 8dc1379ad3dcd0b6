"""Pixels that two label maps share, counted once for every pair of ids.

A label map is an (H, W) integer array. Ids may be anything and have gaps.

Shape shorthand in this module:
    H, W: image   G: ids of the ground truth   P: ids of the prediction
    E: pairs of these that share a pixel
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from ..masks import MaskPairs

# A lookup table this much larger than the image gives way to sorting its ids.
_DENSE_FACTOR = 4
_DENSE_MINIMUM = 1 << 16


class Overlap(NamedTuple):
    """The objects of two label maps, background left out, and the pairs that share a pixel.

    gt_ids, pred_ids: (G,) and (P,) int64, ascending.
    gt_areas, pred_areas: (G,) and (P,) int64, pixels.
    pairs: row of ``gt_ids``, column of ``pred_ids``, and IoU, by row, then by column.
    intersection: (E,) int64, pixels of each pair.
    """

    gt_ids: np.ndarray
    pred_ids: np.ndarray
    gt_areas: np.ndarray
    pred_areas: np.ndarray
    pairs: MaskPairs
    intersection: np.ndarray


@dataclass(frozen=True)
class ContingencyTable:
    """Pixels shared by ids of one label map with ids of another, background included.

    Attributes:
        rows, columns: (E,) int64 of the pairs that share a pixel, by row, then by column.
        counts: (E,) int64, pixels of each pair.
        gt_ids, pred_ids: (G,) and (P,) int64, ascending, only ids that own a pixel.
    """

    rows: np.ndarray
    columns: np.ndarray
    counts: np.ndarray
    gt_ids: np.ndarray
    pred_ids: np.ndarray

    @property
    def transposed(self) -> "ContingencyTable":
        """The same table with the two maps exchanged."""
        order = np.lexsort([self.rows, self.columns])
        pairs = (self.columns[order], self.rows[order], self.counts[order])
        return ContingencyTable(*pairs, self.pred_ids, self.gt_ids)

    def _areas(self) -> "tuple[np.ndarray, np.ndarray]":
        """(G,) and (P,) int64."""
        gt_areas, pred_areas = np.zeros(len(self.gt_ids), int), np.zeros(len(self.pred_ids), int)
        np.add.at(gt_areas, self.rows, self.counts)
        np.add.at(pred_areas, self.columns, self.counts)
        return gt_areas, pred_areas

    def overlap(self) -> Overlap:
        """Every object with every prediction, without the row and column of id 0."""
        gt_kept, pred_kept = self.gt_ids != 0, self.pred_ids != 0
        gt_areas, pred_areas = self._areas()
        kept = gt_kept[self.rows] & pred_kept[self.columns]
        rows, columns, shared = self.rows[kept], self.columns[kept], self.counts[kept]
        iou = shared / (gt_areas[rows] + pred_areas[columns] - shared)
        # Positions among the ids that are left.
        rows, columns = (np.cumsum(gt_kept) - 1)[rows], (np.cumsum(pred_kept) - 1)[columns]
        return Overlap(
            gt_ids=self.gt_ids[gt_kept],
            pred_ids=self.pred_ids[pred_kept],
            gt_areas=gt_areas[gt_kept],
            pred_areas=pred_areas[pred_kept],
            pairs=MaskPairs(rows, columns, iou),
            intersection=shared,
        )

    def best_dice(self) -> float:
        """`matching.best_dice` of the ground truth's labels (rows) against the prediction's."""
        if not self.counts.size:
            return 0.0
        gt_first, pred_first = self._background_ids()
        number = int(self.gt_ids.max()) - gt_first
        if number <= 0:
            return 0.0
        gt_areas, pred_areas = self._areas()
        dice = 2 * self.counts / (gt_areas[self.rows] + pred_areas[self.columns])
        kept = (self.gt_ids[self.rows] > gt_first) & (self.pred_ids[self.columns] > pred_first)
        best = np.zeros(len(self.gt_ids))
        np.maximum.at(best, self.rows[kept], dice[kept])
        return float(best.sum()) / number

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
    """Count the pixels of every pair of ids that has one.

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
    keys, counts = _counted(joint, len(gt_ids) * len(pred_ids))
    rows, columns = np.divmod(keys, max(len(pred_ids), 1))
    # A range of ids taken as it is may hold ids without pixels.
    present_rows, rows = np.unique(rows, return_inverse=True)
    present_columns, columns = np.unique(columns, return_inverse=True)
    return ContingencyTable(
        rows=rows.reshape(-1),
        columns=columns.reshape(-1),
        counts=counts,
        gt_ids=gt_ids[present_rows],
        pred_ids=pred_ids[present_columns],
    )


def _counted(keys: np.ndarray, size: int) -> "tuple[np.ndarray, np.ndarray]":
    """The numbers that occur among (n,) of 0 to size - 1, ascending, and how often."""
    if size > max(_DENSE_FACTOR * keys.size, _DENSE_MINIMUM):
        return np.unique(keys, return_counts=True)
    counts = np.bincount(keys, minlength=size)
    present = np.flatnonzero(counts)
    return present, counts[present]


def best_columns(pairs: MaskPairs, count: int) -> np.ndarray:
    """The column of the highest IoU of each row, of equal ones the first.

    Args:
        pairs: of rows below ``count``.
        count: N rows.

    Returns:
        (N, ) int64, -1 for a row without a pair.
    """
    order = np.lexsort([pairs.columns, -pairs.iou, pairs.rows])
    rows, first = np.unique(pairs.rows[order], return_index=True)
    best = np.full(count, -1, dtype=np.int64)
    best[rows] = pairs.columns[order][first]
    return best


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
