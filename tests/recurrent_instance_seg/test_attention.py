"""The point at which a step looks, and what belongs to it, against loops over cells.

Shape shorthand: B images, C classes, h, w the guide's grid.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from recurrent_instance_seg.attention import (
    HANDICAP,
    OUTSIDE,
    SCORE_GAIN,
    PointAttention,
    points_of,
)

CLASSES, STRIDE, UNIT, SIZE = 2, 4, 12.0, (6, 8)


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return PointAttention(5)


def scene():
    """Hidden state on half the grid, guide, cells on the image (the second has padding)."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(2, 5, SIZE[0] // 2, SIZE[1] // 2, generator=generator)
    guide = torch.randn(2, CLASSES + 3, *SIZE, generator=generator)
    inside = torch.ones(2, *SIZE, dtype=torch.bool)
    inside[1, 4:] = inside[1, :, 5:] = False
    return hidden, guide, inside, torch.rand(2, *SIZE, generator=generator)


def looked_at(attention, hidden, guide, inside, memory):
    """(B, h, w) scores and (B, 3, h, w) maps, cell after cell."""
    scores = F.interpolate(attention.score(hidden), SIZE, mode="bilinear", align_corners=False)
    scores = SCORE_GAIN * scores[:, 0] - HANDICAP * memory
    maps = torch.zeros(len(guide), 3, *SIZE)
    cells = [(r, c) for r in range(SIZE[0]) for c in range(SIZE[1])]
    for image, raw in enumerate(guide):
        best = max((p for p in cells if inside[image][p]), key=lambda p: scores[image][p])
        for p in cells:
            if not inside[image][p]:
                scores[image][p] = OUTSIDE
            probabilities = raw[:-2, p[0], p[1]].softmax(0)
            ways = [
                [q[1 - axis] * STRIDE / UNIT + raw[axis - 2, q[0], q[1]] for axis in (0, 1)]
                for q in (p, best)
            ]
            distance = sum((a - b) ** 2 for a, b in zip(*ways))
            maps[image, 0][p] = probabilities[:-1].sum() * math.exp(-distance / (2 * 0.5**2))
            for axis in (0, 1):
                way = (best[1 - axis] - p[1 - axis]) * STRIDE / UNIT
                maps[image, 1 + axis][p] = math.tanh(way)
    return scores, maps


@torch.no_grad()
def test_equals_the_loops(attention):
    hidden, guide, inside, memory = scene()
    prepared = attention.prepare(guide, STRIDE, UNIT)
    result = attention(hidden, prepared, inside=inside, memory=memory)
    expected = looked_at(attention, hidden, guide, inside, memory)
    torch.testing.assert_close(result[0], expected[0])
    torch.testing.assert_close(result[1], expected[1])


@torch.no_grad()
def test_the_best_cell_of_the_padding_is_never_chosen(attention):
    hidden, guide, inside, memory = scene()
    prepared = attention.prepare(guide, STRIDE, UNIT)
    before = attention(hidden, prepared, inside=inside, memory=memory)[1]
    prepared[1, :, 5, 7] = 0.5
    hidden[1, :, 2, 3] += attention.score.weight[0, :, 1, 1].sign() * 100
    # The winner may change with the image's own cells beside the padding, but not to the padding.
    scores, maps = attention(hidden, prepared, inside=inside, memory=memory)
    assert (scores[1][~inside[1]] == OUTSIDE).all()
    torch.testing.assert_close(maps[0], before[0])
    row, column = divmod(int(maps[1, 1:].abs().sum(0).argmin()), SIZE[1])
    assert inside[1, row, column]


def two_like_objects():
    """Guide of two squares that look the same, each cell knows the way to its own centre."""
    guide = torch.zeros(1, CLASSES + 3, *SIZE)
    guide[:, CLASSES] = 10.0  # background
    for left in (0, 5):
        own = (0, slice(None), slice(1, 4), slice(left, left + 3))
        guide[own][0] = 20.0
        rows, columns = torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij")
        guide[own][-2] = (1 - columns) * STRIDE / UNIT
        guide[own][-1] = (1 - rows) * STRIDE / UNIT
    return guide, (slice(1, 4), slice(0, 3)), (slice(1, 4), slice(5, 8))


@torch.no_grad()
def test_of_like_objects_one_is_lit_and_then_the_other(attention):
    guide, first, second = two_like_objects()
    attention.score.weight.zero_()
    prepared, inside = (
        attention.prepare(guide, STRIDE, UNIT),
        torch.ones(1, *SIZE, dtype=torch.bool),
    )
    hidden = torch.zeros(1, 5, 3, 4)
    memory = torch.ones(1, *SIZE)
    for lit, dark in ((first, second), (second, first)):
        memory[0][lit] = 0
        member = attention(hidden, prepared, inside=inside, memory=memory)[1][0, 0]
        assert member[lit].min() > 0.99
        assert member[dark].max() < 0.1 and member[4:].max() < 0.01
        masks = attention.mask_logits(member)
        assert masks[lit].min() > 3.5 and masks[dark].max() < -3
        memory[0][lit] = 1


def test_who_learns_from_what(attention):
    hidden, guide, inside, memory = scene()
    guide.requires_grad_()
    prepared = attention.prepare(guide, STRIDE, UNIT)
    scores, maps = attention(hidden, prepared, inside=inside, memory=memory)
    scores[0, 2, 2].backward(retain_graph=True)
    assert guide.grad is None and attention.log_bandwidth.grad is None
    assert attention.score.weight.grad.any() and attention.handicap.grad == -memory[0, 2, 2]
    attention.zero_grad()
    attention.mask_logits(maps[:, 0]).sum().backward()
    assert guide.grad[:, -2:].any() and guide.grad[:, :-2].any()
    assert attention.log_bandwidth.grad and attention.logits.grad.all()
    assert attention.score.weight.grad is None and attention.handicap.grad is None


def test_points_are_in_pixels_of_the_input():
    scores = torch.zeros(2, *SIZE)
    scores[0, 5, 7], scores[1, 0, 2] = 1, 1
    assert points_of(scores, STRIDE * SIZE[1]).tolist() == [[30, 22], [10, 2]]
