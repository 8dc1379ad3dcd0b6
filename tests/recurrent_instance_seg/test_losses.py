"""Costs and losses against loops in double precision, closed forms and what must not count."""

import math
from itertools import permutations

import pytest
import torch
from torch.nn import functional as F

from recurrent_instance_seg.criterion import SequenceCriterion
from recurrent_instance_seg.decoders import Step
from recurrent_instance_seg.losses import (
    class_loss,
    flat_matches,
    matched_mean,
    position_cost,
    soft_iou_cost,
    stop_loss,
    stop_targets,
)
from recurrent_instance_seg.matcher import match_instances
from recurrent_instance_seg.targets import stack_targets

COSTS = {"iou": soft_iou_cost, "position": position_cost}
KINDS = list(COSTS)
NAMES = [f"loss_{name}" for name in ("mask", "class", "stop", "position")]


def cost_by_hand(kind, logits, truth):
    """One mask against one instance, pixels that count in a list."""
    if kind == "position":
        chances = torch.stack(logits).exp() / sum(x.exp() for x in logits)
        return -((chances * torch.stack(truth)).sum() + 1e-6).log()
    p = [1 / (1 + torch.exp(-x)) for x in logits]
    both = sum(a * y for a, y in zip(p, truth))
    total = sum(p) + sum(truth)
    return 1 - both / (total - both)


def costs_by_hand(kind, mask_logits, gt_masks, valid=None):
    """(B, T, K) in double: every pair, pixel after pixel."""
    if valid is None:
        valid = torch.ones(len(gt_masks), *gt_masks.shape[2:], dtype=torch.bool)
    table = [
        [[cost_by_hand(kind, [*x[inside]], [*y[inside].double()]) for y in truths] for x in image]
        for image, truths, inside in zip(mask_logits, gt_masks, valid)
    ]
    return torch.stack([torch.stack([torch.stack(row) for row in image]) for image in table])


def scene(batch=2, steps=3, instances=4, size=(4, 5), seed=0):
    """Logits in double, shares of cells, pixels that count (some do not)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, steps, *size, generator=generator).double()
    masks = (torch.rand(batch, instances, *size, generator=generator) * 6 - 3).clamp(0, 1)
    masks[:, :, 1, 2] = 1  # no instance is empty
    valid = torch.rand(batch, *size, generator=generator) < 0.7
    valid[:, 1, 2] = True
    return logits, masks, valid


def weighted_gradient(table, x):
    weights = torch.linspace(-1, 2, table.numel(), dtype=table.dtype).reshape(table.shape)
    return torch.autograd.grad((table * weights).sum(), x, retain_graph=True)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ignoring", [False, True])
def test_costs_and_gradients_equal_the_loops(kind, ignoring):
    logits, masks, valid = scene()
    valid = valid if ignoring else None
    exact = logits.clone().requires_grad_()
    expected = costs_by_hand(kind, exact, masks, valid)
    x = logits.float().requires_grad_()
    costs = COSTS[kind](x, masks, valid)
    assert costs.shape == (2, 3, 4) and costs.dtype == torch.float32
    torch.testing.assert_close(costs, expected.float(), rtol=0, atol=2e-6)
    gradient = weighted_gradient(costs, x)
    torch.testing.assert_close(
        gradient, weighted_gradient(expected, exact).float(), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_loops_are_those_of_finite_differences(kind):
    logits, masks, valid = scene(batch=1, steps=1, instances=2, size=(3, 4))
    x = logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: costs_by_hand(kind, x, masks, valid), x)


def test_boolean_truth_is_one_and_zero():
    logits, masks, valid = scene()
    hard = masks > 0.5
    for cost in COSTS.values():
        assert torch.equal(cost(logits, hard, valid), cost(logits, hard.float(), valid))


def test_soft_iou_in_closed_form():
    masks = torch.zeros(1, 3, 4, 5)
    masks[0, 0, 2, 3] = 1  # one pixel
    masks[0, 1, :2] = 1  # ten; the third is empty
    even = torch.zeros(1, 1, 4, 5)  # probability one half on 20 pixels
    assert soft_iou_cost(even, masks)[0, 0].tolist() == pytest.approx(
        [1 - 0.5 / (10 + 1 - 0.5), 1 - 5 / (10 + 10 - 5), 1]
    )
    exact = 200 * (masks - 0.5)
    costs = soft_iou_cost(exact, masks)[0]
    assert costs.diag().tolist() == pytest.approx([0, 0, 1], abs=1e-5)
    assert costs[0, 1] == costs[1, 0] == costs[2, 0] == 1


def test_half_covered_cells_are_met_by_probability_one_half():
    masks = torch.zeros(1, 1, 4, 5)
    masks[0, 0, :2] = 0.5
    logits = torch.where(masks > 0, 0.0, -100.0)
    # <p, y> = 10 / 4, |p| = |y| = 5: what the relaxed formula gives, not 0.
    assert soft_iou_cost(logits, masks).item() == pytest.approx(1 - 2.5 / 7.5)


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_pixels_never_count(kind):
    logits, masks, valid = scene()
    x = logits.float().requires_grad_()
    costs = COSTS[kind](x, masks, valid)
    outside = ~valid[:, None].expand_as(x)
    assert not weighted_gradient(costs, x)[outside].any()
    changed = logits.float().masked_fill(outside, 40.0)
    other = masks.masked_fill(~valid[:, None], 1.0)
    assert torch.equal(COSTS[kind](changed, other, valid), costs)


def test_an_image_that_is_ignored_as_a_whole_stays_finite():
    logits, masks, valid = scene()
    valid[1] = False
    x = logits.float().requires_grad_()
    for kind, cost in COSTS.items():
        costs = cost(x, masks, valid)
        worst = {"position": -math.log(1e-6)}.get(kind, 1.0)
        torch.testing.assert_close(costs[1], torch.full((3, 4), worst))
        assert weighted_gradient(costs, x).isfinite().all()


def test_extreme_logits_stay_finite():
    logits, masks, valid = scene()
    x = (1e4 * logits.float()).requires_grad_()
    for cost in COSTS.values():
        costs = cost(x, masks, valid)
        assert costs.isfinite().all()
        assert weighted_gradient(costs, x).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_costs_are_computed_in_float32_under_autocast(dtype):
    logits, masks, valid = scene(size=(16, 16))
    x = logits.to(dtype)
    for cost in COSTS.values():
        expected = cost(x.float(), masks, valid)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            costs = cost(x, masks, valid)
        assert costs.dtype == torch.float32
        assert torch.equal(costs, expected)


def test_no_instances():
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    for cost in COSTS.values():
        assert cost(logits, torch.zeros(2, 0, 4, 5)).shape == (2, 3, 0)
    costs = soft_iou_cost(logits, torch.zeros(2, 0, 4, 5))
    loss = matched_mean(costs, match_instances(costs, [0, 0]))
    loss.backward()
    assert loss == 0 and logits.grad is not None and not logits.grad.any()


def pairs(*images):
    """Matches from lists of (step, instance)."""
    tensors = [torch.tensor(image, dtype=torch.int64).reshape(-1, 2) for image in images]
    return [(x[:, 0], x[:, 1]) for x in tensors]


MATCHES = pairs([(0, 2), (1, 0)], [], [(0, 1)])
FLAT = [(0, 0, 2), (0, 1, 0), (2, 0, 1)]


def test_flat_matches():
    vectors = flat_matches(MATCHES)
    assert list(zip(*(x.tolist() for x in vectors))) == FLAT
    assert [x.tolist() for x in flat_matches(pairs([], []))] == [[], [], []]


def test_matched_mean():
    costs = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = matched_mean(costs, MATCHES)
    assert loss.item() == pytest.approx(sum(costs[p].item() for p in FLAT) / 3)
    loss.backward()
    expected = torch.zeros_like(costs)
    for place in FLAT:
        expected[place] = 1 / 3
    torch.testing.assert_close(costs.grad, expected)


def test_class_loss():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 5, generator=generator).requires_grad_()
    classes = torch.randint(5, (3, 4), generator=generator)
    loss = class_loss(logits, classes, MATCHES)
    terms = []
    for image, step, instance in FLAT:
        scores = logits[image, step].tolist()
        total = sum(math.exp(x) for x in scores)
        terms.append(-math.log(math.exp(scores[classes[image, instance]]) / total))
    assert loss.item() == pytest.approx(sum(terms) / 3, rel=1e-5)
    loss.backward()
    judged = {(i, t) for i, t, _ in FLAT}
    assert {(i, t) for i, t in logits.grad.abs().sum(2).nonzero().tolist()} == judged


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4)])
def test_without_matches_losses_are_zero_and_connected(shape):
    nothing = pairs([], [])
    x = torch.randn(shape, requires_grad=True)
    results = [matched_mean(x, nothing), class_loss(x, torch.zeros(2, 0).long(), nothing)]
    for loss in results:
        assert loss.shape == () and loss == 0
        (gradient,) = torch.autograd.grad(loss, x)
        assert not gradient.any()


def test_stop_targets():
    going, judged = stop_targets([2, 0, 3, 7], 4)
    assert going.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert going.dtype == torch.float32 and judged.dtype == torch.bool
    # As many steps as instances, and one more where there is one.
    assert judged.sum(dim=1).tolist() == [3, 1, 4, 4]
    assert all(row == sorted(row, reverse=True) for row in judged.tolist())


def stop_by_hand(logits, num_instances):
    """-log of the probability of what is right, by lists of going on and of stopping."""
    going, stopping = [], []
    for row, n in zip(logits.tolist(), num_instances):
        going += [math.log(1 + math.exp(-x)) for x in row[:n]]
        stopping += [math.log(1 + math.exp(x)) for x in row[n : n + 1]]
    return sum(going + stopping) / len(going + stopping)


@pytest.mark.parametrize("num_instances", [[2, 0, 3], [0, 0, 0], [9, 4, 5], [1, 4, 2]])
def test_stop_loss(num_instances):
    logits = 2 * torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    loss = stop_loss(logits, num_instances)
    assert loss.item() == pytest.approx(stop_by_hand(logits, num_instances), rel=1e-5)
    loss.backward()
    for row, n in zip(logits.grad, num_instances):
        assert (row[:n] < 0).all()  # up: go on
        assert (row[n : n + 1] > 0).all()
        assert not row[n + 1 :].any()


def test_the_stop_loss_in_closed_form():
    # 6 steps go on with log 2 each, 2 stop with log(1 + e).
    logits = torch.zeros(2, 4)
    logits[:, 3] = 1
    stop = math.log(1 + math.e)
    assert stop_loss(logits, [3, 3]).item() == pytest.approx((6 * math.log(2) + 2 * stop) / 8)


def sequence(steps=3, counts=(2, 0, 4), size=(8, 12), seed=0, stride=2, attention=True):
    """A stacked sequence, with points a level coarser, and targets of a few pixels to many."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(len(counts), steps, *shape, generator=generator)

    grid = [n // stride for n in size]
    points = random(size[0] // 4, size[1] // 4) if attention else None
    made = Step(random(*grid), random(3), random(), points)
    masks = [torch.rand(n, *size, generator=generator) < 0.3 for n in counts]
    if counts[-1]:
        masks[-1][0] = False
        masks[-1][0, 3, 4] = True  # one pixel
    classes = [torch.randint(3, (n,), generator=generator) for n in counts]
    valid = torch.rand(len(counts), *size, generator=generator) < 0.8
    valid[:, 3, 4] = True
    return made, stack_targets(masks, classes, valid)


def best_matches(costs, num_instances):
    """The assignment by trying all."""
    matches = []
    for table, n in zip(costs, num_instances):
        steps = min(len(table), n)
        best = min(permutations(range(n), steps), key=lambda way: sum(table[range(steps), way]))  # noqa: B023
        matches.append((torch.arange(steps), torch.tensor(best, dtype=torch.int64)))
    return matches


def enlarged(logits, size):
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def losses_of(steps, targets, matches=None, **options):
    """All losses, of weight 1 where it is not said otherwise."""
    ones = {"class_weight": 1.0, "stop_weight": 1.0, "position_weight": 1.0}
    return SequenceCriterion(**{**ones, **options})(steps, targets, matches)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_sequence_losses_are_those_of_the_best_assignment(stride, attention):
    steps, targets = sequence(attention=attention)
    compared = targets.at(stride)
    logits = enlarged(steps.masks, compared.valid.shape[1:])
    costs = soft_iou_cost(logits.double(), compared.masks, compared.valid)
    positions = position_cost(logits.double(), compared.masks, compared.valid)
    if attention:  # compared on their own grid, whatever the stride
        level = targets.at(4)
        positions = position_cost(steps.attention.double(), level.masks, level.valid)
    matches = best_matches(costs, targets.counts)
    losses = losses_of(steps, targets, stride=stride)
    assert list(losses) == NAMES
    expected = {
        "loss_mask": matched_mean(costs, matches),
        "loss_position": matched_mean(positions, matches),
        "loss_class": class_loss(steps.classes, targets.classes, matches),
        "loss_stop": stop_loss(steps.stop, targets.counts),
    }
    for name in NAMES:
        assert losses[name].shape == ()
        assert losses[name].item() == pytest.approx(expected[name].item(), rel=1e-5), name


def test_weights():
    steps, targets = sequence()
    ones = losses_of(steps, targets)
    weights = {"class_weight": 2.0, "stop_weight": 3.0, "position_weight": 4.0}
    scaled = losses_of(steps, targets, **weights)
    for name, factor in zip(NAMES, (1, 2, 3, 4)):
        assert scaled[name] == factor * ones[name] > 0


def test_only_what_is_asked_for_is_computed():
    steps, targets = sequence(attention=False)
    assert list(losses_of(steps, targets, position_weight=0.0)) == NAMES[:3]
    # A head without a weight stays in the graph: distributed training waits for its gradient.
    leaf = steps.classes.requires_grad_()
    loss = losses_of(steps, targets, class_weight=0.0)["loss_class"]
    assert loss == 0 and not torch.autograd.grad(loss, leaf)[0].any()


def test_given_matches_replace_the_assignment():
    steps, targets = sequence()
    given = pairs([(0, 1), (1, 0)], [], [(0, 3), (1, 2), (2, 0)])
    losses = losses_of(steps, targets, given, stride=2)
    costs = soft_iou_cost(steps.masks, targets.at(2).masks, targets.at(2).valid)
    assert losses["loss_mask"] == matched_mean(costs, given)
    assert losses["loss_class"] == class_loss(steps.classes, targets.classes, given)
    level = targets.at(4)
    positions = position_cost(steps.attention, level.masks, level.valid)
    assert losses["loss_position"] == matched_mean(positions, given)


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_the_order_of_the_instances_does_not_matter(steps):
    made, targets = sequence(steps)
    expected = losses_of(made, targets)
    flipped = [targets.masks[i, :n].flip(0) for i, n in enumerate(targets.counts)]
    classes = [targets.classes[i, :n].flip(0) for i, n in enumerate(targets.counts)]
    losses = losses_of(made, stack_targets(flipped, classes, targets.valid))
    for name in NAMES:
        torch.testing.assert_close(losses[name], expected[name])


def test_gradients_reach_the_matched_steps_only():
    steps, targets = sequence(steps=5, counts=(2, 0, 4))
    leaves = [x.requires_grad_() for x in steps]
    losses = losses_of(steps, targets)
    gradients = torch.autograd.grad(sum(losses.values()), leaves)
    for leaf, gradient in zip(leaves, gradients):
        reached = gradient.flatten(2).any(dim=2) if gradient.dim() > 2 else gradient != 0
        # Stopping is judged one step further.
        expected = [3, 1, 5] if leaf is steps.stop else [2, 0, 4]
        assert reached.sum(dim=1).tolist() == expected


@pytest.mark.parametrize("steps", [1, 3])
def test_a_batch_without_objects_only_teaches_to_stop(steps):
    made, targets = sequence(steps, counts=(0, 0))
    leaves = [x.requires_grad_() for x in made[:3]]
    losses = losses_of(made, targets)
    assert all(losses[name] == 0 for name in NAMES if name != "loss_stop")
    assert losses["loss_stop"] > 0
    masks, classes, stop = torch.autograd.grad(sum(losses.values()), leaves)
    assert not masks.any() and not classes.any()
    assert (stop[:, 0] > 0).all() and not stop[:, 1:].any()


def test_a_broken_mask_is_seen_in_the_loss_and_breaks_nothing_else():
    steps, targets = sequence()
    steps.masks[2, 1] = float("nan")
    losses = losses_of(steps, targets)
    assert losses["loss_mask"].isnan()
    assert losses["loss_class"].isfinite() and losses["loss_stop"].isfinite()


def test_low_precision_gives_losses_in_float32():
    steps, targets = sequence()
    low = Step(*(x.bfloat16() for x in steps))
    expected = losses_of(Step(*(x.float() for x in low)), targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(low, targets)
    for name in NAMES:
        assert losses[name].dtype == torch.float32, name
        torch.testing.assert_close(losses[name], expected[name])
