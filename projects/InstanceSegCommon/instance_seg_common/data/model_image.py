"""The image of a record as a model takes it: channels, their order, their range of values.

Shape shorthand in this module:
    H, W: an image   C: its channels, as many as ``MODEL.PIXEL_MEAN`` has values
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.utils.logger import log_first_n
from PIL import Image

from ..errors import UserError
from ..meta_arch import check_pixel_std
from .images import image_header, read_pixels
from .normalization import PERCENTILE, check_normalization, limits_of, stretched_between
from .reading import reading_of

# ITU-R BT.601 weights of R, G and B, which Pillow has, too.
_LUMA = (0.299, 0.587, 0.114)


class ModelImage:
    """An image as a model takes it, cut by cut: only what is asked for is brought to its form.

    An image of three channels is one of colours, R, G and B, whichever of a file's channels they
    are: ``INPUT.FORMAT`` is their order in the model. One channel is repeated for a model of three.

    Attributes:
        pixels: (H, W, channels) as they were read, colours in the order RGB.
    """

    def __init__(self, cfg: CfgNode, pixels: np.ndarray, name: str = "The image given") -> None:
        """
        Args:
            cfg: ``INPUT``, ``MODEL.PIXEL_MEAN``.
            pixels: (H, W, channels) of any integer or float dtype, finite.
            name: for sentences.

        Raises:
            UserError: another number of channels than the model's, or keys that do not fit.
        """
        check_input(cfg)
        self._cfg, self.pixels = cfg, pixels
        self._count, self._order = len(cfg.MODEL.PIXEL_MEAN), cfg.INPUT.FORMAT
        self._is_grey = self._order == "L" and self._count in (1, 3)
        channels = 1 if self._is_grey and pixels.shape[2] == 3 else pixels.shape[2]
        if channels != self._count and (channels, self._count) != (1, 3):
            raise UserError(_misfit(channels, self._count, name))
        self._limits: Optional[list[tuple[float, float]]] = None
        if cfg.INPUT.NORMALIZATION == PERCENTILE:
            whole = grey(pixels) if self._is_grey else pixels
            self._limits = limits_of(whole, cfg.INPUT.PERCENTILES)
        elif pixels.dtype != np.uint8:
            _warn_of_values(cfg, pixels, name)

    @property
    def size(self) -> "tuple[int, int]":
        """H, W."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def cut(self, part: "tuple[slice, slice]" = (slice(None), slice(None))) -> np.ndarray:
        """A part of the image, or all of it.

        Args:
            part: rows and columns.

        Returns:
            (h, w, C): with ``INPUT.NORMALIZATION: fixed`` the values as they are (uint8 if they
            were uint8, else float32); with ``percentile`` float32, by the percentiles of the whole
            image, see :func:`normalization.limits_of`.
        """
        pixels = self.pixels[part]
        pixels = grey(pixels) if self._is_grey else pixels
        if self._limits is not None:
            pixels = stretched_between(pixels, self._limits)
        elif pixels.dtype != np.uint8:
            pixels = pixels.astype(np.float32)
        if pixels.shape[2] < self._count:
            pixels = np.repeat(pixels, self._count, axis=2)
        return _in_order(pixels, self._order) if self._count == 3 and self._order != "L" else pixels


def open_model_image(cfg: CfgNode, record: Mapping[str, Any]) -> ModelImage:
    """Read the image of a record for the model of a config, before any augmentation.

    What a file declares as alpha is left out for a model that has no channel for it.

    Args:
        cfg: of the run: ``INPUT``, ``MODEL.PIXEL_MEAN``.
        record (dict): of a data set, with ``file_name``; how its data set is read wins over
            ``INPUT.CHANNELS``.

    Raises:
        UserError: another number of channels, or keys that do not fit; for a file that cannot be
            read see :func:`images.read_pixels`.
    """
    check_input(cfg)
    reading, path = reading_of(record), record["file_name"]
    if not reading.channels:
        reading = replace(reading, channels=tuple(cfg.INPUT.CHANNELS))
    pixels = read_pixels(path, reading)
    # Whoever names channels wants them all.
    if not reading.channels and pixels.shape[2] != len(cfg.MODEL.PIXEL_MEAN):
        alpha = image_header(path, reading).alpha
        pixels = pixels if alpha is None else np.delete(pixels, alpha, axis=2)
    return ModelImage(cfg, pixels, f"The image {path}")


def given_model_image(cfg: CfgNode, pixels: np.ndarray) -> ModelImage:
    """As :func:`open_model_image`, of pixels that the caller has read.

    Args:
        cfg: see there.
        pixels: (H, W) or (H, W, channels) of any integer or float dtype, colours in the order RGB.

    Raises:
        UserError: see there; or an array that is no image, values that are not finite.
    """
    check_input(cfg)
    name = "The image given"
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.dtype.kind not in "uif" or not pixels.size:
        raise UserError(
            f"{name} has shape {pixels.shape} and type {pixels.dtype}; give (height, width, "
            "channels) of integers or floats."
        )
    chosen = list(cfg.INPUT.CHANNELS)
    if chosen and not all(0 <= index < pixels.shape[2] for index in chosen):
        raise UserError(
            f"{name} has {pixels.shape[2]} channels, counted from 0, but INPUT.CHANNELS is "
            f"{chosen}."
        )
    if pixels.dtype.kind == "f":
        _check_finite(pixels, name)
    return ModelImage(cfg, pixels[:, :, chosen] if chosen else pixels, name)


def check_input(cfg: CfgNode) -> None:
    """Raise a UserError unless ``INPUT`` and ``MODEL.PIXEL_*`` fit together."""
    check_pixel_std(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    check_normalization(cfg)
    if any(not isinstance(index, int) or index < 0 for index in cfg.INPUT.CHANNELS):
        raise UserError(
            f"INPUT.CHANNELS is {cfg.INPUT.CHANNELS}: list channels of the files, counted from 0, "
            "or [] for all."
        )


def grey(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) to (H, W, 1) luma, of 8 bits as Pillow rounds it; other channels as they are."""
    if pixels.shape[2] != 3:
        return pixels
    if pixels.dtype == np.uint8:
        return convert_PIL_to_numpy(Image.fromarray(pixels), "L")
    return (pixels @ np.array(_LUMA))[:, :, None]


def _check_finite(pixels, name):
    bad = ~np.isfinite(pixels).all(axis=2)
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        raise UserError(
            f"{name} has {int(bad.sum())} pixels that are NaN or infinite, the first in row {row}, "
            f"column {column}. Write a number there, such as that of the background."
        )


def _misfit(found, count, name):
    ways = [f"give MODEL.PIXEL_MEAN and PIXEL_STD {found} values and train a model of them"]
    if found > count:
        ways.append("name the channels to take in INPUT.CHANNELS (or channels of the data set)")
    if found == 3 and count == 1:
        ways.append('write INPUT.FORMAT: "L" for the grey level of colours')
    return (
        f"{name} has {found} channel{'s' if found > 1 else ''}, but the model takes {count}, as "
        f"many as MODEL.PIXEL_MEAN has values. What you can do: {'; or '.join(ways)}."
    )


def _warn_of_values(cfg: CfgNode, pixels: np.ndarray, name: str) -> None:
    log_first_n(
        logging.WARNING,
        f"{name} has values of {pixels.dtype}, here {pixels.min():g} to {pixels.max():g}, which "
        "reach the model as they are (INPUT.NORMALIZATION fixed): MODEL.PIXEL_MEAN "
        f"{list(cfg.MODEL.PIXEL_MEAN)} and PIXEL_STD {list(cfg.MODEL.PIXEL_STD)} must be in their "
        "unit. INPUT.NORMALIZATION percentile brings every image to 0 to 255. Said once.",
    )


def _in_order(pixels, order):
    """(H, W, 3) RGB in the order of ``INPUT.FORMAT``, of 8 bits as Detectron2's ``read_image``."""
    if order in ("RGB", "BGR"):
        return pixels if order == "RGB" else pixels[:, :, ::-1]
    try:
        return convert_PIL_to_numpy(Image.fromarray(pixels), order)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"INPUT.FORMAT is {order!r}; use RGB, BGR or L. Other formats of Pillow are for "
            "colours of 8 bits with INPUT.NORMALIZATION fixed."
        ) from error
