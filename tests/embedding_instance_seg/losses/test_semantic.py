"""Semantic targets and losses."""

import pytest
import torch
from torch.nn import functional as F

from embedding_instance_seg.losses import instance_class_loss, semantic_loss, semantic_targets


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
