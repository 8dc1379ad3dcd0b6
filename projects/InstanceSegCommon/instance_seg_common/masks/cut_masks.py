"""The masks of one image, each kept as its box and the pixels within it.

A thousand small objects need a thousand small windows, not a thousand images. Boxes are XYXY in
whole pixels, the right and bottom edges exclusive.

Shape shorthand in this module:
    N: masks   H, W: the image   h, w: a window   P: pixels of all windows
"""

from collections.abc import Iterator, Sequence
from typing import Any, Union

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes
from torch import Tensor

from .run_lengths import encode_window

# (N, H, W) masks of at most this many pixels stay a tensor, as Detectron2 has them: 512 MiB.
DENSE_PIXELS = 2**29
CHUNK = 32  # masks made whole at a time

Masks = Union[Tensor, BitMasks]
# (4,) int64 box, (h, w) bool pixels within it.
Window = tuple[np.ndarray, np.ndarray]


class CutMasks(BitMasks):
    """N masks of one image; a ``BitMasks`` whose ``tensor`` is made whenever it is asked for.

    Iteration gives (H, W) bool tensors, one at a time, so that what goes through masks one by one
    needs no more memory than an image; :meth:`windows` is what a crowd is worked on with.
    """

    def __init__(
        self, pixels: Tensor, boxes: np.ndarray, image_size: Sequence[int]
    ) -> None:  # BitMasks would make the whole tensor
        """
        Args:
            pixels: (P,) bool, window after window, each row by row.
            boxes: (N, 4) int64, within the image; empty boxes are empty masks.
            image_size: (H, W).
        """
        self.pixels = pixels
        self.boxes = np.asarray(boxes, dtype=np.int64).reshape(-1, 4)
        self.image_size = (int(image_size[0]), int(image_size[1]))
        sizes = (self.boxes[:, 2] - self.boxes[:, 0]) * (self.boxes[:, 3] - self.boxes[:, 1])
        self._ends = np.cumsum(sizes)

    @classmethod
    def of(cls, masks: Masks) -> "CutMasks":
        """Masks of whatever form: (N, H, W) bool, ``BitMasks``, or cut ones, which are returned."""
        if isinstance(masks, cls):
            return masks
        # BitMasks have the attribute, which a tensor has not.
        tensor: Any = getattr(masks, "tensor", masks)
        boxes = tight_boxes(tensor).cpu().numpy()
        windows = [mask[y0:y1, x0:x1].flatten() for mask, (x0, y0, x1, y1) in zip(tensor, boxes)]
        pixels = torch.cat(windows) if windows else tensor.new_zeros(0, dtype=torch.bool)
        return cls(pixels, boxes, tensor.shape[1:])

    @classmethod
    def from_windows(cls, windows: "Sequence[Window]", image_size: Sequence[int]) -> "CutMasks":
        """N windows; rows and columns at their rims without a pixel are cut off."""
        trimmed = [_trimmed(*window) for window in windows]
        boxes = np.array([box for box, _ in trimmed], dtype=np.int64)
        flat = [pixels.ravel() for _, pixels in trimmed] + [np.zeros(0, dtype=bool)]
        return cls(torch.from_numpy(np.concatenate(flat)), boxes, image_size)

    @classmethod
    def from_labels(cls, labels: np.ndarray, count: int) -> "CutMasks":
        """The masks of a label map.

        Args:
            labels: (H, W) int, 0 is background.
            count: N; mask i is where the map has i + 1, empty where it has it nowhere.
        """
        boxes = _boxes_of_labels(labels, count)
        windows = [
            (labels[y0:y1, x0:x1] == label).ravel()
            for label, (x0, y0, x1, y1) in enumerate(boxes.tolist(), start=1)
        ]
        flat = np.concatenate([*windows, np.zeros(0, dtype=bool)])
        return cls(torch.from_numpy(flat), boxes, labels.shape)

    @property
    def tensor(self) -> Tensor:
        """(N, H, W) bool, made anew; N times the size of the image."""
        whole = torch.zeros(len(self), *self.image_size, dtype=torch.bool, device=self.device)
        for index, mask in enumerate(self):
            whole[index] = mask
        return whole

    @property
    def shape(self) -> "tuple[int, int, int]":
        """(N, H, W)"""
        return (len(self), *self.image_size)

    @property
    def dtype(self) -> torch.dtype:
        """bool"""
        return self.pixels.dtype

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self.pixels.device

    def to(self, *args: Any, **kwargs: Any) -> "CutMasks":
        """The masks on another device."""
        return CutMasks(self.pixels.to(*args, **kwargs), self.boxes, self.image_size)

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        return f"CutMasks(num_instances={len(self)}, image_size={self.image_size})"

    def __getitem__(self, item: "Union[int, slice, Tensor]") -> "CutMasks":
        """As of ``BitMasks``: one mask for a number; a slice, numbers, a bool tensor: several."""
        chosen = np.arange(len(self))[item.cpu().numpy() if isinstance(item, Tensor) else item]
        chosen = np.atleast_1d(chosen)
        pieces = [self._piece(index) for index in chosen.tolist()]
        pixels = torch.cat(pieces) if pieces else self.pixels[:0]
        return CutMasks(pixels, self.boxes[chosen], self.image_size)

    def __iter__(self) -> "Iterator[Tensor]":
        for index, (x0, y0, x1, y1) in enumerate(self.boxes.tolist()):
            mask = torch.zeros(self.image_size, dtype=torch.bool, device=self.device)
            mask[y0:y1, x0:x1] = self._piece(index).view(y1 - y0, x1 - x0)
            yield mask

    def _piece(self, index: int) -> Tensor:
        return self.pixels[self._ends[index - 1] if index else 0 : self._ends[index]]

    def windows(self) -> "Iterator[Window]":
        """Box and pixels of each mask, on the CPU; the pixels share memory with the masks."""
        pixels = self.pixels.cpu().numpy()
        begin = 0
        for box, end in zip(self.boxes, self._ends.tolist()):
            shape = (box[3] - box[1], box[2] - box[0])
            yield box, pixels[begin:end].reshape(shape)
            begin = end

    def areas(self) -> Tensor:
        """(N,) int64 pixels of each mask, on the CPU."""
        sums = np.concatenate([[0], np.cumsum(self.pixels.cpu().numpy(), dtype=np.int64)])
        ends = np.concatenate([[0], self._ends]).astype(np.int64)
        return torch.from_numpy(np.diff(sums[ends]))

    def within(self, region: np.ndarray) -> "CutMasks":
        """The masks without what lies outside of a region (H, W) bool."""
        cut = [
            (pixels & region[y0:y1, x0:x1]).ravel() for (x0, y0, x1, y1), pixels in self.windows()
        ]
        flat = np.concatenate([*cut, np.zeros(0, dtype=bool)])
        return CutMasks(torch.from_numpy(flat).to(self.device), self.boxes, self.image_size)

    def run_lengths(self) -> "list[dict[str, Any]]":
        """COCO's encoding of each mask, counts as bytes."""
        return [
            encode_window(pixels, box[:2].tolist(), self.image_size)
            for box, pixels in self.windows()
        ]

    def nonempty(self) -> Tensor:
        """(N,) bool, on the device of the masks."""
        return (self.areas() > 0).to(self.device)

    def get_bounding_boxes(self) -> Boxes:
        """Tight boxes, all 0 of an empty mask."""
        trimmed = [_trimmed(*window)[0] for window in self.windows()]
        boxes = np.array(trimmed, dtype=np.float32).reshape(-1, 4)
        return Boxes(torch.from_numpy(boxes))

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """As of ``BitMasks``: (N, mask_size, mask_size) bool, each mask in its (N, 4) box."""
        parts = [torch.zeros(0, mask_size, mask_size, dtype=torch.bool, device=boxes.device)]
        for begin in range(0, len(self), CHUNK):
            chunk = slice(begin, begin + CHUNK)
            whole = BitMasks(self[chunk].tensor)
            parts.append(whole.crop_and_resize(boxes[chunk], mask_size))
        return torch.cat(parts)

    @staticmethod
    def cat(bitmasks_list: "Sequence[BitMasks]") -> "CutMasks":
        """The masks of several, all of one image size, in their order."""
        parts = [CutMasks.of(masks) for masks in bitmasks_list]
        pixels = torch.cat([part.pixels for part in parts])
        boxes = np.concatenate([part.boxes for part in parts])
        return CutMasks(pixels, boxes, parts[0].image_size)


def is_dense(count: int, size: Sequence[int]) -> bool:
    """Whether N masks of (H, W) pixels are kept as a tensor: see ``DENSE_PIXELS``."""
    return count * int(size[0]) * int(size[1]) <= DENSE_PIXELS


def _trimmed(box: np.ndarray, pixels: np.ndarray) -> Window:
    """A window without empty rows and columns at its rim; an empty one at 0, 0."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return np.zeros(4, dtype=np.int64), np.zeros((0, 0), dtype=bool)
    low = np.array([columns[0], rows[0]])
    high = np.array([columns[-1], rows[-1]]) + 1
    corner = np.asarray(box[:2], dtype=np.int64)
    cut = pixels[low[1] : high[1], low[0] : high[0]]
    return np.concatenate([corner + low, corner + high]), cut


def tight_boxes(masks: Tensor) -> Tensor:
    """The boxes of masks, as those of ``BitMasks``, without its loop over the masks.

    Args:
        masks: (N, H, W) bool.

    Returns:
        (N, 4) int64 XYXY; the right and bottom edges are exclusive; all 0 of an empty mask.
    """
    boxes = torch.zeros(len(masks), 4, dtype=torch.int64, device=masks.device)
    if not masks.numel():
        return boxes
    pixels = masks.view(torch.uint8)
    for side, dim in enumerate((1, 2)):  # columns, then rows
        # The maximum of bytes is found four times as fast as whether any of them is true.
        touched = pixels.amax(dim=dim)
        boxes[:, side] = touched.argmax(dim=1)
        boxes[:, side + 2] = touched.shape[1] - touched.flip(1).argmax(dim=1)
        boxes[touched.amax(dim=1) == 0] = 0
    return boxes


def _boxes_of_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """(N, 4) int64 of the ids 1 to N of a label map; all 0 of an id that is absent."""
    rows, columns = np.nonzero(labels)
    ids = labels[rows, columns]
    boxes = np.zeros((count + 1, 4), dtype=np.int64)
    boxes[:, :2] = max(labels.shape)
    for side, positions in enumerate((columns, rows)):
        np.minimum.at(boxes[:, side], ids, positions)
        np.maximum.at(boxes[:, side + 2], ids, positions + 1)
    boxes[boxes[:, 2] == 0] = 0
    return boxes[1:]
