"""Images of any number of channels and of float values through Detectron2's transforms.

Shape shorthand in this module:
    H, W: an image   C: its channels
"""

from collections.abc import Sequence
from typing import Optional

import numpy as np
from detectron2.data import transforms as T
from PIL import Image

# They hand the image to Pillow or OpenCV, which take colours of 8 bits and little else: a fourth
# channel counts as alpha there and changes the others, one of one channel is dropped.
_BY_CHANNEL = (T.ResizeTransform, T.ExtentTransform, T.RotationTransform)


class AugmentedInput(T.AugInput):
    """An image under augmentation, with the map of its ignored regions.

    Colours of 8 bits become what Detectron2 makes of them, bit for bit. Any other image gets the
    same result a channel at a time, float values neither rounded nor clipped, and is smoothed when
    it is made smaller: Detectron2 skips pixels of a float image then.

    Args:
        image: (H, W, C) uint8 or float32; C is 1 or more.
        sem_seg: (H, W) uint8, or None.
    """

    def __init__(self, image: np.ndarray, sem_seg: Optional[np.ndarray] = None) -> None:
        super().__init__(image, sem_seg=sem_seg)

    def transform(self, tfm: "T.Transform | T.TransformList") -> None:
        """Apply a transform to the image and to the map, in place."""
        if isinstance(tfm, T.TransformList):
            for one in tfm.transforms:
                self.transform(one)
            return
        colours = self.image.dtype == np.uint8 and self.image.shape[2] == 3
        if colours or not isinstance(tfm, _BY_CHANNEL):
            super().transform(tfm)
            if self.image.dtype == np.float64:  # a random factor of numpy widens float values
                self.image = self.image.astype(np.float32)
            return
        apply = _resized if isinstance(tfm, T.ResizeTransform) else type(tfm).apply_image
        channels = np.moveaxis(self.image, 2, 0)
        self.image = np.stack([apply(tfm, np.ascontiguousarray(x)) for x in channels], axis=2)
        if self.sem_seg is not None:
            self.sem_seg = tfm.apply_segmentation(self.sem_seg)


def _resized(tfm: T.ResizeTransform, channel: np.ndarray) -> np.ndarray:
    """(H, W) at another size; Pillow smooths what it makes smaller, 8 bits and float alike."""
    return np.asarray(Image.fromarray(channel).resize((tfm.new_w, tfm.new_h), tfm.interp))


def augmented(
    image: np.ndarray,
    augmentations: "Sequence[T.Augmentation | T.Transform]",
    *,
    sem_seg: Optional[np.ndarray] = None,
) -> "tuple[AugmentedInput, T.TransformList]":
    """An image after augmentations, and the transforms that these were.

    Args:
        image, sem_seg: of :class:`AugmentedInput`.
        augmentations: in their order.
    """
    result = AugmentedInput(image, sem_seg)
    return result, T.AugmentationList(augmentations)(result)
