"""Rows of tools/benchmark.py about embedding_instance_seg."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from benchmark_evaluation import leaf_like_maps
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F
from ways import load_cfg

from embedding_instance_seg.clustering import mean_shift
from embedding_instance_seg.losses import discriminative_loss
from instance_seg_analysis.benchmark.references import sklearn_mean_shift
from instance_seg_analysis.benchmark.timing import Row
from instance_seg_common.data.synthetic import render, resolve_parameters
from instance_seg_common.engine.predictor import build_predictor, model_input, predict
from instance_seg_common.evaluation.matching import symmetric_best_dice

ROOT = Path(__file__).resolve().parent.parent
# As large as the sticks of the training set may be, as a fraction of the image, and crowded: the
# network, to which the image goes at its training size, has learned 4 to 12 in an image.
STICKS_SCENE = {
    "image_size": 256,
    "objects": (18, 18),
    "seed": 18,
    "size": (0.5, 0.6),
    "width": (0.046, 0.046),
}


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
        raise ValueError("The clusters are not the true ones.")
    return cluster, lambda: nearest_centers(embeddings, centers)


def published_model(config_file, weights, *opts):
    """A model of weights/ on the CPU, in evaluation mode.

    Args:
        config_file (str): below configs/.
        weights (str): a file of weights/.
        *opts (str): further keys and values.

    Returns:
        tuple[CfgNode, nn.Module]
    """
    weights = str(ROOT / "weights" / weights)
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", weights, *opts]
    cfg = load_cfg(ROOT / "configs" / config_file, opts)
    return cfg, build_predictor(cfg)


def trained_embeddings():
    """What the published model of the sticks makes of an image with 18 of them.

    The network sees the image at its test size, 128; the embedding is enlarged to the image's 256.

    Returns:
        tuple[Tensor, Tensor, dict]: (P, 16) float32 embeddings of the about 23,000 pixels of the
        sticks at the size of the image; (P,) int64 true labels 0 to 17; ``bandwidth`` and
        ``min_size``, in pixels of the image, as the model has them for clustering.
    """
    image, labels, _ = render(resolve_parameters("sticks", **STICKS_SCENE), 0)
    cfg, model = published_model("Synthetic/embedding_R18_sticks.yaml", "embedding_R18_sticks.pth")
    seen = model_input(cfg, image)
    embedding = model.internals([seen])[0]["embedding"][None]
    embedding = F.interpolate(embedding, labels.shape, mode="bilinear", align_corners=False)[0]
    labels = torch.from_numpy(labels.astype(np.int64))
    node = cfg.MODEL.EMBEDDING_INSTANCE_SEG
    # MIN_CLUSTER_SIZE counts cells of the network's grid; one is 4 x 4 pixels of the image.
    cell = node.OUTPUT_STRIDE * len(image) / seen["image"].shape[1]
    settings = {"bandwidth": node.BANDWIDTH, "min_size": round(node.MIN_CLUSTER_SIZE * cell**2)}
    return embedding[:, labels > 0].T.contiguous(), labels[labels > 0] - 1, settings


def _build_mean_shift_sklearn():
    embeddings, truth, settings = trained_embeddings()
    functions = [partial(f, embeddings, **settings) for f in (mean_shift, sklearn_mean_shift)]
    ours, reference = (quality(truth, function()) for function in functions)
    if ours < reference:
        raise ValueError(f"SBD {ours:.3f} is below scikit-learn's {reference:.3f}.")
    return tuple(functions)


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
            "mean shift, 23,000 pixels, 16 channels, 18 instances",
            "scikit-learn's, bin_seeding=True; SBD not above ours",
            100,
            _build_mean_shift_sklearn,
            tolerance=None,
            max_repeats=3,  # the reference takes seconds
        ),
    ]


def nuclei_like_image(size=512, count=20, seed=0):
    """(size, size, 3) uint8: soft bright discs that do not touch, on a dark noisy ground."""
    ids, _ = leaf_like_maps(size, size, count, seed, radius=(0.2, 0.3))
    rng = np.random.default_rng(seed)
    grey = gaussian_filter(np.where(ids > 0, 45.0, 6.0), 1.5) + rng.normal(0, 1.5, ids.shape)
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _build_inference():
    image = nuclei_like_image()
    functions = []
    for name in ("embedding_R18", "mask_rcnn_R18"):
        cfg, model = published_model(f"Nuclei/{name}.yaml", f"{name}_dsb2018.pth")
        found = len(predict(cfg, model, image))
        if not 18 <= found <= 24:
            raise ValueError(f"{name} finds {found} of the 20 objects.")
        functions.append(partial(model, [model_input(cfg, image)]))
    return tuple(functions)


def embedding_inference_rows():
    """Rows of the whole model."""
    return [
        Row(
            "inference",
            "image to instances, 512x512, ResNet-18-FPN, 20 objects",
            "Mask R-CNN, same backbone and image",
            1,
            _build_inference,
            tolerance=None,
        )
    ]
