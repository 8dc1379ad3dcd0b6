"""Semantic targets and losses, against loops over pixels."""

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


def batch_of_targets():
    """Objects of two classes; no objects; nothing that counts; nothing but an object."""
    others = [torch.full((1, 2, 4), value) for value in (3, -1, 2)]
    return torch.cat([targets(), *others])


def loss_by_hand(logits, targets):
    """Pixel by pixel: cross-entropy over the batch, and Dice loss of each image."""
    entropies, dice = [], []
    for image, classes in zip(logits, targets):
        found = objects = both = 0.0
        for y, x in (classes >= 0).nonzero().tolist():
            probabilities, label = image[:, y, x].softmax(dim=0), int(classes[y, x])
            entropies.append(-probabilities[label].log())
            found = found + 1 - probabilities[3]
            if label != 3:
                objects, both = objects + 1, both + 1 - probabilities[3]
        dice.append(1 - (2 * both + 1) / (found + objects + 1))
    return sum(entropies) / len(entropies) + sum(dice) / len(dice)


@pytest.mark.parametrize("images", [[0], [1], [3], [0, 1, 2, 3]])
def test_loss_is_that_of_the_loop(images):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 4, 2, 4, generator=generator, dtype=torch.float64)
    logits = logits[images].requires_grad_()
    loss = semantic_loss(logits, batch_of_targets()[images])
    expected = loss_by_hand(logits, batch_of_targets()[images])
    assert float(loss.detach()) == pytest.approx(float(expected.detach()))
    (ours,), (theirs,) = (torch.autograd.grad(x, logits) for x in (loss, expected))
    torch.testing.assert_close(ours, theirs)


def test_loss_in_numbers():
    """Eight pixels, of which four are of an object; certain predictions."""
    targets = torch.tensor([[[0, 0, 0, 0], [1, 1, 1, 1]]])
    sure = 30.0 * F.one_hot(targets, 2).permute(0, 3, 1, 2).float()
    assert float(semantic_loss(sure, targets)) == pytest.approx(0, abs=1e-6)
    missed = sure.clone()
    missed[..., 0, 0], missed[..., 0, 1] = missed[..., 1, 0], missed[..., 1, 1]
    # Two of eight cost 30 each; 2 of 4 pixels found: Dice (2 * 2 + 1) / (2 + 4 + 1).
    assert float(semantic_loss(missed, targets)) == pytest.approx(30 * 2 / 8 + 1 - 5 / 7)


def test_logits_are_enlarged_to_the_targets():
    logits = torch.randn(1, 4, 2, 4, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(logits, (4, 8), mode="bilinear", align_corners=False)
    objects = torch.randint(-1, 4, (1, 4, 8), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(semantic_loss(logits, objects), semantic_loss(large, objects))


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
