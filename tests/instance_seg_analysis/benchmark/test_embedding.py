"""That the rows of evaluation and embedding compute what they claim; no time is asserted."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from embedding_instance_seg.clustering import mean_shift
from embedding_instance_seg.losses import discriminative_loss
from instance_seg_analysis.benchmark import embedding_rows, inputs, models, references
from instance_seg_analysis.benchmark.timing import run_rows
from instance_seg_common.evaluation.matching import symmetric_best_dice


def test_sbd_row_is_the_size_it_says_and_agrees():
    gt, pred = inputs.leaf_like_maps()
    for labels in (gt, pred):
        assert labels.shape == (530, 500)
        np.testing.assert_array_equal(np.unique(labels), np.arange(21))
    small = inputs.leaf_like_maps(height=90, width=100, count=6)
    assert 0 < symmetric_best_dice(*small) < 1
    assert symmetric_best_dice(*small) == pytest.approx(
        references.sbd_over_pairs(*small), abs=1e-12
    )


def test_loss_rows_are_the_size_they_say_and_agree():
    embeddings, ids = inputs.loss_inputs()
    assert embeddings.shape == (1, 16, 512, 512) and ids.shape == (1, 512, 512)
    assert torch.equal(ids.unique(), torch.arange(19))
    assert 0.4 < (ids > 0).float().mean() < 0.6
    small, ids = inputs.loss_inputs(height=60, width=70, count=4, channels=3)
    ours = torch.stack(list(discriminative_loss(small, ids).values()))
    dense = references.dense_discriminative_loss(small, ids)
    torch.testing.assert_close(ours, dense)
    for index in range(3):
        (ours_grad,) = torch.autograd.grad(ours[index], small, retain_graph=True)
        (dense_grad,) = torch.autograd.grad(dense[index], small, retain_graph=True)
        torch.testing.assert_close(ours_grad, dense_grad, rtol=1e-4, atol=1e-7)


def test_clustering_rows_are_the_size_they_say_and_agree():
    embeddings, _, centers = inputs.separate_embeddings()
    assert embeddings.shape == (90_000, 16) and centers.shape == (300, 16)
    embeddings, truth, centers = inputs.separate_embeddings(500, 6)
    assert torch.equal(references.nearest_centers(embeddings, centers, 64), truth)
    found = mean_shift(embeddings, bandwidth=1.0)
    assert embedding_rows.quality(truth, found) == 1
    assert 0.5 < embedding_rows.quality(truth, found.where(found > 0, -1)) < 1


def test_embeddings_of_the_sklearn_row_are_a_trained_models():
    embeddings, truth, *settings = models.trained_embeddings()
    assert embeddings.shape == (len(truth), 16) and 19_000 < len(truth) < 25_000
    assert torch.equal(truth.unique(), torch.arange(18))
    assert settings == [1.5, 20 * 16]
    found = mean_shift(embeddings, bandwidth=1.5, min_size=20 * 16)
    assert embedding_rows.quality(truth, found) > 0.6


def test_rows_whose_outcome_is_wrong_are_not_timed(monkeypatch):
    embeddings, truth, _ = inputs.separate_embeddings(200, 4)
    crowded = embeddings, truth, 1e-3, 1  # ours finds nothing but single pixels
    same = torch.zeros_like(embeddings), truth, None
    monkeypatch.setattr(embedding_rows, "trained_embeddings", lambda: crowded)
    monkeypatch.setattr(embedding_rows, "sklearn_mean_shift", lambda x, **settings: truth)
    monkeypatch.setattr(embedding_rows, "separate_embeddings", lambda: same)
    monkeypatch.setattr(embedding_rows, "published_model", lambda *_: (None, None))
    monkeypatch.setattr(embedding_rows, "predict", lambda *_: range(5))
    rows = [
        *embedding_rows.embedding_clustering_rows(),
        *embedding_rows.embedding_inference_rows(),
    ]
    timings, problems = run_rows(rows, repeats=1)
    assert not timings
    for problem, words in zip(problems, ("not the true ones", "is below", "finds 5"), strict=True):
        assert words in problem


def test_image_of_the_inference_row():
    picture = inputs.nuclei_like_image()
    assert picture.shape == (512, 512, 3) and picture.dtype == np.uint8
    assert ndimage.label(picture[..., 0] > 25)[1] == 20
