"""Inputs of the benchmark: images, label maps, masks and embeddings of a known content.

Shape shorthand in this module:
    H, W: an image   P: pixels   E: embedding channels   K: instances   T: steps
"""

from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances
from scipy.ndimage import gaussian_filter
from torch import Tensor

from instance_seg_common.data.synthetic import render, resolve_parameters


def leaf_like_maps(
    height: int = 530,
    width: int = 500,
    count: int = 20,
    *,
    seed: int = 0,
    radius: tuple[float, float] = (0.3, 0.5),
) -> tuple[np.ndarray, np.ndarray]:
    """Two label maps of overlapping discs, the second one moved a little.

    Args:
        height, width (int): pixels.
        count (int): discs, in rows of five.
        seed (int)
        radius (tuple[float, float]): smallest and largest, as a fraction of their spacing.

    Returns:
        tuple[ndarray, ndarray]: (height, width) int64, ids 0..count, all present.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    gt, pred = np.zeros((2, height, width), dtype=np.int64)
    columns = 5
    step = np.array([height / np.ceil(count / columns), width / columns])
    for label in range(1, count + 1):
        cell = np.array(divmod(label - 1, columns)) + 0.5
        for target in (gt, pred):
            cy, cx = cell * step + rng.uniform(-8, 8, 2)
            extent = rng.uniform(*radius) ** 2 * step.min() ** 2
            target[(y - cy) ** 2 + (x - cx) ** 2 < extent] = label
    return gt, pred


def nuclei_like_image(size: int = 512, count: int = 20, seed: int = 0) -> np.ndarray:
    """(size, size, 3) uint8: soft bright discs that do not touch, on a dark noisy ground."""
    ids, _ = leaf_like_maps(size, size, count, seed=seed, radius=(0.2, 0.3))
    rng = np.random.default_rng(seed)
    grey = gaussian_filter(np.where(ids > 0, 45.0, 6.0), 1.5) + rng.normal(0, 1.5, ids.shape)
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def loss_inputs(
    height: int = 512, width: int = 512, count: int = 18, *, channels: int = 16, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Instances on about half of an image, and embeddings of it.

    Returns:
        tuple[Tensor, Tensor]: (1, channels, height, width) float32 that needs a gradient, and
        (1, height, width) int64 ids 0..count.
    """
    ids, _ = leaf_like_maps(height, width, count, seed=seed, radius=(0.42, 0.52))
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(1, channels, height, width, generator=generator, requires_grad=True)
    return embeddings, torch.from_numpy(ids)[None]


def separate_embeddings(
    pixels: int = 90_000, clusters: int = 300, *, channels: int = 16, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Clusters far apart, in random order.

    Returns:
        tuple[Tensor, Tensor, Tensor]: (pixels, channels) float32; (pixels,) int64 true labels
        0..clusters - 1; (clusters, channels) float32 centres.
    """
    generator = torch.Generator().manual_seed(seed)
    centers = 1.5 * torch.randn(clusters, channels, generator=generator)
    labels = torch.randint(clusters, (pixels,), generator=generator)
    noise = torch.randn(pixels, channels, generator=generator)
    return centers[labels] + 0.12 * noise, labels, centers


def cost_inputs(
    steps: int = 20, objects: int = 20, size: int = 256, *, images: int = 2, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Noisy masks of squares, and the squares.

    Returns:
        tuple[Tensor, Tensor]: (images, steps, size, size) float32 logits and (images, objects,
        size, size) float32 in {0, 1}.
    """
    generator = torch.Generator().manual_seed(seed)
    side = size // 5
    corners = torch.randint(size - side, (images, objects, 2), generator=generator)
    masks = torch.zeros(images, objects, size, size)
    for mask, (top, left) in zip(masks.flatten(0, 1), corners.flatten(0, 1).tolist()):
        mask[top : top + side, left : left + side] = 1
    shown = masks[:, torch.arange(steps) % objects]
    return 4 * shown - 3 + torch.randn(shown.shape, generator=generator), masks


def training_batch(
    count: int = 8, size: int = 128, objects: tuple[int, int] = (2, 6), *, seed: int = 0
) -> "list[dict[str, Any]]":
    """Images of shapes as the stock mapper would hand them over.

    Args:
        count (int): images.
        size (int): pixels; images are square.
        objects (tuple[int, int]): in an image, at least and at most.
        seed (int)

    Returns:
        list[dict]: ``image`` (3, size, size) uint8; ``instances``: ``gt_masks``, ``gt_classes``.
    """
    parameters = resolve_parameters("shapes", image_size=size, objects=objects, seed=seed)
    batch = []
    for index in range(count):
        image, labels, classes = render(parameters, index)
        ids = torch.arange(1, len(classes) + 1)[:, None, None]
        instances = Instances(labels.shape)
        instances.gt_masks = BitMasks(torch.from_numpy(labels.astype("int64")) == ids)
        instances.gt_classes = torch.tensor(classes)
        batch.append({"image": torch.from_numpy(image).permute(2, 0, 1), "instances": instances})
    return batch
