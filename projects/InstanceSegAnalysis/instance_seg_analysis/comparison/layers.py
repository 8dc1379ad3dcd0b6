"""Pictures of the page: transparent ones that the browser lays over an image.

Shape shorthand in this module:
    H, W: image   h, w: the size at which it is stored   K: largest id
"""

import base64
import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from instance_seg_common.evaluation.image_report import ImageReport
from instance_seg_common.visualization import drawing
from instance_seg_common.visualization.errors_overlay import errors_overlay

# The longer side of a stored image in pixels: larger ones shrink, small ones grow.
SIDES = (256, 480)
TINT = 0.4


class Layer(NamedTuple):
    """uri: a picture as a data URI; alt: what it shows, in words."""

    uri: str
    alt: str


def data_uri(data: bytes, kind: str) -> str:
    """Bytes of a file as a data URI of a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def webp(array: np.ndarray, **options: Any) -> str:
    """(h, w, 3 or 4) uint8 as a data URI of a WebP picture."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="WEBP", **options)
    return data_uri(buffer.getvalue(), "image/webp")


def stored_scale(height: int, width: int) -> float:
    """Factor from an image to its size on the page; small ones grow by a whole number."""
    side, (least, most) = max(height, width), SIDES
    return most / side if side > most else max(1, round(least / side))


def instance_layer(labels: np.ndarray, colors: np.ndarray, scale: float) -> np.ndarray:
    """Instances as a transparent picture: tinted, with an opaque outline.

    Args:
        labels (ndarray): (H, W) int, 0 is background.
        colors (ndarray): (K + 1, 3) uint8.
        scale (float): of :func:`stored_scale`.

    Returns:
        ndarray: (h, w, 4) uint8 RGBA.
    """
    large = drawing.resize_labels(labels, scale)
    thickness = drawing.contour_thickness(labels)
    alpha = np.where(large > 0, round(255 * TINT), 0)
    alpha[drawing.boundaries(large, thickness)] = 255
    return np.dstack([colors[large], alpha.astype(np.uint8)])


def error_layer(report: ImageReport, scale: float) -> np.ndarray:
    """Errors in the colours of ``ERROR_COLORS`` as a transparent picture.

    Drawn on black and on white by the drawer of the other pictures: where the two agree it is
    opaque, where they differ most it is not there.

    Args:
        report (ImageReport): of one image.
        scale (float): of :func:`stored_scale`.

    Returns:
        ndarray: (h, w, 4) uint8 RGBA.
    """
    truth, predicted = report.truth.labels, report.evaluated.labels
    size = drawing.resize_labels(truth, scale).shape
    black, white = (
        errors_overlay(
            np.full((*size, 3), grey, np.uint8), truth, predicted, errors=report.errors
        ).astype(float)
        for grey in (0, 255)
    )
    span = max(float((white - black).max()), 1.0)
    alpha = 1 - (white - black).mean(axis=2) / span
    color = black / np.maximum(alpha, 1e-3)[..., None]
    return np.dstack([color.clip(0, 255), 255 * alpha]).round().astype(np.uint8)
