"""Any model on images of any size: the large ones go through it in tiles of ``TEST.TILE_SIZE``.

Shape shorthand in this module:
    N: instances   H, W: an image   h, w: a tile   C: channels
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ..data.mapper import (
    build_test_augmentations,
    build_tile_augmentations,
    largest_whole,
    pixels_input,
)
from ..errors import UserError
from ..masks import CutMasks, is_dense
from .stitching import Part, Piece, StitchedObject, Stitcher
from .tiles import Box, Tile, check_tile_size, tile_grid

Item = Mapping[str, Any]
CutPixels = Callable[["tuple[slice, slice]"], np.ndarray]  # (h, w, C) of rows and columns


def uses_tiles(cfg: CfgNode) -> bool:
    """Whether ``TEST.TILE_SIZE`` is above 0; a config of stock Detectron2 has no such key."""
    return cfg.TEST.get("TILE_SIZE", 0) > 0


def needs_tiles(cfg: CfgNode, size: "Sequence[int]") -> bool:
    """Whether an image (height, width) is predicted in tiles: see ``mapper.largest_whole``."""
    return uses_tiles(cfg) and max(size) > largest_whole(cfg)


def tiles_of(cfg: CfgNode, size: "tuple[int, int]") -> "list[Tile]":
    """The tiles of an image by ``TEST.TILE_SIZE`` and ``TILE_OVERLAP``; one if it needs no more.

    Args:
        cfg: of the model.
        size: height and width of the image.

    Raises:
        UserError: see :func:`tiles.tile_grid`.
    """
    if needs_tiles(cfg, size):
        return tile_grid(size, cfg.TEST.TILE_SIZE, cfg.TEST.TILE_OVERLAP)
    whole = Box(0, 0, *size)
    return [Tile(0, whole, whole)]


def stitched(
    tiles: "Sequence[Tile]", parts: "Iterable[Iterable[Part]]"
) -> "Iterator[StitchedObject]":
    """The objects of an image.

    Args:
        tiles: of :func:`tiles_of`.
        parts: of each tile, in their order.
    """
    stitcher = Stitcher(tiles)
    for seen in parts:
        stitcher.add(seen)
    return stitcher.objects()


@torch.no_grad()
def parts_of_tiles(
    cfg: CfgNode,
    model: nn.Module,
    cut: CutPixels,
    *,
    tiles: "Iterable[Tile]",
    name: str = "the image",
) -> "Iterator[list[Part]]":
    """Predict some tiles of an image.

    A tile is an image of its own to the model, limited to ``TEST.DETECTIONS_PER_IMAGE`` objects
    where that is not -1. All tiles of a config are resized by one factor, ``INPUT.MIN_SIZE_TEST``
    by ``TEST.TILE_SIZE``.

    Args:
        cfg: of the model.
        model: in evaluation mode.
        cut: gives the pixels of a window in the model's form, see ``data.model_image``.
        tiles: some of those of :func:`tiles_of`.
        name: of the image, for sentences.

    Returns:
        Of each tile what it sees.

    Raises:
        UserError: the model predicts no masks.
    """
    augmentations = _Augmentations(cfg)
    for tile in tiles:
        item = pixels_input(cut(tile.window.slices), augmentations.of(tile))
        instances = model([item])[0]["instances"].to("cpu")
        require_masks(instances, name, cfg.MODEL.META_ARCHITECTURE)
        yield list(_parts(instances, tile.window))


class _Augmentations:
    """The transforms of tiles, made once for each size."""

    def __init__(self, cfg: CfgNode) -> None:
        self._cfg = cfg
        self._made: dict[int, list[Any]] = {}

    def of(self, tile: Tile) -> "list[Any]":
        """Those of a tile; of one that is a whole image those of an image."""
        side = 0 if tile.window == tile.core else min(tile.window.shape)
        if side not in self._made:
            self._made[side] = (
                build_tile_augmentations(self._cfg, side)
                if side
                else build_test_augmentations(self._cfg)
            )
        return self._made[side]


def require_masks(instances: Instances, name: str, architecture: str) -> None:
    """Raise a sentence unless a prediction has masks.

    Args:
        instances: of a model.
        name: of the image.
        architecture: of the model.
    """
    if not instances.has("pred_masks"):
        raise UserError(
            f"The model {architecture} predicts no masks for {name}. Set MODEL.MASK_ON True, with "
            "weights trained so."
        )


def _parts(instances: Instances, window: Box) -> "Iterator[Part]":
    """What a tile's prediction adds, in coordinates of the image."""
    scores, classes = instances.scores.tolist(), instances.pred_classes.tolist()
    masks = CutMasks.of(instances.pred_masks).windows()
    for (box, pixels), score, label in zip(masks, scores, classes):
        x0, y0, x1, y1 = box.tolist()
        place = Box(y0, x0, y1, x1).moved(window.top, window.left)
        yield Part(Piece(place, pixels), score, int(label))


def instances_of(objects: "Sequence[StitchedObject]", size: "tuple[int, int]") -> Instances:
    """Stitched objects as Detectron2's Instances, the best score first.

    Args:
        objects: of an image.
        size: its height and width.

    Returns:
        ``pred_masks`` (N, H, W) bool, :class:`CutMasks` where a tensor would be too large;
        ``pred_boxes``, ``scores``, ``pred_classes``.
    """
    ordered = sorted(objects, key=lambda one: -one.score)
    windows = []
    for one in ordered:
        box, mask = one.cropped()
        windows.append((np.array([box.left, box.top, box.right, box.bottom]), mask))
    masks = CutMasks.from_windows(windows, size)
    result = Instances(size)
    result.pred_masks = masks.tensor if is_dense(len(masks), size) else masks
    result.pred_boxes = Boxes(torch.from_numpy(masks.boxes.astype(np.float32)))
    result.scores = torch.tensor([one.score for one in ordered], dtype=torch.float32)
    result.pred_classes = torch.tensor([one.label for one in ordered], dtype=torch.int64)
    return result


class TiledModel(nn.Module):
    """A model to which images of any size can be given, as they come from a tiled test mapper.

    Args:
        cfg: ``TEST.TILE_SIZE``, ``TILE_OVERLAP``, and the sizes at test time.
        model: its parameters and buffers are shared.
    """

    takes_any_size = True

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        super().__init__()
        check_tile_size(cfg.TEST.TILE_SIZE, cfg.TEST.TILE_OVERLAP)
        self.cfg, self.model = cfg, model
        self.training = model.training

    def forward(self, batched_inputs: "Sequence[Item]") -> "list[dict[str, Instances]]":
        """Detectron2's contract for inference: see ``GeneralizedRCNN``.

        Args:
            batched_inputs (list[dict]): ``image`` (C, h, w), ``height`` and ``width``; where these
                are larger than a tile, ``image`` has that size, too.
        """
        return [self._predict(item) for item in batched_inputs]

    def _predict(self, item: Item) -> "dict[str, Instances]":
        size = item["height"], item["width"]
        if not needs_tiles(self.cfg, size):
            return self.model([item])[0]
        tiles, name = tiles_of(self.cfg, size), item.get("file_name", "the image")
        cut = _cut_of(item["image"])
        objects = stitched(tiles, parts_of_tiles(self.cfg, self.model, cut, tiles=tiles, name=name))
        return {"instances": instances_of(list(objects), size)}


def _cut_of(image: Tensor) -> CutPixels:
    """What cuts windows (h, w, C) out of a tensor (C, H, W)."""
    return lambda window: np.moveaxis(image[(slice(None), *window)].cpu().numpy(), 0, 2)


def with_tiles(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """The model, which predicts large images in tiles unless ``TEST.TILE_SIZE`` is 0.

    Args:
        cfg: of the model.
        model: in evaluation mode, or about to be brought there; one that has the attribute
            ``takes_any_size`` is returned as it is.
    """
    tiled = getattr(model, "takes_any_size", False) or not uses_tiles(cfg)
    return model if tiled else TiledModel(cfg, model)
