"""The assignment against all permutations."""

from itertools import permutations

import pytest
import torch

from recurrent_instance_seg.matcher import match_instances


def least_sum(table, n):
    """The least sum over all ways to give each of the first min(T, n) steps one of n instances."""
    steps = min(len(table), n)
    ways = permutations(range(n), steps)
    return min(sum(float(table[t, k]) for t, k in enumerate(way)) for way in ways)


def check_format(matches, num_steps, num_instances):
    """Every image: the first min(T, n) steps in order, instances below n, none twice."""
    assert len(matches) == len(num_instances)
    for (steps, instances), n in zip(matches, num_instances):
        assert steps.dtype == instances.dtype == torch.int64
        assert steps.device.type == instances.device.type == "cpu"
        assert steps.tolist() == list(range(min(num_steps, n)))
        assert len(set(instances.tolist())) == len(instances) == len(steps)
        assert all(0 <= k < n for k in instances.tolist())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("num_steps", "padded", "num_instances"),
    [
        (4, 4, [4, 4]),
        (5, 4, [3, 0, 4, 1]),  # more steps than instances
        (3, 6, [6, 2, 3, 5]),  # more instances than steps, too
        (1, 5, [5, 1, 0]),
        (2, 0, [0, 0]),
    ],
)
def test_equals_the_best_permutation(num_steps, padded, num_instances, seed):
    generator = torch.Generator().manual_seed(seed)
    cost = torch.rand(len(num_instances), num_steps, padded, generator=generator)
    matches = match_instances(cost, num_instances)
    check_format(matches, num_steps, num_instances)
    for table, (steps, instances), n in zip(cost, matches, num_instances):
        assert table[steps, instances].sum().item() == pytest.approx(least_sum(table, n))


def test_steps_after_the_last_instance_do_not_compete():
    # Step 2 would suit both instances perfectly, but two instances are for steps 0 and 1.
    cost = torch.tensor([[[0.9, 0.8], [0.3, 0.9], [0.0, 0.0]]])
    ((steps, instances),) = match_instances(cost, [2])
    assert steps.tolist() == [0, 1]
    assert instances.tolist() == [1, 0]


def test_padding_is_never_assigned():
    # The third column belongs to the other image.
    cost = torch.tensor([[[0.9, 0.8, 0.0], [0.7, 0.8, 0.0], [0.5, 0.5, 0.0]]] * 2)
    first, second = match_instances(cost, [2, 3])
    assert first[1].tolist() == [1, 0]
    assert 2 in second[1].tolist()


def test_the_least_sum_and_not_the_greedy_choice():
    cost = torch.tensor([[[0.0, 0.1], [0.2, 0.9]]])
    ((_, instances),) = match_instances(cost, [2])
    assert instances.tolist() == [1, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_costs_are_the_worst_ones(bad):
    cost = torch.tensor([[[bad, 0.9, 0.5], [0.9, bad, 0.5], [0.5, 0.1, 0.9]]])
    ((_, instances),) = match_instances(cost, [3])
    assert instances.tolist() == [2, 0, 1]
    matches = match_instances(torch.full((2, 3, 3), bad), [3, 2])
    check_format(matches, 3, [3, 2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_costs_of_other_types_and_in_a_graph(dtype):
    cost = torch.tensor([[[0.5, 0.25], [0.125, 0.5]]], dtype=dtype, requires_grad=True)
    ((_, instances),) = match_instances(cost, [2])
    assert instances.tolist() == [1, 0]
    assert cost.grad is None
