"""Semantic targets and loss; figures for TensorBoard."""

import pytest
import torch
from torch.nn import functional as F

from embedding_instance_seg.inference import Maps, PixelGrouping
from embedding_instance_seg.monitoring import cluster_statistics
from embedding_instance_seg.semantics import (
    instance_class_loss,
    semantic_loss,
    semantic_targets,
    true_probabilities,
)


def targets():
    ids = torch.tensor([[[0, 0, 4, 4], [-1, 7, 7, -1]]])
    classes = torch.tensor([[[-1, -1, 1, 1], [-1, 0, 0, -1]]])
    return semantic_targets(ids, classes, num_classes=3)


def test_targets_name_background_and_what_does_not_count():
    assert targets().tolist() == [[[3, 3, 1, 1], [-1, 0, 0, -1]]]


def test_loss_is_the_mean_over_pixels_that_count():
    logits = torch.randn(1, 4, 2, 4, dtype=torch.float64, requires_grad=True)
    loss = semantic_loss(logits, targets())
    pixels = [(0, 0, 3), (0, 1, 3), (0, 2, 1), (0, 3, 1), (1, 1, 0), (1, 2, 0)]
    expected = -sum(F.log_softmax(logits[0, :, y, x], 0)[c] for y, x, c in pixels) / 6
    assert float(loss.detach()) == pytest.approx(float(expected.detach()))
    (ours,), (theirs,) = (torch.autograd.grad(x, logits) for x in (loss, expected))
    torch.testing.assert_close(ours, theirs)


def test_loss_without_pixels_that_count_is_zero():
    logits = torch.randn(1, 4, 2, 4, requires_grad=True)
    loss = semantic_loss(logits, torch.full((1, 4, 8), -1))
    loss.backward()
    assert float(loss.detach()) == 0 and not logits.grad.any()


def test_class_loss_counts_every_instance_once_by_its_mean_logits():
    logits = torch.randn(2, 4, 2, 4, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([[[5, 5, 5, 0], [5, 9, -1, 0]], [[0, 0, 0, 5], [0, 0, 0, 0]]])
    classes = torch.tensor([[[1, 1, 1, -1], [1, 2, -1, -1]], [[-1, -1, -1, 0], [-1] * 4]])
    loss = instance_class_loss(logits, ids, classes)
    instances = [(0, ids[0] == 5, 1), (0, ids[0] == 9, 2), (1, ids[1] == 5, 0)]
    expected = 0
    for image, mask, label in instances:
        mean = logits[image, :3][:, mask].mean(dim=1)
        expected = expected - F.log_softmax(mean, 0)[label] / 3
    assert float(loss.detach()) == pytest.approx(float(expected.detach()))
    none = instance_class_loss(logits, torch.zeros_like(ids), classes)
    none.backward()
    assert float(none.detach()) == 0


def test_true_probabilities():
    found = true_probabilities(targets()[0], 3)
    assert torch.equal(found.sum(dim=0), torch.ones(2, 4))
    assert found.argmax(dim=0).tolist() == [[3, 3, 1, 1], [3, 0, 0, 3]]


def test_statistics_of_a_known_embedding():
    """Two instances at 0 and 4, whose pixels are 0.5 from their mean; one pixel does not count."""
    embedding = torch.tensor([[[-0.5, 0.5, 3.5, 4.5, 9.0, 50.0]]])
    ids = torch.tensor([[1, 1, 2, 2, -1, 0]])
    probabilities = torch.stack([(ids != 0).float(), (ids == 0).float()])
    maps = Maps(probabilities, embedding, embedding, None, None, 1)
    grouping = PixelGrouping("mean_shift", 1.0, 1, 10, 0.5, 1.0, [])
    found = cluster_statistics(maps, grouping, ids)
    assert found == {
        "num_clusters": 3,
        "num_instances": 2,
        "distance_within": pytest.approx(0.5),
        "distance_between": pytest.approx(4),
    }
