"""Test-time augmentation: what the network says about the eight turns of an image, in one.

Shape shorthand in this module:
    B: images in the batch   C: channels of an image   E: embedding channels   T: turns
    H, W: padded network input   h, w: the network's grid over it
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Optional

import torch
from detectron2.config import CfgNode
from torch import Tensor

from instance_seg_common.errors import UserError
from instance_seg_common.meta_arch import ImageSizes

from .config import NODE

DenseMaps = Callable[[Tensor, ImageSizes], dict[str, Tensor]]


class Turn(NamedTuple):
    """First a mirror image, left for right, or none; then quarters of a turn against the clock."""

    mirrored: bool
    quarters: int

    def there(self, x: Tensor) -> Tensor:
        """(..., H, W) turned; an odd number of quarters makes it (..., W, H)."""
        return torch.rot90(x.flip(-1) if self.mirrored else x, self.quarters, (-2, -1))

    def back(self, x: Tensor) -> Tensor:
        """What :meth:`there` has turned."""
        x = torch.rot90(x, -self.quarters, (-2, -1))
        return x.flip(-1) if self.mirrored else x

    def sizes(self, sizes: ImageSizes) -> ImageSizes:
        """Heights and widths of turned images."""
        whole = [(int(h), int(w)) for h, w in sizes]
        return [(w, h) for h, w in whole] if self.quarters % 2 else whole

    def points_back(self, points: Tensor, extent: Tensor) -> Tensor:
        """Points of a turned image where they are in the image; the maps' pixels stay in place.

        Args:
            points (Tensor): (B, 2, ...) float: x and y from the corner of the turned image.
            extent (Tensor): (2,) float: width and height of the image, not turned, in their unit.
        """
        middle = (extent.flip(0) if self.quarters % 2 else extent) / 2
        x, y = (points.movedim(1, -1) - middle).unbind(-1)
        for _ in range(self.quarters):
            x, y = -y, x
        return (torch.stack([-x if self.mirrored else x, y], dim=-1) + extent / 2).movedim(-1, 1)


TURNS = tuple(Turn(mirrored, quarters) for mirrored in (False, True) for quarters in range(4))


def check_turns(cfg: CfgNode) -> None:
    """Raise a sentence if ``TEST.AUG.ENABLED`` asks for turns of which the network has no notion.

    Args:
        cfg (CfgNode)
    """
    if cfg.TEST.AUG.ENABLED and cfg.MODEL.EMBEDDING_INSTANCE_SEG.COORDINATES:
        raise UserError(
            f"TEST.AUG.ENABLED is True, but {NODE}.COORDINATES shows the network where in the "
            "image a pixel is, which the padding of a turned image changes: set one of them to "
            "False."
        )


@torch.no_grad()
def augmented_maps(
    dense_maps: DenseMaps,
    images: Tensor,
    image_sizes: ImageSizes,
    *,
    position_unit: Optional[float],
) -> "dict[str, Tensor]":
    """The maps of a network for all turns of some images, each turned back, as those of one image.

    Of logits, seeds and logarithms of bandwidths it is the mean. So it is of places, the first two
    channels of a semi-convolutional embedding, which are turned back as points of the plane. All
    other channels of an embedding mean something else in each turn, but distances do not: these
    channels stand side by side, divided by the root of T, so that the squared distance of two
    pixels is the mean of their squared distances in the turns. The mean of these channels could
    bring two instances together.

    The padded image is turned as a whole, so that the cells of the grid fall on each other.

    Args:
        dense_maps: of a network, from padded images and their sizes to the maps of the head,
            ``embedding`` (B, E, h, w) among them.
        images (Tensor): (B, C, H, W) float, normalised and padded to what the network needs in both
            directions.
        image_sizes: height and width of each image without padding.
        position_unit (float or None): of :class:`~.head.EmbeddingHead`.

    Returns:
        dict[str, Tensor]: as of the network, ``embedding`` of (E - 2) T + 2 channels; of E T where
        it is not semi-convolutional.
    """
    extent = images.new_tensor(images.shape[:1:-1], dtype=torch.float32) / (position_unit or 1.0)
    turned_back: dict[str, list[Tensor]] = {}
    for turn in TURNS:
        maps = dense_maps(turn.there(images), turn.sizes(image_sizes))
        if position_unit is not None:
            maps = {**maps, "embedding": _located(maps["embedding"], turn, extent)}
        for name, x in maps.items():
            turned_back.setdefault(name, []).append(turn.back(x))
    return _in_one(turned_back, 0 if position_unit is None else 2)


def _located(embedding: Tensor, turn: Turn, extent: Tensor) -> Tensor:
    """An embedding of a turned image, whose places are those of the image, not turned."""
    return torch.cat([turn.points_back(embedding[:, :2], extent), embedding[:, 2:]], dim=1)


def _in_one(turned_back: Mapping[str, "list[Tensor]"], places: int) -> "dict[str, Tensor]":
    """The maps of all turns as one; ``places`` is how many channels of the embedding are such."""
    merged = {name: torch.stack(maps).mean(dim=0) for name, maps in turned_back.items()}
    beside = [x[:, places:] / len(TURNS) ** 0.5 for x in turned_back["embedding"]]
    merged["embedding"] = torch.cat([merged["embedding"][:, :places], *beside], dim=1)
    return merged
