"""Bandwidths and the Lovasz hinge against loops in double precision."""

import pytest
import torch

from embedding_instance_seg.losses import bandwidth, bandwidth_losses, lovasz_hinge
from embedding_instance_seg.segments import segment_mean


def jaccard_loss(mispredicted, labels):
    """1 - IoU of the truth and the prediction that is wrong exactly where told."""
    predicted = labels ^ mispredicted
    union = (labels | predicted).sum()
    return 1 - (labels & predicted).sum().double() / union if union else torch.tensor(0.0)


def hinge_by_definition(logits, labels):
    """Sum over the errors in descending order of the error times what it adds to the loss."""
    errors = 1 - torch.where(labels, logits, -logits)
    wrong = torch.zeros_like(labels)
    total, before = 0.0, 0.0
    for index in torch.argsort(errors, descending=True).tolist():
        wrong[index] = True
        now = jaccard_loss(wrong, labels)
        total = total + torch.relu(errors[index]) * (now - before)
        before = now
    return total


def test_lovasz_hinge_of_many_problems_at_once_equals_the_definition():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(120, generator=generator, dtype=torch.float64)
    labels = torch.rand(120, generator=generator) < 0.4
    segments = torch.randint(0, 4, (120,), generator=generator)
    segments[:4], labels[:4] = torch.arange(4), True
    found = lovasz_hinge(logits, labels, segments, num_segments=4)
    for k in range(4):
        expected = hinge_by_definition(logits[segments == k], labels[segments == k])
        assert found[k] == pytest.approx(float(expected), abs=1e-12)


def test_lovasz_hinge_of_hard_predictions_is_twice_the_jaccard_loss():
    labels = torch.tensor([True, True, True, False, False, False])
    predicted = torch.tensor([True, True, False, True, False, False])
    logits = torch.where(predicted, 1.0, -1.0)
    # Errors are 2 where wrong, 0 where right; the IoU is 2 / 4.
    assert float(
        lovasz_hinge(logits, labels, torch.zeros(6).long(), num_segments=1)
    ) == pytest.approx(1.0)
    right = torch.where(labels, 1.0, -1.0)
    assert float(lovasz_hinge(right, labels, torch.zeros(6).long(), num_segments=1)) == 0.0


def test_lovasz_hinge_gradient():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(30, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.rand(30, generator=generator) < 0.5
    segments = torch.arange(30) % 3
    assert torch.autograd.gradcheck(
        lambda x: lovasz_hinge(x, labels, segments, num_segments=3), logits
    )


def scene(batch=2, size=12, channels=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    ids = torch.zeros(batch, size, size, dtype=torch.int64)
    ids[0, 1:5, 1:6], ids[0, 6:11, 2:8], ids[0, 11, 11] = 1, 700, 3
    ids[0, :, 0] = -1
    ids[1, 3:9, 3:9] = 2
    embeddings = torch.randn(batch, channels, size, size, generator=generator, dtype=dtype)
    embeddings += 0.5 * ids[:, None].clamp(max=4)
    bandwidths = 0.3 * torch.randn(batch, size, size, generator=generator, dtype=dtype)
    return embeddings, bandwidths, ids


def losses_of(embeddings, bandwidths, ids):
    return bandwidth_losses(embeddings, bandwidths, instance_ids=ids)


def loop_losses(embeddings, log_bandwidths, ids):
    """The same by loops over images and instances, over all pixels."""
    totals = torch.zeros(2, dtype=torch.float64)
    for e, b, i in zip(embeddings, log_bandwidths, ids):
        mask, spread = [], []
        for k in i[i > 0].unique():
            own = i == k
            center, log = e[:, own].mean(dim=1), b[own].mean()
            squared = (e - center[:, None, None]).square().sum(dim=0)
            phi = torch.exp(-squared / (2 * torch.exp(log) ** 2))
            mask.append(hinge_by_definition((2 * phi - 1)[i >= 0], own[i >= 0]))
            spread.append((b[own] - log).square().mean())
        totals += torch.stack([torch.stack(x).mean() for x in (mask, spread)])
    return totals / len(embeddings)


def test_losses_equal_loops_over_instances():
    found = losses_of(*scene())
    expected = loop_losses(*scene())
    # Foreign pixels of membership below 0.001 are left out.
    assert float(found["loss_mask"]) == pytest.approx(float(expected[0]), abs=5e-3)
    assert float(found["loss_bandwidth"]) == pytest.approx(float(expected[1]), rel=1e-6)


@pytest.mark.parametrize(("pairs", "chunk"), [(1, 1), (30, 200), (10**6, 1)])
def test_instances_in_several_parts_cost_the_same(monkeypatch, pairs, chunk):
    """A crowd has more pairs than fit into memory at once."""
    embeddings, *rest = scene()
    embeddings.requires_grad_()
    whole = losses_of(embeddings, *rest)["loss_mask"]
    expected = torch.autograd.grad(whole, embeddings)[0]
    monkeypatch.setattr(bandwidth, "PAIRS", pairs)
    monkeypatch.setattr(bandwidth, "CHUNK", chunk)
    parts = losses_of(embeddings, *rest)["loss_mask"]
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, embeddings)[0], expected)


@pytest.mark.parametrize("ids", ["none", "ignored", "one pixel"])
def test_every_part_stays_in_the_graph(ids):
    embeddings, bandwidths, targets = scene()
    targets = torch.full_like(targets, -1 if ids == "ignored" else 0)
    if ids == "one pixel":
        targets[0, 4, 4] = 9
    for part in (embeddings, bandwidths):
        part.requires_grad_()
    losses = losses_of(embeddings, bandwidths, targets)
    sum(losses.values()).backward()
    for part in (embeddings, bandwidths):
        assert torch.isfinite(part.grad).all()
    if ids == "ignored":
        assert float(sum(losses.values()).detach()) == 0


def test_a_perfect_embedding_costs_next_to_nothing():
    ids = torch.zeros(1, 16, 16, dtype=torch.int64)
    ids[0, 2:8, 2:8], ids[0, 9:15, 2:8] = 1, 2
    embeddings = 10.0 * ids[:, None].float().expand(1, 2, 16, 16)
    losses = losses_of(embeddings, torch.zeros(1, 16, 16), ids)
    assert all(float(loss) < 1e-6 for loss in losses.values())


def test_more_instances_than_a_byte_counts():
    ids = torch.arange(1, 401).reshape(1, 20, 20)
    embeddings = torch.stack([ids.float(), ids.float()], dim=1)
    losses = losses_of(embeddings, torch.full((1, 20, 20), -3.0), ids)
    assert float(losses["loss_mask"]) < 1e-6


def test_segment_mean():
    values = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    segments = torch.tensor([1, 0, 1])
    assert segment_mean(values, segments, 2).tolist() == [[3, 4], [3, 4]]
    assert segment_mean(values[:, 0], segments, 2).tolist() == [3, 3]


def test_autocast_changes_nothing_far_from_the_origin():
    """Positions of a large image would lose their differences in half precision."""
    embeddings, *rest = scene(dtype=torch.float32)
    embeddings = (embeddings + 60).requires_grad_()
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = sum(losses_of(embeddings, *rest).values())
        gradients.append(torch.autograd.grad(loss, embeddings)[0])
    assert torch.equal(*gradients)
