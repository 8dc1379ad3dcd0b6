"""Clustering against slow, obvious loops in numpy, and on clusters whose answer is known."""

import math
import sys

import numpy as np
import pytest
import torch

from embedding_instance_seg import centers as centers_module
from embedding_instance_seg.centers import assign, centers_of
from embedding_instance_seg.clustering import hdbscan, mean_shift
from embedding_instance_seg.search import PixelSearch
from instance_seg_analysis.benchmark.references import sklearn_mean_shift
from instance_seg_analysis.benchmark.timing import peak_memory
from instance_seg_common.errors import UserError

MEBIBYTE = 2**20


def numbered_by_size(labels, min_size=1):
    """Labels of any numbers -> 0, 1, ... by falling size, then by number; small ones are -1."""
    sizes = {k: (labels == k).sum() for k in np.unique(labels)}
    kept = sorted((k for k in sizes if sizes[k] >= min_size), key=lambda k: (-sizes[k], k))
    result = np.full(len(labels), -1)
    for new, old in enumerate(kept):
        result[labels == old] = new
    return result


def mean_shift_by_hand(points, bandwidth, min_size=1, max_iterations=100, seed=0):
    """The paper's procedure on all pixels, every time."""
    x = points.numpy().astype(np.float64)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).numpy()
    labels = np.full(len(x), -1)
    found = 0
    while (labels < 0).any():
        start = next(i for i in order if labels[i] < 0)

        def near(point):
            distance = np.linalg.norm(x - point, axis=1)  # noqa: B023
            return (labels < 0) & (distance <= bandwidth)

        inside = near(x[start])
        for _ in range(max_iterations):
            before, inside = inside, near(x[inside].mean(axis=0))
            if (before == inside).all():
                break
        labels[inside] = found
        found += 1
    return numbered_by_size(labels, min_size)


def blobs(count, per_cluster=40, channels=8, noise=0.1, apart=6.0, seed=0):
    """Clusters far apart: (count * per_cluster, channels) points in random order, labels."""
    generator = torch.Generator().manual_seed(seed)
    centers = apart * torch.rand(count, channels, generator=generator)
    while len(centers) > 1 and torch.pdist(centers).min() < 2.5:
        centers = 1.1 * centers
    labels = torch.arange(count).repeat_interleave(per_cluster)
    labels = labels[torch.randperm(len(labels), generator=generator)]
    points = torch.randn(len(labels), channels, generator=generator)
    return centers[labels] + noise * points, labels


def leaning_blobs(count=30, seed=0):
    """Clusters on a line, 4 apart; a third of the members lean up to 1.3 to the next cluster."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count).repeat_interleave(60)
    lean = torch.zeros(len(labels))
    leans = torch.arange(len(labels)) % 3 == 0
    lean[leans] = 0.9 + 0.4 * torch.rand(int(leans.sum()), generator=generator)
    points = 0.05 * torch.randn(len(labels), 3, generator=generator)
    points[:, 0] += 4.0 * labels + torch.where(labels % 2 == 0, lean, -lean)
    return points, labels


def same_partition(a, b):
    """Both divide the pixels in the same way; left over is one part."""
    pairs = set(zip(a.tolist(), b.tolist()))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


def cloud(kind, seed):
    """Points without clear clusters, where the order of the steps shows."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "slope":  # the mean climbs for a long time
        return torch.empty(400, 2).exponential_(generator=generator) * torch.tensor([4.0, 0.2])
    if kind == "plane":
        return 4 * torch.rand(500, 2, generator=generator)
    return blobs(12, per_cluster=30, channels=16, noise=0.35, seed=seed)[0]


@pytest.mark.parametrize("kind", ["slope", "plane", "overlapping"])
@pytest.mark.parametrize("bandwidth", [0.4, 1.0, 1.7])
@pytest.mark.parametrize("seed", [0, 1])
def test_mean_shift_is_the_procedure_of_the_paper(kind, bandwidth, seed):
    points = cloud(kind, seed)
    for options in ({}, {"min_size": 5}, {"max_iterations": 2}):
        labels = mean_shift(points, bandwidth=bandwidth, seed=seed, **options)
        expected = mean_shift_by_hand(points, bandwidth, seed=seed, **options)
        np.testing.assert_array_equal(labels.numpy(), expected)


def test_mean_that_leaves_its_candidates_gets_new_ones(monkeypatch):
    searches = []
    around = PixelSearch.around
    monkeypatch.setattr(PixelSearch, "around", lambda *args: searches.append(1) or around(*args))
    labels = mean_shift(cloud("slope", 0), bandwidth=0.4)
    assert len(searches) > int(labels.max()) + 1


@pytest.mark.parametrize("count", [1, 2, 7, 400])
def test_mean_shift_finds_separate_clusters(count):
    points, truth = blobs(count, per_cluster=15)
    labels = mean_shift(points, bandwidth=1.0)
    assert labels.dtype == torch.int64 and labels.shape == truth.shape
    assert same_partition(labels, truth)


@pytest.mark.parametrize("seed", range(5))
def test_leaning_members_need_the_shift(seed):
    points, truth = leaning_blobs(seed=seed)
    assert same_partition(mean_shift(points, bandwidth=1.5, seed=seed), truth)
    without_shift = mean_shift(points, bandwidth=1.5, seed=seed, max_iterations=0)
    assert not same_partition(without_shift, truth)
    by_hand = mean_shift_by_hand(points, 1.5, seed=seed, max_iterations=0)
    np.testing.assert_array_equal(without_shift.numpy(), by_hand)


def test_no_pixel_one_pixel_equal_pixels():
    assert mean_shift(torch.zeros(0, 4), bandwidth=1.0).tolist() == []
    assert mean_shift(torch.ones(1, 4), bandwidth=1.0).tolist() == [0]
    assert mean_shift(torch.full((50, 4), 3.7), bandwidth=1e-3).tolist() == [0] * 50
    assert mean_shift(torch.ones(1, 4), bandwidth=1.0, min_size=2).tolist() == [-1]


def test_small_clusters_are_left_over_and_sizes_fall():
    sizes = [3, 20, 7, 6, 12]
    truth = torch.arange(5).repeat_interleave(torch.tensor(sizes))
    points = 10.0 * truth[:, None] + 0.1 * torch.rand(len(truth), 2)
    everything = mean_shift(points, bandwidth=1.0)
    assert torch.bincount(everything).tolist() == sorted(sizes, reverse=True)
    labels = mean_shift(points, bandwidth=1.0, min_size=7)
    assert torch.bincount(labels[labels >= 0]).tolist() == [20, 12, 7]
    assert (labels < 0).equal((truth == 0) | (truth == 3))


def test_mean_shift_depends_on_its_seed_only():
    points = cloud("plane", 0)
    state = torch.random.get_rng_state()
    first = mean_shift(points, bandwidth=0.8, seed=3)
    assert torch.random.get_rng_state().equal(state)
    torch.rand(5)
    assert first.equal(mean_shift(points, bandwidth=0.8, seed=3))
    assert not first.equal(mean_shift(points, bandwidth=0.8, seed=4))


def test_order_of_pixels_does_not_matter_for_separate_clusters():
    points, _ = blobs(9)
    labels = mean_shift(points, bandwidth=1.0)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(5))
    assert same_partition(mean_shift(points[order], bandwidth=1.0), labels[order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    points, truth = blobs(6)
    half = points.to(dtype)
    labels = mean_shift(half, bandwidth=1.0)
    assert same_partition(labels, truth)
    centers = centers_of(half, labels)
    assert centers.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    nearest, distances = assign(half, centers, torch.ones(6), reach=1.0)
    assert nearest.equal(labels) and distances.dtype == centers.dtype


def test_autocast_gradient_and_strides_change_nothing():
    points = cloud("overlapping", 2)
    expected = mean_shift(points, bandwidth=2.0)
    centers = centers_of(points, expected)
    view = points.T.contiguous().T.requires_grad_()  # as the pixels of an (E, H, W) map
    with torch.autocast("cpu", dtype=torch.bfloat16):
        labels = mean_shift(view, bandwidth=2.0)
        means = centers_of(view, labels)
        nearest, distances = assign(view, means, torch.ones(len(means)), reach=1.0)
    assert labels.equal(expected)
    torch.testing.assert_close(means, centers)
    reference = assign(points, centers, torch.ones(len(centers)), reach=1.0)
    assert nearest.equal(reference[0])
    torch.testing.assert_close(distances, reference[1])
    assert not (labels.requires_grad or means.requires_grad or distances.requires_grad)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixels_that_are_not_finite_are_left_over(value):
    points, truth = blobs(3)
    points[5, 2] = value
    truth[5] = -1
    assert same_partition(mean_shift(points, bandwidth=1.0), truth)
    assert assign(points, centers_of(points, truth), torch.ones(3), reach=9.0)[0].equal(truth)


def test_large_offset_does_not_hide_clusters():
    points, truth = blobs(5)
    assert same_partition(mean_shift(points + 1000, bandwidth=1.0), truth)
    centers = centers_of(points, truth) + 1000
    labels, _ = assign(points + 1000, centers, torch.ones(5), reach=1.0)
    assert labels.equal(truth)


def assign_by_hand(points, centers, bandwidths, reach):
    offsets = points.double().numpy()[:, None] - centers.double().numpy()
    distances = np.linalg.norm(offsets, axis=2) / bandwidths.double().numpy()
    labels = distances.argmin(axis=1)
    return np.where(distances.min(axis=1) <= reach, labels, -1), distances.min(axis=1)


@pytest.mark.parametrize("block", [centers_module.BLOCK_NUMBERS, 100, 1])
@pytest.mark.parametrize("reach", [0.7, 2.0, math.inf])
def test_assign_is_the_nearest_center(monkeypatch, block, reach):
    monkeypatch.setattr(centers_module, "BLOCK_NUMBERS", block)
    generator = torch.Generator().manual_seed(0)
    points, centers = torch.randn(301, 5, generator=generator), torch.randn(23, 5)
    bandwidths = 0.5 + torch.rand(23, generator=generator)
    labels, distances = assign(points, centers, bandwidths, reach=reach)
    expected, nearest = assign_by_hand(points, centers, bandwidths, reach)
    np.testing.assert_array_equal(labels.numpy(), expected)
    np.testing.assert_allclose(distances.numpy(), nearest, rtol=1e-5)
    assert labels.dtype == torch.int64 and (reach < math.inf or (labels >= 0).all())


def test_assign_ties_and_the_rim():
    centers = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 0.0], [10.0, 0.0]])
    bandwidths = torch.tensor([1.0, 1.0, 1.0, 4.0])
    points = torch.tensor([[1.0, 0.0], [2.0, 0.0], [6.0, 0.0], [6.5, 0.0], [1.0, 9.0]])
    labels, distances = assign(points, centers, bandwidths, reach=1.0)
    assert labels.tolist() == [0, 1, 3, 3, -1]
    assert distances[:4].tolist() == [1.0, 0.0, 1.0, 0.875]
    assert assign(points, centers, bandwidths, reach=0.999)[0].tolist() == [-1, 1, -1, 3, -1]


def test_assign_without_pixels_or_centers():
    points, centers = torch.rand(4, 3), torch.rand(2, 3)
    for reach in (1.0, math.inf):
        labels, distances = assign(points, centers[:0], torch.ones(0), reach=reach)
        assert labels.tolist() == [-1] * 4 and distances.tolist() == [math.inf] * 4
        labels, distances = assign(points[:0], centers, torch.ones(2), reach=reach)
        assert labels.shape == distances.shape == (0,) and labels.dtype == torch.int64


def test_centers_are_means_of_the_members():
    points, labels = blobs(5)
    labels[::7] = -1
    expected = torch.stack([points[labels == k].mean(0) for k in range(5)])
    torch.testing.assert_close(centers_of(points, labels), expected)
    for none in (torch.full((len(points),), -1), torch.zeros(0, dtype=torch.int64)):
        assert centers_of(points[: len(none)], none).shape == (0, 8)


@pytest.fixture
def one_thread():
    """A forked process that measures memory must not wait for threads it does not have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_pixels_times_clusters(one_thread):
    points, centers = torch.rand(200_000, 4), torch.rand(400, 4)  # all distances: 305 MiB
    assert peak_memory(lambda: assign(points, centers, torch.ones(400), reach=1.0)) < 32 * MEBIBYTE
    assert peak_memory(lambda: mean_shift(points[:50_000], bandwidth=0.2)) < 32 * MEBIBYTE
    one_center = (centers[:1], torch.ones(1))
    assert peak_memory(lambda: assign(points, *one_center, reach=1.0)) < 32 * MEBIBYTE


@pytest.mark.parametrize("count", [2, 5])
def test_sklearn_agrees_on_separate_clusters(count):
    pytest.importorskip("sklearn")
    points, truth = blobs(count, per_cluster=30)
    ours = mean_shift(points, bandwidth=1.0)
    for labels in (sklearn_mean_shift(points, bandwidth=1.0), hdbscan(points, min_size=10)):
        assert labels.dtype == torch.int64
        assert same_partition(labels, truth) and same_partition(labels, ours)


def test_sklearn_corner_cases():
    pytest.importorskip("sklearn")
    points, truth = blobs(2, per_cluster=10)
    for labels in (
        sklearn_mean_shift(points[truth == 0], bandwidth=1.0),
        hdbscan(points[truth == 0], min_size=5),
    ):
        assert labels.tolist() == [0] * 10
    points, truth = points[2:], truth[2:]  # one of the two has fewer pixels now
    small = int(torch.bincount(truth).min())
    labels = sklearn_mean_shift(points, bandwidth=1.0, min_size=small + 1)
    assert (labels == 0).sum() == len(points) - small and (labels == -1).sum() == small
    for empty in (sklearn_mean_shift(points[:0], bandwidth=1.0), hdbscan(points[:0])):
        assert empty.tolist() == [] and empty.dtype == torch.int64
    assert hdbscan(points[:3], min_size=4).tolist() == [-1] * 3


@pytest.mark.parametrize(
    "cluster", [lambda x: sklearn_mean_shift(x, bandwidth=1.0), hdbscan], ids=["shift", "hdbscan"]
)
def test_missing_sklearn_is_a_sentence(monkeypatch, cluster):
    for name in ("sklearn", "sklearn.cluster"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="needs scikit-learn.*pip install scikit-learn"):
        cluster(torch.rand(5, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees():
    points, truth = blobs(20)
    on_gpu = points.cuda()
    labels = mean_shift(on_gpu, bandwidth=1.0)
    assert labels.is_cuda and labels.cpu().equal(mean_shift(points, bandwidth=1.0))
    centers = centers_of(on_gpu, labels)
    nearest, _ = assign(on_gpu, centers, torch.ones(20, device="cuda"), reach=1.0)
    assert nearest.equal(labels)


def test_scattered_pixels_are_given_up_on():
    """One cluster among pixels that are each on their own: found, and the rest left over."""
    scattered = 100.0 * torch.arange(1, 3001)[:, None].float()
    points = torch.cat([torch.zeros(3000, 1), scattered])
    labels = mean_shift(points, bandwidth=1.0, min_size=10, max_failures=20)
    assert torch.equal(labels, torch.cat([torch.zeros(3000), torch.full((3000,), -1.0)]).long())


@pytest.mark.parametrize("function", [sklearn_mean_shift, hdbscan])
def test_scikit_learn_leaves_what_is_not_finite_over(function):
    pytest.importorskip("sklearn")
    points = torch.cat([torch.zeros(30, 2), 10 + torch.zeros(30, 2)])
    points += 0.01 * torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    points[7] = float("nan")
    options = {"bandwidth": 1.0} if function is sklearn_mean_shift else {}
    labels = function(points, min_size=5, **options)
    assert labels[7] == -1 and labels.max() == 1
