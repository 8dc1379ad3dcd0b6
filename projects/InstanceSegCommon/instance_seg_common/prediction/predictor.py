"""From a name of a model to a function that predicts images."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from detectron2.config import CfgNode
from torch import nn

from ..data.mapper import errors_in_sentences
from ..data.model_image import ModelImage, given_model_image, open_model_image
from ..data.pixel_limit import set_pixel_limit
from ..data.pixel_size import pixel_size_of
from ..engine.chosen_images import Classes, classes_of
from ..engine.limits import LimitCounter
from ..engine.predictor import build_predictor
from ..engine.setup import load_model_cfg
from ..errors import UserError
from ..export import Export, cached_export, is_export
from ..tiling.stitching import Part
from ..tiling.tiled_model import parts_of_tiles, stitched, tiles_of, with_tiles
from ..tiling.tiles import Tile
from .objects import without_overlaps
from .result import Result

Image = Union[np.ndarray, str, Path, Mapping[str, Any]]
Progress = Callable[[Sequence[Tile]], Iterator[Tile]]


def load_predictor(
    model: str, opts: Sequence[str] = (), *, backend: Optional[str] = None
) -> "Predictor":
    """A trained model, ready to predict.

    Args:
        model: a config, ``CONFIG:WEIGHTS``, a published name such as
            ``weights/embedding_R18_dsb2018`` (see ``engine.setup.parse_model``), or the JSON file
            of an export.
        opts: keys and values in turn, such as ``["TEST.TILE_SIZE", "512"]``.
        backend: of ``export.formats.BACKENDS``, which runs the network; None: torch, or what runs
            the export. A model that is no export is exported into the cache at its first use.

    Raises:
        UserError: no such model, weights that do not fit, or a backend that cannot run it.
    """
    if is_export(model):
        return _exported(Export(model), opts, backend)
    if backend in (None, "torch"):
        cfg = load_model_cfg(model, opts)
        return Predictor(cfg, build_predictor(cfg))
    cfg = load_model_cfg(model, [*opts, "MODEL.DEVICE", "cpu"])
    return Predictor(cfg, cached_export(cfg, backend).build(cfg))


def _exported(export: Export, opts: Sequence[str], backend: Optional[str]) -> "Predictor":
    if backend not in (None, export.backend):
        raise UserError(
            f"{export.path} is run by {export.backend}, not by {backend}: leave --backend out, or "
            "name the model that was exported."
        )
    cfg = export.cfg(opts)
    return Predictor(cfg, export.build(cfg), classes=export.classes)


class Predictor:
    """Predicts images of any size, depth and number of objects; the large ones in tiles.

    Attributes:
        cfg: ``TEST.TILE_SIZE``, ``LABEL_MAP_SCORE_THRESHOLD`` and all that the model needs.
        model: in evaluation mode.
        classes: if not given, those of the data set of the config.
    """

    def __init__(
        self, cfg: CfgNode, model: nn.Module, *, classes: Optional[Classes] = None
    ) -> None:
        with_tiles(cfg, model)  # tiles that cannot be are said before the first image
        self.cfg, self.model = cfg, model
        self.classes = classes_of(cfg) if classes is None else classes

    def __call__(
        self, image: "Union[Image, Sequence[Image]]", *, pixel_size: Optional[float] = None
    ) -> "Union[Result, list[Result]]":
        """Predict an image, or each of a list.

        Args:
            image: pixels (H, W) or (H, W, channels) of any integer or float dtype, colours in the
                order RGB; a path of a file; a record (dict) of a data set; or a list of these.
            pixel_size: side of a pixel in micrometres; None: as the file says, if it does.

        Returns:
            Result, of a list a list of them.

        Raises:
            UserError: the image cannot be used.
        """
        if isinstance(image, (np.ndarray, str, Path, Mapping)):
            return self.predict(image, pixel_size=pixel_size)
        return [self.predict(one, pixel_size=pixel_size) for one in image]

    def predict(
        self, image: Image, *, pixel_size: Optional[float] = None, progress: Progress = iter
    ) -> Result:
        """Predict one image.

        Args:
            image, pixel_size: see :meth:`__call__`.
            progress: wraps the tiles.
        """
        opened = open_image(self.cfg, image, pixel_size=pixel_size)
        seen = self.look(opened, progress(tiles_of(self.cfg, opened.image.size)))
        return put_together(self.cfg, opened, seen, classes=self.classes)

    def look(self, opened: "OpenedImage", tiles: "Iterable[Tile]") -> "Seen":
        """Predict some tiles of an image.

        Args:
            opened: of :func:`open_image`.
            tiles: some of those of ``tiling.tiled_model.tiles_of``, in their order.
        """
        # Hooks tell of limits of Detectron2's own models.
        with LimitCounter(self.cfg, self.model) as counter, counter.image():
            parts = list(
                parts_of_tiles(
                    self.cfg, self.model, opened.image.cut, tiles=tiles, name=opened.name
                )
            )
        return Seen(parts, tuple((limit.key, limit.value) for limit in counter.reached()))


class OpenedImage(NamedTuple):
    """image: as a model takes it; name: for sentences; pixel_size: side of a pixel in micrometres,
    None where it is not known."""

    image: ModelImage
    name: str
    pixel_size: Optional[float]


class Seen(NamedTuple):
    """parts: of some tiles of an image, tile by tile; limits: that cut something off there, keys of
    the config with their values."""

    parts: "list[list[Part]]"
    limits: "tuple[tuple[str, int], ...]"


def open_image(cfg: CfgNode, image: Image, *, pixel_size: Optional[float] = None) -> OpenedImage:
    """Read an image for a model.

    Args:
        cfg: of the model.
        image, pixel_size: of :meth:`Predictor.__call__`.

    Raises:
        UserError: the image cannot be used.
    """
    set_pixel_limit(cfg.INPUT.MAX_PIXELS)
    if isinstance(image, np.ndarray):
        return OpenedImage(given_model_image(cfg, image), "the image", pixel_size)
    record = image if isinstance(image, Mapping) else {"file_name": str(image)}
    with errors_in_sentences(record):
        path = record["file_name"]
        said = pixel_size_of(path) if pixel_size is None else pixel_size
        return OpenedImage(open_model_image(cfg, record), path, said)


def put_together(cfg: CfgNode, opened: OpenedImage, seen: Seen, *, classes: Classes) -> Result:
    """The objects of an image from what all its tiles see.

    Args:
        cfg: of the model.
        opened: of :func:`open_image`.
        seen: of all tiles, in their order.
        classes: of the model.
    """
    size = opened.image.size
    objects = stitched(tiles_of(cfg, size), seen.parts)
    found = tuple(sorted(objects, key=lambda one: -one.score))
    visible = without_overlaps(
        found, size,
        score_threshold=cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
        min_area=cfg.TEST.LABEL_MAP_MIN_AREA,
    )  # fmt: skip
    return Result(
        pixels=opened.image.pixels,
        objects=tuple(visible),
        found=found,
        class_names=classes.names,
        category_ids=classes.category_ids,
        pixel_size=opened.pixel_size,
        limits=seen.limits,
        tiles=len(seen.parts),
    )
