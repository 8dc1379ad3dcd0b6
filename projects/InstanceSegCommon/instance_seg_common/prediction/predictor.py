"""From a name of a model to a function that predicts images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from detectron2.config import CfgNode
from torch import nn

from ..data.mapper import errors_in_sentences
from ..data.model_image import ModelImage, given_model_image, open_model_image
from ..data.pixel_limit import set_pixel_limit
from ..data.pixel_size import pixel_size_of
from ..engine.chosen_images import class_names_of
from ..engine.limits import LimitCounter
from ..engine.predictor import build_predictor
from ..engine.setup import load_model_cfg
from ..errors import UserError
from ..export import Export, cached_export, is_export
from ..tiling.tiled_model import stitched_objects, tiles_of
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
    return Predictor(cfg, export.build(cfg), class_names=export.class_names)


class Predictor:
    """Predicts images of any size, depth and number of objects; the large ones in tiles.

    Attributes:
        cfg: ``TEST.TILE_SIZE``, ``LABEL_MAP_SCORE_THRESHOLD`` and all that the model needs.
        model: in evaluation mode.
        class_names: by class; if not given, those of the config's data set, and () where that is
            not known here.
    """

    def __init__(
        self, cfg: CfgNode, model: nn.Module, *, class_names: "Optional[tuple[str, ...]]" = None
    ) -> None:
        self.cfg, self.model = cfg, model
        self.class_names = class_names_of(cfg) if class_names is None else class_names

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
        opened, name, said = self._open(image)
        tiles = tiles_of(self.cfg, opened.size)
        # Hooks tell of limits of Detectron2's own models.
        with LimitCounter(self.cfg, self.model) as counter, counter.image():
            found = stitched_objects(
                self.cfg, self.model, opened.cut, tiles, name=name, progress=progress
            )
        objects = tuple(sorted(found, key=lambda one: -one.score))
        visible = without_overlaps(
            objects, opened.size,
            score_threshold=self.cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
            min_area=self.cfg.TEST.LABEL_MAP_MIN_AREA,
        )  # fmt: skip
        return Result(
            pixels=opened.pixels,
            objects=tuple(visible),
            found=objects,
            class_names=self.class_names,
            pixel_size=said if pixel_size is None else pixel_size,
            limits=tuple((limit.key, limit.value) for limit in counter.reached()),
            tiles=len(tiles),
        )

    def _open(self, image: Image) -> "tuple[ModelImage, str, Optional[float]]":
        """The image, its name for sentences, and the size of its pixels if its file says that."""
        set_pixel_limit(self.cfg.INPUT.MAX_PIXELS)
        if isinstance(image, np.ndarray):
            return given_model_image(self.cfg, image), "the image", None
        record = image if isinstance(image, Mapping) else {"file_name": str(image)}
        with errors_in_sentences(record):
            path = record["file_name"]
            return open_model_image(self.cfg, record), path, pixel_size_of(path)
