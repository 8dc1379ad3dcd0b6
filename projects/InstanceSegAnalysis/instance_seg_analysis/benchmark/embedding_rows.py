"""Rows of the benchmark about embedding_instance_seg."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from embedding_instance_seg.clustering import mean_shift
from embedding_instance_seg.losses import discriminative_loss
from instance_seg_common.engine.predictor import model_input, predict
from instance_seg_common.evaluation.matching import symmetric_best_dice

from .inputs import loss_inputs, nuclei_like_image, separate_embeddings
from .models import published_model, trained_embeddings
from .references import dense_discriminative_loss, nearest_centers, sklearn_mean_shift
from .timing import Function, Row

Loss = Callable[[Tensor, Tensor], Tensor]


def forward_backward(terms: Tensor, embeddings: Tensor) -> Tensor:
    """The terms (3,) as they come out, after the gradient of their sum was computed."""
    torch.autograd.grad(terms.sum(), embeddings)
    return terms.detach()


def _build_loss(reference: Loss) -> tuple[Function, Function]:
    embeddings, ids = loss_inputs()

    def ours() -> Tensor:
        terms = torch.stack(list(discriminative_loss(embeddings, ids).values()))
        return forward_backward(terms, embeddings)

    return ours, lambda: forward_backward(reference(embeddings, ids), embeddings)


def embedding_loss_rows() -> list[Row]:
    """Rows of the discriminative loss."""
    what = "discriminative loss, 18 instances, 1x16x512x512, forward and backward"
    return [
        Row(
            name="loss",
            what=what,
            reference="x * x of the same embeddings",
            required=1 / 12,
            build=partial(_build_loss, lambda embeddings, ids: (embeddings * embeddings).sum()),
            tolerance=None,
        ),
        Row(
            name="loss_dense",
            what=what,
            reference="one-hot, pixels x instances",
            required=20,
            build=partial(_build_loss, dense_discriminative_loss),
            tolerance=1e-4,
            required_memory=20,
        ),
    ]


def quality(truth: Tensor, labels: Tensor) -> float:
    """SBD of (P,) labels, 0..K - 1, -1 none, as an image of one row with a pixel of background."""
    return symmetric_best_dice(*(np.append(x.numpy() + 1, 0)[None] for x in (truth, labels)))


def _build_mean_shift() -> tuple[Function, Function]:
    embeddings, truth, centers = separate_embeddings()
    cluster = partial(mean_shift, embeddings, bandwidth=1.0)
    if quality(truth, cluster()) < 1:
        raise ValueError("The clusters are not the true ones.")
    return cluster, lambda: nearest_centers(embeddings, centers)


def _build_mean_shift_sklearn() -> tuple[Function, Function]:
    embeddings, truth, bandwidth, min_size = trained_embeddings()
    settings = {"bandwidth": bandwidth, "min_size": min_size}
    ours, theirs = (partial(f, embeddings, **settings) for f in (mean_shift, sklearn_mean_shift))
    quality_of_ours, quality_of_theirs = quality(truth, ours()), quality(truth, theirs())
    if quality_of_ours < quality_of_theirs:
        raise ValueError(
            f"SBD {quality_of_ours:.3f} is below scikit-learn's {quality_of_theirs:.3f}."
        )
    return ours, theirs


def embedding_clustering_rows() -> list[Row]:
    """Rows of the clustering."""
    return [
        Row(
            name="mean_shift",
            what="mean shift, 90,000 pixels, 16 channels, 300 clusters",
            reference="nearest of the 300 true centres",
            required=1 / 40,
            build=_build_mean_shift,
            tolerance=None,
        ),
        Row(
            name="mean_shift_sklearn",
            what="mean shift, 23,000 pixels, 16 channels, 18 instances",
            reference="scikit-learn's, bin_seeding=True; SBD not above ours",
            required=100,
            build=_build_mean_shift_sklearn,
            tolerance=None,
            max_repeats=3,  # the reference takes seconds
        ),
    ]


def _build_inference() -> tuple[Function, Function]:
    image = nuclei_like_image()
    functions = []
    for name in ("embedding_R18_dsb2018", "mask_rcnn_R18_dsb2018"):
        cfg, model = published_model(name)
        count = len(predict(cfg, model, image))
        if not 18 <= count <= 24:
            raise ValueError(f"{name} finds {count} of the 20 objects.")
        functions.append(partial(model, [model_input(cfg, image)]))
    ours, reference = functions
    return ours, reference


def embedding_inference_rows() -> list[Row]:
    """Rows of the whole model."""
    return [
        Row(
            name="inference",
            what="image to instances, 512x512, ResNet-18-FPN, 20 objects",
            reference="Mask R-CNN, same backbone and image",
            required=1,
            build=_build_inference,
            tolerance=None,
        )
    ]
