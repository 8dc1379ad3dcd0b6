"""Times our functions against the plain form of the same computation, in one run on one thread.

    python tools/benchmark.py [--rows sbd] [--repeats 10] [--memory] [--json FILE] [--strict]

A package adds rows with a function that returns a list of Row; ROW_SOURCES lists these functions.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from embedding_instance_seg.clustering import mean_shift, sklearn_mean_shift
from embedding_instance_seg.losses import discriminative_loss
from instance_seg_common.analysis.benchmark import (
    Row,
    run_row,
    select_rows,
    timings_json,
    timings_table,
)
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.matching import symmetric_best_dice


def leaf_like_maps(height=530, width=500, count=20, seed=0, radius=(0.3, 0.5)):
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
            target[(y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(*radius) ** 2 * step.min() ** 2] = (
                label
            )
    return gt, pred


def sbd_over_pairs(gt, pred):
    """SBD in its plain form: a loop over all pairs of labels, in both directions."""
    return min(_best_dice_over_pairs(gt, pred), _best_dice_over_pairs(pred, gt))


def _best_dice_over_pairs(a, b):
    total = 0.0
    for i in range(a.min() + 1, a.max() + 1):
        best = 0.0
        for j in range(b.min() + 1, b.max() + 1):
            mask_a, mask_b = a == i, b == j
            dice = 2 * (mask_a & mask_b).sum() / (mask_a.sum() + mask_b.sum())
            best = max(best, dice)
        total += best
    return total / (a.max() - a.min())


def _build_sbd():
    gt, pred = leaf_like_maps()
    return lambda: symmetric_best_dice(gt, pred), lambda: sbd_over_pairs(gt, pred)


def evaluation_rows():
    """Rows of instance_seg_common.evaluation."""
    what = "SBD, 20 instances, 530x500"
    return [Row("sbd", what, "loop over pairs, both directions", 30, _build_sbd)]


def dense_discriminative_loss(embeddings, instance_ids, delta_var=0.5, delta_dist=1.5):
    """The loss in its plain form, autograd over a one-hot (P, K), for one image and class.

    Args:
        embeddings (Tensor): (1, E, H, W) float.
        instance_ids (Tensor): (1, H, W) int64, 0 background, then 1..K, K > 1.

    Returns:
        Tensor: (3,) variance, distance, regularization.
    """
    pixels = embeddings[0].flatten(1).t()
    one_hot = F.one_hot(instance_ids.flatten())[:, 1:].to(pixels.dtype)
    sizes = one_hot.sum(0)
    means = one_hot.t() @ pixels / sizes[:, None]
    distances = torch.linalg.vector_norm(pixels[:, None] - means, dim=2)
    excess = (distances - delta_var).clamp(min=0).square()
    variance = ((excess * one_hot).sum(0) / sizes).mean()
    gaps = torch.linalg.vector_norm(means[:, None] - means, dim=2)
    off_diagonal = 1 - torch.eye(len(means))
    distance = ((2 * delta_dist - gaps).clamp(min=0).square() * off_diagonal).sum()
    distance = distance / off_diagonal.sum()
    return torch.stack([variance, distance, torch.linalg.vector_norm(means, dim=1).mean()])


def loss_scene(height=512, width=512, count=18, channels=16, seed=0):
    """Instances on about half of an image, and embeddings of it.

    Returns:
        tuple[Tensor, Tensor]: (1, channels, height, width) float32 that needs a gradient, and
        (1, height, width) int64 ids 0..count.
    """
    ids, _ = leaf_like_maps(height, width, count, seed, radius=(0.42, 0.52))
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(1, channels, height, width, generator=generator, requires_grad=True)
    return embeddings, torch.from_numpy(ids)[None]


def forward_backward(terms, embeddings):
    """The terms (3,) as they come out, after the gradient of their sum was computed."""
    torch.autograd.grad(terms.sum(), embeddings)
    return terms.detach()


def _build_loss(reference):
    embeddings, ids = loss_scene()

    def ours():
        terms = torch.stack(list(discriminative_loss(embeddings, ids).values()))
        return forward_backward(terms, embeddings)

    return ours, lambda: forward_backward(reference(embeddings, ids), embeddings)


def embedding_loss_rows():
    """Rows of embedding_instance_seg.losses."""
    what = "discriminative loss, 18 instances, 1x16x512x512, forward and backward"
    return [
        Row(
            "loss",
            what,
            "x * x of the same embeddings",
            1 / 12,
            partial(_build_loss, lambda embeddings, ids: (embeddings * embeddings).sum()),
            tolerance=None,
        ),
        Row(
            "loss_dense",
            what,
            "one-hot, pixels x instances",
            20,
            partial(_build_loss, dense_discriminative_loss),
            tolerance=1e-4,
            required_memory=20,
        ),
    ]


def separate_embeddings(pixels=90_000, clusters=300, channels=16, seed=0):
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


def nearest_centers(embeddings, centers, chunk=8192):
    """(P,) int64: the nearest centre of every pixel, in chunks of the pixels."""
    parts = embeddings.split(chunk)
    return torch.cat([torch.cdist(part, centers).argmin(dim=1) for part in parts])


def quality(truth, labels):
    """SBD of (P,) labels, 0..K - 1, -1 none, as an image of one row with a pixel of background."""
    return symmetric_best_dice(*(np.append(x.numpy() + 1, 0)[None] for x in (truth, labels)))


def _build_mean_shift():
    embeddings, truth, centers = separate_embeddings()
    cluster = partial(mean_shift, embeddings, bandwidth=1.0)
    if quality(truth, cluster()) < 1:
        raise ValueError("Row 'mean_shift': the clusters are not the true ones.")
    return cluster, lambda: nearest_centers(embeddings, centers)


# REPLACE by a trained model of weights/: its embeddings of one validation image and true labels.
def trained_embeddings(side=212, count=18, channels=16, seed=0):
    """Embeddings as a network of limited resolution gives them: at a border they lean across it.

    Returns:
        tuple[Tensor, Tensor]: (P, channels) float32 of the about 22,000 foreground pixels, and
        (P,) int64 true labels 0..count - 1.
    """
    ids, _ = leaf_like_maps(side, side, count, seed, radius=(0.42, 0.52))
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((count + 1, channels))
    centers *= 2.5 / np.linalg.norm(centers, axis=1, keepdims=True)
    foreground = ids > 0
    blur = partial(gaussian_filter, sigma=(1.5, 1.5, 0))
    smooth = blur(centers[ids] * foreground[..., None]) / blur(foreground[..., None] + 1e-6)
    embeddings = smooth[foreground] + 0.08 * rng.standard_normal((foreground.sum(), channels))
    return torch.from_numpy(embeddings).float(), torch.from_numpy(ids[foreground] - 1)


def _build_mean_shift_sklearn():
    embeddings, truth = trained_embeddings()
    ours = partial(mean_shift, embeddings, bandwidth=0.5, min_size=30)
    our_quality = quality(truth, ours())

    def reference():
        labels = sklearn_mean_shift(embeddings, bandwidth=0.5, min_size=30)
        if quality(truth, labels) > our_quality:
            raise ValueError(
                f"Row 'mean_shift_sklearn': SBD {our_quality:.3f} is below scikit-learn's "
                f"{quality(truth, labels):.3f}."
            )

    return ours, reference


def embedding_clustering_rows():
    """Rows of embedding_instance_seg.clustering."""
    return [
        Row(
            "mean_shift",
            "mean shift, 90,000 pixels, 16 channels, 300 clusters",
            "nearest of the 300 true centres",
            1 / 40,
            _build_mean_shift,
            tolerance=None,
        ),
        Row(
            "mean_shift_sklearn",
            "mean shift, 22,000 pixels, 16 channels, 18 instances",
            "scikit-learn's, bin_seeding=True; SBD not above ours",
            100,
            _build_mean_shift_sklearn,
            tolerance=None,
        ),
    ]


ROW_SOURCES = [evaluation_rows, embedding_loss_rows, embedding_clustering_rows]


def parse_args(argv=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each; the minimum counts")
    parser.add_argument("--memory", action="store_true", help="also peak memory (Linux)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a ratio is missed")
    return parser.parse_args(argv)


def main(argv=None):
    """Returns the exit status."""
    args = parse_args(argv)
    rows = select_rows([row for source in ROW_SOURCES for row in source()], args.rows)
    timings = [run_row(row, args.repeats, args.memory) for row in rows]
    print(timings_table(timings))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(timings_json(timings), indent=2) + "\n")
    return int(args.strict and not all(timing.met for timing in timings))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
