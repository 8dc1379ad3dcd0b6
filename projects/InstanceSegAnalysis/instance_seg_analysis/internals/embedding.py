"""The insides of an embedding model: semantics, embedding, its clusters, and learned bandwidths.

All panels are on the grid that the network saw, to which the image is fitted.

Shape shorthand in this module:
    E: embedding channels   h, w: network input without padding   P: foreground pixels
    K: clusters   H', W': the picture   n: principal components
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from instance_seg_analysis.internals.pictures import SMALLEST_RANGE, heat_map
from instance_seg_common.visualization import drawing
from instance_seg_common.visualization.colors import instance_color, instance_colors
from instance_seg_common.visualization.drawing import CROWDED

# Drawn of the scattered pixels; more would only lie on top of each other.
MAX_POINTS = 6000
PLAIN = (150, 150, 150)
# The darkest value of a foreground pixel, well above that of the background.
DARKEST = 56
# A minor component may be mere noise: it is stretched no more than this against the largest.
MOST_STRETCH = 4.0


class PrincipalComponents(NamedTuple):
    """mean (E,) and axes (E, n) float64; share: of the variance that the axes hold, in [0, 1]."""

    mean: Tensor
    axes: Tensor
    share: float

    def project(self, points: Tensor) -> Tensor:
        """(P, E) float to (P, n) float64."""
        return (points.double() - self.mean) @ self.axes


def principal_components(points: Tensor, count: int) -> PrincipalComponents:
    """The directions along which points vary most.

    Args:
        points (Tensor): (P, E) float; P may be 0.
        count (int): n; with E < n the missing axes are 0.

    Returns:
        PrincipalComponents: by descending variance; the largest entry of an axis is positive, so
        that the same points give the same picture on every machine.
    """
    points = points.double()
    number = max(len(points), 1)
    mean = points.sum(dim=0) / number
    centred = points - mean
    variances, axes = torch.linalg.eigh(centred.T @ centred / number)
    variances, axes = variances.flip(0).clamp(min=0), axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    axes = (axes * largest.sign())[:, :count]
    total = float(variances.sum())
    share = float(variances[:count].sum()) / total if total > 0 else 1.0
    return PrincipalComponents(mean, F.pad(axes, (0, count - axes.shape[1])), share)


def pca_to_rgb(embedding: Tensor, foreground_mask: Tensor) -> np.ndarray:
    """The first three principal components of the foreground's embedding as red, green and blue.

    All components have one scale, except that a minor one is stretched up to fourfold.

    Args:
        embedding (Tensor): (E, h, w) float.
        foreground_mask (Tensor): (h, w) bool.

    Returns:
        ndarray: (h, w, 3) uint8; the background is dark, a constant embedding grey.
    """
    mask = foreground_mask.cpu().numpy()
    rgb = np.tile(np.array(drawing.BACKGROUND, dtype=np.uint8), (*mask.shape, 1))
    if not mask.any():
        return rgb
    points = embedding[:, foreground_mask].T.cpu()
    scores = principal_components(points, 3).project(points).numpy()
    low, high = np.percentile(scores, (1, 99), axis=0)
    span = high - low
    span = np.maximum(span, max(span.max() / MOST_STRETCH, SMALLEST_RANGE))
    unit = np.clip((scores - (low + high) / 2) / span + 0.5, 0, 1)
    rgb[mask] = np.rint(DARKEST + (255 - DARKEST) * unit).astype(np.uint8)
    return rgb


def semantic_to_rgb(semantic: Tensor, foreground: Tensor, foreground_mask: Tensor) -> np.ndarray:
    """Classes in their colours, as bright as the network is sure of the foreground.

    Args:
        semantic (Tensor): (h, w) int64, 0-based class.
        foreground (Tensor): (h, w) float, probability of not background.
        foreground_mask (Tensor): (h, w) bool; outside it no class has won, and grey stands for all.

    Returns:
        ndarray: (h, w, 3) uint8.
    """
    mask = foreground_mask.cpu().numpy()
    classes = np.where(mask, semantic.cpu().numpy(), -1)
    table = instance_colors(int(classes.max(initial=0)) + 1).astype(np.float64)
    table[0] = PLAIN
    weight = foreground.float().cpu().numpy()[..., None]
    mixed = np.array(drawing.BACKGROUND) * (1 - weight) + table[classes + 1] * weight
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def scatter(
    points: np.ndarray, labels: np.ndarray, centers: np.ndarray, *, size: "tuple[int, int]"
) -> np.ndarray:
    """Pixels of the foreground in the plane of their first two components, and the centres.

    Both axes have one scale, so that distances can be compared.

    Args:
        points (ndarray): (P, 2) float; of more than ``MAX_POINTS`` some are drawn, always the same.
        labels (ndarray): (P,) int64 in 0..K; 0, left over, is grey.
        centers (ndarray): (K, 2) float.
        size (tuple[int, int]): (H', W') of the picture.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    picture = np.tile(np.array(drawing.BACKGROUND, dtype=np.uint8), (*size, 1))
    chosen = np.random.default_rng(0).permutation(len(points))[:MAX_POINTS]
    shown = np.concatenate([points[chosen], centers])
    if not len(shown):
        return picture
    radius = 3 if len(centers) > CROWDED else 5
    places = _fit(shown, size, margin=radius + 4)
    colors = instance_colors(max(len(centers), int(labels.max(initial=0))))
    colors[0] = PLAIN
    rows, columns = places[: len(chosen)].T
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        picture[rows + down, columns + right] = colors[labels[chosen]]
    return _draw_discs(picture, places[len(chosen) :], colors[1:], radius=radius)


def _fit(points: np.ndarray, size: "tuple[int, int]", margin: int) -> np.ndarray:
    """(P, 2) coordinates, x to the right and y up, as (P, 2) rows and columns of a picture."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.maximum(np.array([size[1], size[0]]) - 2 * margin - 1, 1)
    zoom = (room / np.maximum(high - low, SMALLEST_RANGE)).min()
    offset = (points - (low + high) / 2) * zoom
    x, y = offset[:, 0] + size[1] / 2, size[0] / 2 - offset[:, 1]
    return np.stack([y, x], axis=1).round().astype(np.int64).clip(0, np.array(size) - 2)


def _draw_discs(
    picture: np.ndarray, places: np.ndarray, colors: np.ndarray, *, radius: int
) -> np.ndarray:
    """Discs with a white rim at (K, 2) rows and columns."""
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for (row, column), color in zip(places.tolist(), colors.tolist()):
        corners = [column - radius, row - radius, column + radius, row + radius]
        draw.ellipse(corners, fill=tuple(color), outline=(255, 255, 255))
    return np.asarray(canvas)


def draw_embedding(
    image: np.ndarray,
    internals: Mapping[str, Tensor],
    dataset_dict: Optional[Mapping[str, Any]] = None,
    *,
    name: str = "",
) -> np.ndarray:
    """Semantics | embedding | its plane | clusters, and seeds | bandwidths where there are any.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB; fitted to the network input.
        internals (dict[str, Tensor]): ``embedding`` (E, h, w), ``semantic`` (h, w) int64,
            ``foreground`` (h, w) probability, ``foreground_mask`` (h, w) bool, where a class has
            won over the background, ``clusters`` (h, w) int64 in 0..K, ``centers`` (K, E);
            optional ``seeds`` (h, w) in [0, 1] and ``bandwidth`` (h, w).
        dataset_dict (dict or None): not needed.
        name (str): for the header.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    parts = {key: value.detach().cpu() for key, value in internals.items()}
    mask = parts["foreground_mask"]
    scale = drawing.display_scale(*mask.shape)
    semantic = semantic_to_rgb(parts["semantic"], parts["foreground"], mask)
    panels = [
        (f"semantics: {float(mask.float().mean()):.0%} foreground", semantic),
        (_embedding_title(parts["embedding"], mask), pca_to_rgb(parts["embedding"], mask)),
        *_learned_panels(parts, mask),
    ]
    panels = [(title, drawing.resize_image(panel, scale)) for title, panel in panels]
    panels[2:2] = [_plane_panel(parts, mask, scale), _clusters_panel(image, parts, scale)]
    legend = _class_legend(parts["semantic"][mask]) + [("in no cluster", PLAIN)]
    return drawing.side_by_side(panels, f"{name}   inside EmbeddingInstanceSeg", legend)


def _embedding_title(embedding: Tensor, mask: Tensor) -> str:
    channels = len(embedding)
    if not mask.any():
        return f"embedding: {channels} channels, no foreground"
    share = principal_components(embedding[:, mask].T, 3).share
    shown = min(3, channels)
    return f"embedding: {shown} components of {channels} channels, {share:.0%} of the variance"


def _plane_panel(
    parts: Mapping[str, Tensor], mask: Tensor, scale: float
) -> "tuple[str, np.ndarray]":
    points = parts["embedding"][:, mask].T
    components = principal_components(points, 2)
    centers = components.project(parts["centers"]).numpy()
    size = drawing.resize_labels(parts["clusters"].numpy(), scale).shape
    labels = parts["clusters"][mask].numpy()
    picture = scatter(components.project(points).numpy(), labels, centers, size=size)
    return f"pixels along 2 components, {components.share:.0%} of the variance", picture


def _clusters_panel(
    image: np.ndarray, parts: Mapping[str, Tensor], scale: float
) -> "tuple[str, np.ndarray]":
    labels = drawing.resize_labels(parts["clusters"].numpy(), scale)
    bright, changed = drawing.brighten(image)
    size = labels.shape[::-1]
    canvas = np.asarray(Image.fromarray(bright).resize(size, Image.BICUBIC))
    count = len(parts["centers"])
    colors = instance_colors(max(count, int(labels.max(initial=0))))
    thickness = 1 if count > CROWDED else 2
    picture = drawing.overlay_labels(canvas, labels, colors, alpha=0.35, thickness=thickness)
    return f"clusters: {count}" + (" (shown brighter than it is)" if changed else ""), picture


def _learned_panels(parts: Mapping[str, Tensor], mask: Tensor) -> "list[tuple[str, np.ndarray]]":
    """Seeds and bandwidths as panels at network size; none for a model with a fixed bandwidth."""
    panels = []
    if "seeds" in parts:
        panels.append(("seeds: 0 dark, 1 bright", heat_map(parts["seeds"], 0, 1)))
    if "bandwidth" in parts:
        inside = parts["bandwidth"][mask]
        low, high = (float(inside.min()), float(inside.max())) if len(inside) else (0.0, 1.0)
        picture = heat_map(parts["bandwidth"], low, high)
        picture[~mask.numpy()] = drawing.BACKGROUND
        panels.append((f"bandwidth: {low:.3g} dark, {high:.3g} bright", picture))
    return panels


def _class_legend(classes: Tensor) -> "list[tuple[str, tuple[int, int, int]]]":
    """The classes present, named where there is more than one."""
    present = classes.unique().tolist()
    return [(f"class {c}", instance_color(c + 1)) for c in present] if len(present) > 1 else []
