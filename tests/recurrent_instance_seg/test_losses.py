"""Costs and losses against loops in double precision, closed forms and what must not count."""

import math
from itertools import permutations

import pytest
import torch
from torch.nn import functional as F

from recurrent_instance_seg.decoder import Step
from recurrent_instance_seg.losses import (
    box_loss,
    class_loss,
    coarse_loss,
    flat_matches,
    matched_mean,
    overlap_costs,
    sequence_losses,
    soft_iou_cost,
    stop_loss,
    stop_targets,
)
from recurrent_instance_seg.matcher import match_instances
from recurrent_instance_seg.targets import boxes_of, stack_targets

KINDS = ("iou", "dice", "bce", "position")
ALL_LOSSES = ("mask", "class", "stop", "bce", "dice", "position", "coarse", "box")
NAMES = [f"loss_{name}" for name in ALL_LOSSES]


def cost_by_hand(kind, logits, truth):
    """One mask against one instance, pixels that count in a list."""
    if kind == "position":
        chances = torch.stack(logits).exp() / sum(x.exp() for x in logits)
        return -((chances * torch.stack(truth)).sum() + 1e-6).log()
    p = [1 / (1 + torch.exp(-x)) for x in logits]
    both = sum(a * y for a, y in zip(p, truth))
    total = sum(p) + sum(truth)
    if kind == "iou":
        return 1 - both / (total - both)
    if kind == "dice":
        return 1 - 2 * both / total
    entropy = [-(y * a.log() + (1 - y) * (1 - a).log()) for a, y in zip(p, truth)]
    return sum(entropy) / len(entropy)


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
    costs = overlap_costs(x, masks, valid, (kind,))
    assert tuple(costs) == (kind,) and costs[kind].dtype == torch.float32
    assert costs[kind].shape == (2, 3, 4)
    torch.testing.assert_close(costs[kind], expected.float(), rtol=0, atol=2e-6)
    gradient = weighted_gradient(costs[kind], x)
    torch.testing.assert_close(
        gradient, weighted_gradient(expected, exact).float(), rtol=0, atol=2e-6
    )
    if kind == "iou":
        assert torch.equal(soft_iou_cost(x, masks, valid), costs[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_loops_are_those_of_finite_differences(kind):
    logits, masks, valid = scene(batch=1, steps=1, instances=2, size=(3, 4))
    x = logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: costs_by_hand(kind, x, masks, valid), x)


def test_boolean_truth_is_one_and_zero():
    logits, masks, valid = scene()
    hard = masks > 0.5
    for kind, costs in overlap_costs(logits, hard, valid, KINDS).items():
        assert torch.equal(costs, overlap_costs(logits, hard.float(), valid, (kind,))[kind])


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
    costs = overlap_costs(logits, masks, None, KINDS)
    # <p, y> = 10 / 4, |p| = |y| = 5: what the relaxed formulas give, not 0.
    assert costs["iou"].item() == pytest.approx(1 - 2.5 / 7.5)
    assert costs["dice"].item() == pytest.approx(1 - 5 / 10)
    assert costs["bce"].item() == pytest.approx(10 * math.log(2) / 20)


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_pixels_never_count(kind):
    logits, masks, valid = scene()
    x = logits.float().requires_grad_()
    costs = overlap_costs(x, masks, valid, (kind,))[kind]
    outside = ~valid[:, None].expand_as(x)
    assert not weighted_gradient(costs, x)[outside].any()
    changed = logits.float().masked_fill(outside, 40.0)
    other = masks.masked_fill(~valid[:, None], 1.0)
    assert torch.equal(overlap_costs(changed, other, valid, (kind,))[kind], costs)


def test_an_image_that_is_ignored_as_a_whole_stays_finite():
    logits, masks, valid = scene()
    valid[1] = False
    x = logits.float().requires_grad_()
    for kind, costs in overlap_costs(x, masks, valid, KINDS).items():
        worst = {"bce": 0.0, "position": -math.log(1e-6)}.get(kind, 1.0)
        torch.testing.assert_close(costs[1], torch.full((3, 4), worst))
        assert weighted_gradient(costs, x).isfinite().all()


def test_extreme_logits_stay_finite():
    logits, masks, valid = scene()
    x = (1e4 * logits.float()).requires_grad_()
    for costs in overlap_costs(x, masks, valid, KINDS).values():
        assert costs.isfinite().all()
        assert weighted_gradient(costs, x).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_costs_are_computed_in_float32_under_autocast(dtype):
    logits, masks, valid = scene(size=(16, 16))
    x = logits.to(dtype)
    expected = overlap_costs(x.float(), masks, valid, KINDS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        costs = overlap_costs(x, masks, valid, KINDS)
    for kind in KINDS:
        assert costs[kind].dtype == torch.float32
        assert torch.equal(costs[kind], expected[kind])


def test_no_instances():
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    costs = overlap_costs(logits, torch.zeros(2, 0, 4, 5), None, KINDS)
    for table in costs.values():
        assert table.shape == (2, 3, 0)
    matches = match_instances(costs["iou"], [0, 0])
    loss = matched_mean(costs["iou"], matches)
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


def test_box_loss():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(3, 2, 4, generator=generator)
    truth = torch.rand(3, 4, 4, generator=generator)
    squares = [(boxes[i, t, n] - truth[i, k, n]).item() ** 2 for i, t, k in FLAT for n in range(4)]
    assert box_loss(boxes, truth, MATCHES).item() == pytest.approx(sum(squares) / 12)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4)])
def test_without_matches_losses_are_zero_and_connected(shape):
    nothing = pairs([], [])
    x = torch.randn(shape, requires_grad=True)
    results = [matched_mean(x, nothing), class_loss(x, torch.zeros(2, 0).long(), nothing)]
    results.append(box_loss(x, torch.zeros(2, 0, 4), nothing))
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


def stop_by_hand(logits, num_instances, balanced):
    """-log of the probability of what is right, by lists of going on and of stopping."""
    going, stopping = [], []
    for row, n in zip(logits.tolist(), num_instances):
        going += [math.log(1 + math.exp(-x)) for x in row[:n]]
        stopping += [math.log(1 + math.exp(x)) for x in row[n : n + 1]]
    if not balanced:
        return sum(going + stopping) / len(going + stopping)
    means = [sum(terms) / len(terms) for terms in (going, stopping) if terms]
    return sum(means) / len(means)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("num_instances", [[2, 0, 3], [0, 0, 0], [9, 4, 5], [1, 4, 2]])
def test_stop_loss(num_instances, balanced):
    logits = 2 * torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    loss = stop_loss(logits, num_instances, balanced)
    assert loss.item() == pytest.approx(stop_by_hand(logits, num_instances, balanced), rel=1e-5)
    loss.backward()
    for row, n in zip(logits.grad, num_instances):
        assert (row[:n] < 0).all()  # up: go on
        assert (row[n : n + 1] > 0).all()
        assert not row[n + 1 :].any()


def test_balance_in_closed_form():
    # 6 steps go on with log 2 each, 2 stop with log(1 + e).
    logits = torch.zeros(2, 4)
    logits[:, 3] = 1
    plain, balanced = (stop_loss(logits, [3, 3], x).item() for x in (False, True))
    stop = math.log(1 + math.e)
    assert plain == pytest.approx((6 * math.log(2) + 2 * stop) / 8)
    assert balanced == pytest.approx((math.log(2) + stop) / 2)


def sequence(steps=3, counts=(2, 0, 4), size=(8, 12), seed=0, stride=2):
    """A stacked sequence with everything in it, and targets of a few pixels to many."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(len(counts), steps, *shape, generator=generator)

    grid = [n // stride for n in size]
    coarse = (random(size[0] // 4, size[1] // 4), random(*grid))
    made = Step(random(*grid), random(3), random(), coarse, torch.sigmoid(random(4)))
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


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_sequence_losses_are_those_of_the_best_assignment(stride):
    steps, targets = sequence()
    compared = targets.at(stride)
    logits = enlarged(steps.masks, compared.valid.shape[1:])
    args = (logits.double(), compared.masks, compared.valid)
    # One instance may be empty on a coarse grid, which only the code is made for.
    costs = overlap_costs(*args, KINDS) | {"bce": costs_by_hand("bce", *args)}
    matches = best_matches(costs["iou"], targets.counts)
    losses = sequence_losses(steps, targets, NAMES, stride)
    assert set(losses) == set(NAMES)
    expected = {
        "loss_mask": matched_mean(costs["iou"], matches),
        **{f"loss_{kind}": matched_mean(costs[kind], matches) for kind in KINDS[1:]},
        "loss_class": class_loss(steps.classes, targets.classes, matches),
        "loss_stop": stop_loss(steps.stop, targets.counts),
        "loss_coarse": coarse_loss(steps.coarse, targets, matches),
        "loss_box": box_loss(steps.boxes, boxes_of(targets), matches),
    }
    for name in NAMES:
        assert losses[name].shape == ()
        assert losses[name].item() == pytest.approx(expected[name].item(), rel=1e-5), name


def test_coarse_loss_compares_every_level_on_its_own_grid():
    steps, targets = sequence()
    matches = pairs([(0, 1), (1, 0)], [], [(0, 3), (1, 1), (2, 2)])
    means = []
    for logits, stride in zip(steps.coarse, (4, 2)):
        level = targets.at(stride)
        table = costs_by_hand("iou", logits.double(), level.masks, level.valid)
        entries = [table[i, t, k].item() for i, t, k in zip(*flat_matches(matches))]
        means.append(sum(entries) / len(entries))
    assert coarse_loss(steps.coarse, targets, matches).item() == pytest.approx(
        sum(means) / 2, rel=1e-5
    )


def test_only_what_is_asked_for_is_computed():
    steps, targets = sequence()
    always = ["loss_mask", "loss_class", "loss_stop"]
    assert sorted(sequence_losses(steps, targets, [])) == sorted(always)
    some = sequence_losses(steps._replace(coarse=(), boxes=None), targets, ["loss_dice"])
    assert sorted(some) == sorted([*always, "loss_dice"])


def test_balance_reaches_the_stop_loss():
    steps, targets = sequence()
    plain, balanced = (
        sequence_losses(steps, targets, [], balanced=x)["loss_stop"] for x in (False, True)
    )
    assert plain == stop_loss(steps.stop, targets.counts, False)
    assert balanced == stop_loss(steps.stop, targets.counts, True) != plain


def test_given_matches_replace_the_assignment():
    steps, targets = sequence()
    given = pairs([(0, 1), (1, 0)], [], [(0, 3), (1, 2), (2, 0)])
    losses = sequence_losses(steps, targets, NAMES, 2, True, given)
    costs = soft_iou_cost(steps.masks, targets.at(2).masks, targets.at(2).valid)
    assert losses["loss_mask"] == matched_mean(costs, given)
    assert losses["loss_class"] == class_loss(steps.classes, targets.classes, given)
    assert losses["loss_box"] == box_loss(steps.boxes, boxes_of(targets), given)


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_the_order_of_the_instances_does_not_matter(steps):
    made, targets = sequence(steps)
    expected = sequence_losses(made, targets, NAMES)
    flipped = [targets.masks[i, :n].flip(0) for i, n in enumerate(targets.counts)]
    classes = [targets.classes[i, :n].flip(0) for i, n in enumerate(targets.counts)]
    losses = sequence_losses(made, stack_targets(flipped, classes, targets.valid), NAMES)
    for name in NAMES:
        torch.testing.assert_close(losses[name], expected[name])


def test_gradients_reach_the_matched_steps_only():
    steps, targets = sequence(steps=5, counts=(2, 0, 4))
    fields = [steps.masks, steps.classes, steps.stop, *steps.coarse, steps.boxes]
    leaves = [x.requires_grad_() for x in fields]
    losses = sequence_losses(steps, targets, NAMES)
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
    losses = sequence_losses(made, targets, NAMES)
    assert all(losses[name] == 0 for name in NAMES if name != "loss_stop")
    assert losses["loss_stop"] > 0
    masks, classes, stop = torch.autograd.grad(sum(losses.values()), leaves)
    assert not masks.any() and not classes.any()
    assert (stop[:, 0] > 0).all() and not stop[:, 1:].any()


def test_a_broken_mask_is_seen_in_the_loss_and_breaks_nothing_else():
    steps, targets = sequence()
    steps.masks[2, 1] = float("nan")
    losses = sequence_losses(steps, targets, NAMES)
    assert losses["loss_mask"].isnan()
    assert losses["loss_class"].isfinite() and losses["loss_stop"].isfinite()


def test_low_precision_gives_losses_in_float32():
    steps, targets = sequence()
    low = Step(*(x.bfloat16() for x in steps[:3]), (), steps.boxes.bfloat16())
    low = low._replace(coarse=tuple(x.bfloat16() for x in steps.coarse))
    high = Step(*(x.float() for x in low[:3]), tuple(x.float() for x in low.coarse))
    high = high._replace(boxes=low.boxes.float())
    expected = sequence_losses(high, targets, NAMES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = sequence_losses(low, targets, NAMES)
    for name in NAMES:
        assert losses[name].dtype == torch.float32, name
        torch.testing.assert_close(losses[name], expected[name])
