"""What a model found in one image, in whatever form it is needed.

Shape shorthand in this module:
    N: objects   H, W: the image   C: its channels
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Optional

import numpy as np
from detectron2.structures import Instances

from ..errors import UserError
from ..tiling.stitching import StitchedObject
from ..tiling.tiled_model import instances_of
from .objects import label_map_bands
from .tables import Table, name_of, object_table

if TYPE_CHECKING:
    from supervision import Detections

LARGEST_DETECTIONS = 2**32  # bytes of masks that are handed to supervision


@dataclass(frozen=True)
class Result:
    """The objects of one image.

    Attributes:
        pixels: (H, W, C), as the image was read.
        objects: N of a label map, by falling score; no pixel is in two of them.
        found: all that the model gave, whatever their score; they may overlap.
        class_names: by class; () where they are not known.
        category_ids: of a COCO data set, by class; () counts from 1.
        pixel_size: side of a pixel in micrometres; None: not known.
        limits: keys of the config that cut something off, with their values.
        tiles: in how many the image was predicted.
    """

    pixels: np.ndarray
    objects: tuple[StitchedObject, ...]
    found: tuple[StitchedObject, ...]
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    pixel_size: Optional[float] = None
    limits: tuple[tuple[str, int], ...] = ()
    tiles: int = 1

    def __len__(self) -> int:
        return len(self.objects)

    @property
    def size(self) -> "tuple[int, int]":
        """H, W."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @cached_property
    def label_map(self) -> np.ndarray:
        """(H, W) int32: 0 is background, i + 1 where ``objects[i]`` is."""
        height = self.size[0]
        return next(label_map_bands(self.objects, self.size, rows=height, dtype=np.dtype(np.int32)))

    @property
    def scores(self) -> np.ndarray:
        """(N,) float."""
        return np.array([one.score for one in self.objects], dtype=float)

    @property
    def classes(self) -> np.ndarray:
        """(N,) int, 0-based."""
        return np.array([one.label for one in self.objects], dtype=int)

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) int, XYXY in pixels, right and bottom edge excluded."""
        boxes = np.array([one.box for one in self.objects], dtype=int).reshape(-1, 4)
        return boxes[:, [1, 0, 3, 2]]  # a Box begins with its top

    @cached_property
    def table(self) -> Table:
        """Measures of each object by column; see :func:`tables.object_table`."""
        return object_table(
            self.objects,
            self.pixels,
            class_names=self.class_names,
            pixel_size=self.pixel_size,
        )

    def to_instances(self) -> Instances:
        """The objects as Detectron2's Instances; see ``tiling.tiled_model.instances_of``."""
        return instances_of(self.objects, self.size)

    def to_detections(self) -> "Detections":
        """The objects as ``supervision.Detections``, with ``class_name`` in their data.

        Raises:
            UserError: supervision is not installed, or its masks, one of the whole image for each
                object, would take more than 4 GiB.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise UserError(f"Detections need supervision ({error}): install it.") from error
        count, (height, width) = len(self.objects), self.size
        if count * height * width > LARGEST_DETECTIONS:
            raise UserError(
                f"supervision keeps a mask of the whole image for each object: {count} of "
                f"{width}x{height} pixels are {count * height * width / 2**30:.0f} GiB. Take "
                "label_map, or a part of the image."
            )
        if not count:
            return Detections.empty()
        masks = self.label_map == np.arange(1, count + 1)[:, None, None]
        names = [name_of(one.label, self.class_names) for one in self.objects]
        return Detections(
            xyxy=self.boxes.astype(np.float32),
            mask=masks,
            confidence=self.scores.astype(np.float32),
            class_id=self.classes,
            data={"class_name": np.array(names)},
        )
