"""Peaks against loops over all cells and all pairs."""

import itertools
import math
import sys

import numpy as np
import pytest
import torch

from embedding_instance_seg.peaks import HALF_WIDTH, NEIGHBOURHOOD, local_maxima, without_repeats
from instance_seg_analysis.benchmark.timing import peak_memory

MEBIBYTE = 2**20
EVERYWHERE = torch.tensor(True)


def maxima_by_hand(values, among, threshold):
    """Rows and columns of the peaks, by a look at every neighbour of every cell."""
    height, width = values.shape
    reach = NEIGHBOURHOOD // 2
    peaks = []
    for y, x in itertools.product(range(height), range(width)):
        rows = range(max(y - reach, 0), min(y + reach + 1, height))
        columns = range(max(x - reach, 0), min(x + reach + 1, width))
        highest = all(values[y, x] >= values[r, c] for r in rows for c in columns)
        if highest and among[y, x] and values[y, x] >= threshold:
            peaks.append([y, x])
    return sorted(peaks, key=lambda peak: -values[tuple(peak)])  # stable: equal ones row by row


def maxima(values, among=EVERYWHERE, threshold=0.0):
    values = torch.as_tensor(values)
    found = local_maxima(values, among.expand(values.shape), threshold=threshold)
    assert found.dtype == torch.int64 and found.shape[1:] == (2,)
    return found.tolist()


@pytest.mark.parametrize("levels", [4, 20, 10**6])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 4), (17, 23)])
def test_maxima_are_those_of_the_loop(levels, size):
    """Few levels make ties and plateaus."""
    generator = torch.Generator().manual_seed(sum(size))
    for threshold in (0.0, 0.5, 0.9):
        values = (levels * torch.rand(size, generator=generator)).floor() / levels
        among = torch.rand(size, generator=generator) < 0.8
        assert maxima(values, among, threshold) == maxima_by_hand(values, among, threshold)


def test_maxima_fall():
    values = torch.zeros(7, 21)
    values[3, 2], values[0, 10], values[6, 20] = 0.7, 0.9, 0.8
    assert maxima(values, threshold=0.1) == [[0, 10], [6, 20], [3, 2]]


def test_all_of_a_plateau_are_maxima():
    assert maxima(torch.full((3, 4), 0.25)) == list(
        map(list, itertools.product(range(3), range(4)))
    )


def test_the_square_around_a_maximum_is_five_cells_wide():
    values = torch.zeros(1, 9)
    values[0, 2], values[0, 4] = 0.6, 0.9
    assert maxima(values, threshold=0.5) == [[0, 4]]
    values[0, 4], values[0, 5] = 0, 0.9
    assert maxima(values, threshold=0.5) == [[0, 5], [0, 2]]


def test_a_higher_cell_hides_its_neighbours_even_where_it_may_not_be_chosen():
    values = torch.tensor([[0.6, 0.9, 0, 0, 0, 0.7]])
    assert maxima(values, values != 0.9, threshold=0.5) == [[0, 5]]


def test_the_threshold_is_the_least_value():
    values = torch.tensor([[0.5, 0, 0, 0.25]])
    assert maxima(values, threshold=0.25) == [[0, 0], [0, 3]]
    assert maxima(values, threshold=0.26) == [[0, 0]]
    assert maxima(values, threshold=0.51) == []
    assert maxima(values, torch.tensor(False)) == []


def test_cells_that_are_no_numbers_are_no_maxima():
    values = torch.tensor([[math.nan, 0, 0, 0.9, 0, 0, 0, math.nan]])
    assert maxima(values, threshold=0.5) == [[0, 3]]


def kept_by_hand(points, radii):
    """Greedy: a point is kept unless it lies within the radius of one that is kept already."""
    points, radii = points.double().numpy(), radii.double().numpy()
    kept = []
    for number, point in enumerate(points):
        if all(np.linalg.norm(point - points[k]) > radii[k] for k in kept):
            kept.append(number)
    return kept


@pytest.mark.parametrize("channels", [1, 2, 3, 16])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_kept_is_what_the_greedy_loop_keeps(channels, seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(150, channels, generator=generator)
    points[100:] = points[:50]  # each of these is there twice
    radii = (0.05 + torch.rand(150, generator=generator)) * channels**0.5
    kept = without_repeats(points, radii)
    assert kept.dtype == torch.int64
    assert kept.tolist() == kept_by_hand(points, radii)
    assert 2 < len(kept) < 100


def line(*positions):
    return torch.tensor(positions)[:, None]


def test_what_is_left_out_leaves_nothing_out():
    # The second is near the first and the third near the second, but not near the first.
    assert without_repeats(line(0.0, 0.9, 1.8), torch.ones(3)).tolist() == [0, 2]


def test_the_radius_of_the_better_one_counts():
    assert without_repeats(line(0.0, 2.0), torch.tensor([1.0, 9.0])).tolist() == [0, 1]
    assert without_repeats(line(2.0, 0.0), torch.tensor([9.0, 1.0])).tolist() == [0]


def test_one_at_the_rim_is_within():
    assert without_repeats(line(0.0, 1.0), torch.ones(2)).tolist() == [0]
    assert without_repeats(line(0.0, 1.0), torch.full((2,), 0.999)).tolist() == [0, 1]


def test_none_one_and_many_equal_points():
    assert without_repeats(torch.zeros(0, 3), torch.zeros(0)).tolist() == []
    assert without_repeats(torch.zeros(1, 3), torch.ones(1)).tolist() == [0]
    assert without_repeats(torch.ones(50, 3), torch.full((50,), 1e-6)).tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_autocast_and_gradients(dtype):
    points, radii = line(0.0, 1.0, 4.0, 4.5, 9.0), torch.tensor([1.0, 1, 0.25, 1, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kept = without_repeats(points.to(dtype).requires_grad_(), radii.to(dtype).requires_grad_())
    assert kept.tolist() == [0, 2, 3, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_plateau_does_not_take_the_memory_of_all_its_pairs():
    points, radii = torch.zeros(4000, 2), torch.ones(4000)  # as lists of numbers: 500 MB
    assert peak_memory(lambda: without_repeats(points, radii)) < 32 * MEBIBYTE


def test_half_width_is_where_a_gaussian_is_one_half():
    assert math.exp(-(HALF_WIDTH**2) / 2) == pytest.approx(0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees():
    values = torch.rand(40, 50, generator=torch.Generator().manual_seed(0))
    among = values < 0.99
    found = local_maxima(values.cuda(), among.cuda(), threshold=0.5)
    assert found.is_cuda and found.cpu().equal(local_maxima(values, among, threshold=0.5))
    points, radii = values[:, :2], values[:, 2]
    kept = without_repeats(points.cuda(), radii.cuda())
    assert kept.is_cuda and kept.cpu().equal(without_repeats(points, radii))
