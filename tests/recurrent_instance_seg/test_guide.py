"""Dense maps of classes and centres, against loops over pixels and instances.

Shape shorthand: B images, K instances, H, W the guide's grid.
"""

import pytest
import torch

from recurrent_instance_seg.guide import (
    MAPS,
    Guide,
    guide_loss,
    guide_targets,
    maps_of,
    vote_loss,
)
from recurrent_instance_seg.targets import Targets

CLASSES, UNIT = 3, 12.0


def two_rectangles():
    """A 6 x 8 image with a 2 x 3 and a 4 x 2 rectangle, and an empty image."""
    masks = torch.zeros(2, 2, 6, 8)
    masks[0, 0, 1:3, 0:3] = 1
    masks[0, 1, 2:6, 5:7] = 1
    classes = torch.tensor([[2, 0], [0, 0]])
    return Targets(masks, classes, torch.ones(2, 6, 8, dtype=torch.bool), [2, 0])


def test_targets_are_the_way_to_the_centre_of_mass():
    targets = two_rectangles()
    classes, offsets = guide_targets(targets, CLASSES)
    centres = [(1.0, 1.5), (5.5, 3.5)]  # x, y of the rectangles
    for y in range(6):
        for x in range(8):
            own = [k for k in range(2) if targets.masks[0, k, y, x]]
            if not own:
                assert classes[0, y, x] == CLASSES and offsets[0, :, y, x].tolist() == [0, 0]
                continue
            assert classes[0, y, x] == targets.classes[0, own[0]]
            expected = [centres[own[0]][0] - x, centres[own[0]][1] - y]
            assert offsets[0, :, y, x].tolist() == pytest.approx(expected)
    assert (classes[1] == CLASSES).all() and not offsets[1].any()


def test_a_cell_that_is_covered_by_less_than_half_is_background():
    masks = torch.zeros(1, 1, 1, 4)
    masks[0, 0, 0] = torch.tensor([0.49, 0.5, 1.0, 0.0])
    targets = Targets(masks, torch.zeros(1, 1, dtype=torch.int64), masks[:, 0] >= 0, [1])
    assert guide_targets(targets, CLASSES)[0][0, 0].tolist() == [CLASSES, 0, 0, CLASSES]


def test_loss_against_a_loop():
    torch.manual_seed(0)
    targets = two_rectangles()
    targets.valid[0, :2, 4:] = False
    targets.valid[0, 2, 5] = False  # on the second rectangle
    raw = torch.randn(2, CLASSES + 3, 6, 8, dtype=torch.float64) * 2
    classes, offsets = guide_targets(targets, CLASSES)
    entropy, distance = [], []
    for b in range(2):
        for y in range(6):
            for x in range(8):
                if not targets.valid[b, y, x]:
                    continue
                logits = raw[b, :-2, y, x].float()
                entropy.append(-logits.log_softmax(0)[classes[b, y, x]])
                if classes[b, y, x] < CLASSES:
                    error = raw[b, -2:, y, x].float() - offsets[b, :, y, x] / UNIT
                    small = error.abs() < 1
                    distance.append(torch.where(small, error**2 / 2, error.abs() - 0.5).sum())
    expected = torch.stack(entropy).mean() + torch.stack(distance).mean()
    assert guide_loss(raw.float(), targets, stride=1, unit=UNIT).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_perfect_maps_cost_nothing_and_lead_to_one_point_an_instance():
    targets = two_rectangles()
    classes, offsets = guide_targets(targets, CLASSES)
    raw = torch.cat(
        [
            50 * torch.nn.functional.one_hot(classes, CLASSES + 1).movedim(-1, 1),
            offsets / UNIT,
        ],
        dim=1,
    )
    assert guide_loss(raw, targets, stride=1, unit=UNIT).item() == pytest.approx(0, abs=1e-6)
    x = 2 * (torch.arange(8) + 0.5) / 8 - 1
    y = 2 * (torch.arange(6) + 0.5) / 6 - 1
    positions = torch.stack([x.expand(6, 8), y[:, None].expand(6, 8)]).expand(2, 2, 6, 8)
    maps = maps_of(raw, positions, sizes=[(6, 8), (6, 8)], unit=UNIT)
    assert maps.shape == (2, MAPS, 6, 8)
    assert torch.allclose(maps[:, 0], (classes < CLASSES).float(), atol=1e-5)
    for k, centre in enumerate([(1.0, 1.5), (5.5, 3.5)]):
        inside = targets.masks[0, k] > 0
        expected = torch.tensor([2 * (centre[0] + 0.5) / 8 - 1, 2 * (centre[1] + 0.5) / 6 - 1])
        assert torch.allclose(
            maps[0, 3:, inside], expected[:, None].expand(-1, inside.sum()), atol=1e-5
        )
    assert maps[1].abs().max() < 1e-5


def test_an_empty_batch_keeps_the_graph_and_no_gradient_flows_through_the_maps():
    guide = Guide(4, 8, CLASSES, stride=4, norm=None, unit=UNIT)
    features = torch.randn(1, 4, 6, 8, requires_grad=True)
    raw = guide(features)
    targets = Targets(
        torch.zeros(1, 0, 24, 32), torch.zeros(1, 0, dtype=torch.int64),
        torch.ones(1, 24, 32, dtype=torch.bool), [0],
    )  # fmt: skip
    loss = guide_loss(raw, targets, stride=4, unit=UNIT)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in guide.parameters())
    maps = maps_of(raw, torch.zeros(1, 2, 6, 8), sizes=[(24, 32)], unit=UNIT)
    assert not maps.requires_grad


def test_votes_against_a_loop():
    torch.manual_seed(0)
    targets = two_rectangles()
    targets.valid[0, 1, 0] = False
    raw = torch.randn(2, CLASSES + 3, 6, 8, dtype=torch.float64) * 2
    entropy = []
    for k in range(2):
        own = (targets.masks[0, k] > 0) & targets.valid[0]
        votes = [raw[0, :CLASSES, y, x] for y, x in own.nonzero().tolist()]
        entropy.append(-torch.stack(votes).mean(0).log_softmax(0)[targets.classes[0, k]])
    expected = torch.stack(entropy).mean().item()
    assert vote_loss(raw.float(), targets, stride=1).item() == pytest.approx(expected, rel=1e-5)


def test_nobody_votes_where_nothing_is():
    targets = two_rectangles()
    raw = torch.randn(2, CLASSES + 3, 6, 8, requires_grad=True)
    empty = Targets(targets.masks * 0, targets.classes, targets.valid, [0, 0])
    for none in (
        empty,
        Targets(targets.masks[:, :0], targets.classes[:, :0], targets.valid, [0, 0]),
    ):
        loss = vote_loss(raw, none, stride=1)
        loss.backward()
        assert loss == 0 and not raw.grad.any()
