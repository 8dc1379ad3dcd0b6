"""From maps to instances: grouping by class, scores, known centres."""

import math
from functools import partial

import pytest
import torch
from tiny_embedding import settings_of

from embedding_instance_seg.grouping import (
    Centers,
    concatenate,
    drop_empty,
    group_pixels,
    seed_centers,
)
from embedding_instance_seg.losses import seed_targets
from embedding_instance_seg.maps import Maps, image_maps
from embedding_instance_seg.peaks import HALF_WIDTH
from instance_seg_common.errors import UserError

SIZE = (12, 16)


def maps_of(semantic, position, seed=None, bandwidth=None, num_classes=2, confidence=0.9):
    """Maps of stride 1 from a class map (H, W) and an embedding (E, H, W)."""
    rest = (1 - confidence) / num_classes
    probabilities = torch.full((num_classes + 1, *semantic.shape), rest)
    probabilities.scatter_(0, semantic[None], confidence)
    return Maps(probabilities, position, position, seed, bandwidth, stride=1)


def scene():
    """Two objects of class 0 far apart in the embedding, one of class 1 at the place of the first.

    Returns:
        tuple: class map, embedding, ids.
    """
    ids = torch.zeros(SIZE, dtype=torch.int64)
    ids[1:4, 1:5], ids[1:4, 7:12], ids[6:11, 2:14] = 1, 2, 3
    semantic = torch.tensor([2, 0, 0, 1])[ids]
    embedding = torch.tensor([[9.0, 0, 5, 0], [9.0, 0, 0, 0]])[:, ids]
    return semantic, embedding, ids


def grouping(clustering="mean_shift", bandwidth=1.0, reach=1.0, **changes):
    settings = settings_of(clustering=clustering, bandwidth=bandwidth, reach=reach, **changes)
    return partial(group_pixels, settings=settings)


@pytest.mark.parametrize("clustering", ["mean_shift", "hdbscan", "seeded"])
def test_one_class_at_a_time_and_foreground_only(clustering):
    if clustering == "hdbscan":
        pytest.importorskip("sklearn")
    semantic, embedding, ids = scene()
    flat = torch.ones(SIZE)
    groups = grouping(clustering)(maps_of(semantic, embedding, flat, flat))
    # Classes 0 and 1 share a place in the embedding and are told apart all the same.
    assert groups.classes.tolist() == [0, 0, 1]
    for k in range(3):
        assert len(ids[groups.labels == k + 1].unique()) == 1
    assert torch.equal(groups.labels > 0, ids > 0)
    assert groups.scores.tolist() == [1, 1, 1]


def test_class_agnostic_clusters_vote_on_their_class():
    _, _, ids = scene()
    embedding = torch.tensor([[9.0, 0, 5, 10], [9.0, 0, 0, 0]])[:, ids]
    semantic = torch.tensor([2, 0, 0, 1])[ids]
    semantic[8:11, 2:6] = 0  # a part of the third object looks like the other class
    maps = maps_of(semantic, embedding)
    assert len(grouping()(maps).scores) == 4
    groups = grouping(class_agnostic=True, score=["probability"])(maps)
    assert sorted(groups.classes.tolist()) == [0, 0, 1]
    third = int(groups.classes.argmax())
    assert torch.equal(groups.labels == third + 1, ids == 3)
    # 60 pixels, of which 12 say class 0: the odds are (0.9 / 0.05) ** (36 / 60), and all pixels
    # are of some object with 0.95.
    odds = 18 ** (36 / 60)
    assert float(groups.scores[third]) == pytest.approx(0.95 * odds / (1 + odds))


def test_class_agnostic_foreground_is_where_background_is_not_likelier_than_not():
    probabilities = torch.full((3, 4, 4), 0.3)
    probabilities[2] = 0.4  # the likeliest, but less likely than an object of either class
    flat = torch.zeros(2, 4, 4)
    maps = Maps(probabilities, flat, flat, None, None, 1)
    assert len(grouping()(maps).scores) == 0
    assert len(grouping(class_agnostic=True)(maps).scores) == 1


def test_score_is_the_product_of_its_factors():
    semantic = torch.full(SIZE, 2)
    semantic[2:4, 2:6] = 0
    embedding = torch.zeros(1, *SIZE)
    embedding[0, 2:4, 4:6] = 1.0  # half of the pixels at 0, half at 1
    seed = torch.full(SIZE, 0.6)
    seed[2, 3] = 0.7
    maps = maps_of(semantic, embedding, seed, torch.full(SIZE, 2 / HALF_WIDTH), confidence=0.8)

    def score(*factors, clustering="seeded"):
        return float(grouping(clustering, bandwidth=2.0, score=factors)(maps).scores)

    assert score() == 1
    assert score("probability") == pytest.approx(0.8)
    # Half a bandwidth from the centre; with mean shift the centre is 0.5.
    compactness = (1 + 2 ** -(0.5**2)) / 2
    assert score("compactness") == pytest.approx(compactness)
    assert score("compactness", clustering="mean_shift") == pytest.approx(2 ** -(0.25**2))
    assert score("seed") == pytest.approx(0.7)
    assert score("seed", clustering="mean_shift") == 1
    product = 0.8 * compactness * 0.7
    assert score("seed", "probability", "compactness") == pytest.approx(product)


def test_reach_leaves_far_pixels_out():
    semantic = torch.full(SIZE, 2)
    semantic[0, :9] = 0
    embedding = torch.zeros(1, *SIZE)
    embedding[0, 0, 8] = 3.0
    near = grouping(min_cluster_size=2)(maps_of(semantic, embedding))
    far = grouping(min_cluster_size=2, reach=math.inf)(maps_of(semantic, embedding))
    assert int((near.labels > 0).sum()) == 8
    assert int((far.labels > 0).sum()) == 9


def test_learned_bandwidths_decide_how_far_an_instance_goes():
    semantic = torch.zeros(SIZE, dtype=torch.int64)
    embedding = torch.arange(16.0).expand(1, *SIZE)
    seed = torch.zeros(SIZE)
    seed[:, 4], seed[:, 12] = 0.9, 0.8
    bandwidth = torch.ones(SIZE)
    bandwidth[:, 3:6] = 1.5 / HALF_WIDTH
    bandwidth[:, 10:15] = 2.5 / HALF_WIDTH
    groups = grouping("seeded")(maps_of(semantic, embedding, seed, bandwidth))
    columns = [(groups.labels[0] == k + 1).nonzero().flatten().tolist() for k in range(2)]
    assert columns == [[3, 4, 5], [10, 11, 12, 13, 14]]


def row_of_seeds(**changes):
    """One row of 16 cells whose embedding is their number, with bandwidth 2; and its peaks.

    Args:
        changes: maps by name, each a dict from cells to values.
    """
    maps = {"seed": torch.zeros(16), "embedding": torch.arange(16.0), "bandwidth": torch.ones(16)}
    maps["bandwidth"] *= 2 / HALF_WIDTH
    for name, values in changes.items():
        for cell, value in values.items():
            maps[name][cell] = value
    seed, bandwidth = maps["seed"][None], maps["bandwidth"][None]
    row = maps_of(torch.zeros(1, 16).long(), maps["embedding"][None, None], seed, bandwidth)
    return seed_centers(row, torch.ones(1, 16, dtype=torch.bool), threshold=0.5)


def test_centers_have_embedding_bandwidth_and_seed_of_their_cells():
    found = row_of_seeds(seed={3: 0.8, 9: 0.9, 14: 0.4}, bandwidth={9: 1.0})
    assert found.points.tolist() == [[9], [3]]
    assert found.radii.tolist() == pytest.approx([HALF_WIDTH, 2])
    assert found.seeds.tolist() == pytest.approx([0.9, 0.8])
    assert found.classes is None


def test_of_two_peaks_of_one_object_the_higher_one_is_a_center():
    peaks = {3: 0.8, 9: 0.9}
    assert row_of_seeds(seed=peaks, embedding={3: 7.5}).points.tolist() == [[9]]
    assert row_of_seeds(seed=peaks, embedding={3: 6.5}).points.tolist() == [[9], [6.5]]
    wider = row_of_seeds(seed=peaks, embedding={3: 6.5}, bandwidth={3: 9.0})
    assert len(wider.points) == 2  # the bandwidth of the lower one does not count


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["embedding", "bandwidth"])
def test_peaks_that_are_not_finite_are_no_centers(name, value):
    peaks = {3: 0.8, 9: 0.9}
    assert row_of_seeds(seed=peaks, **{name: {9: value}}).points.tolist() == [[3]]
    assert row_of_seeds(seed=peaks, **{name: {3: value, 9: value}}).points.shape == (0, 1)


def test_pixels_that_are_not_finite_are_left_over():
    semantic, embedding, ids = scene()
    flat, bandwidth = torch.ones(SIZE), torch.ones(SIZE)
    embedding[0, 2, 2] = math.nan
    groups = grouping("seeded")(maps_of(semantic, embedding, flat, bandwidth))
    assert len(groups.scores) == 3
    assert groups.labels[2, 2] == 0 and int((groups.labels > 0).sum()) == int((ids > 0).sum()) - 1


def discs():
    """Discs of four sizes that touch, as an ideal network shows them: ids, and maps of its grid.

    Each has its own place in the embedding, closer to the next one the smaller both are.
    """
    y, x = torch.meshgrid(torch.arange(40), torch.arange(80), indexing="ij")
    ids = torch.zeros(40, 80, dtype=torch.int64)
    middles, radii = torch.tensor([4.0, 13, 28, 57]), torch.tensor([4.0, 5, 10, 19])
    for k, (middle, radius) in enumerate(zip(middles, radii), start=1):
        ids[(x - middle) ** 2 + (y - 20) ** 2 <= radius**2] = k
    place = torch.cat([torch.zeros(1), middles])[ids]
    width = torch.cat([torch.ones(1), radii / 3])[ids]
    noise = torch.rand(40, 80, generator=torch.Generator().manual_seed(0)) - 0.5
    embedding = torch.stack([place + width * noise, width * noise.flip(0)])
    seeds = seed_targets(ids[None])[0]
    return ids, maps_of((ids == 0).long(), embedding, seeds, width, num_classes=1)


def test_ideal_seeds_of_different_bandwidths_give_the_objects():
    ids, maps = discs()
    groups = grouping("seeded", reach=math.inf)(maps)
    assert len(groups.scores) == 4
    pairs = torch.stack([ids.flatten(), groups.labels.flatten()]).unique(dim=1)
    assert pairs.shape[1] == 5  # each object is one instance, and the background none
    for bandwidth in (1.0, 12.0):  # no single one would do
        assert len(grouping(bandwidth=bandwidth)(maps).scores) != 4


def test_peaks_of_the_background_are_no_centers():
    ids, maps = discs()
    maps.seed[35:38, 2:5] = 1.0
    assert int((grouping("seeded")(maps).labels[ids == 0] > 0).sum()) == 0
    maps.seed.fill_(0.4)
    assert len(grouping("seeded")(maps).scores) == 0
    assert len(grouping("seeded", seed_threshold=0.4)(maps).scores) > 0


def test_no_foreground_and_no_cluster():
    empty = grouping()(maps_of(torch.full(SIZE, 2), torch.zeros(3, *SIZE)))
    assert empty.labels.max() == 0
    assert empty.centers.shape == (0, 3)
    assert len(empty.scores) == len(empty.classes) == 0
    semantic = torch.zeros(SIZE, dtype=torch.int64)
    none = grouping(min_cluster_size=1000)(maps_of(semantic, torch.zeros(3, *SIZE)))
    assert none.labels.max() == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 8), (7, 7), (8, 8)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_image_maps_of_odd_sizes(size, stride):
    outputs = {
        "semantic": torch.randn(1, 3, 8 // stride, 8 // stride),
        "embedding": torch.randn(1, 4, 8 // stride, 8 // stride),
        "seed": torch.randn(1, 8 // stride, 8 // stride),
        "log_bandwidth": torch.zeros(1, 8 // stride, 8 // stride),
    }
    maps = image_maps(outputs, 0, size, stride=stride)
    assert maps.probabilities.shape == (3, *size)
    assert maps.embedding_full.shape == (4, *size)
    for clustering in ("mean_shift", "seeded"):
        groups = grouping(clustering, seed_threshold=0.0)(maps)
        assert groups.labels.shape == size


def test_objects_between_the_cells_are_found():
    semantic = torch.full((4, 4), 2)
    semantic[0, 2] = 0
    maps = maps_of(semantic, torch.zeros(2, 4, 4))
    coarse = Maps(maps.probabilities, torch.zeros(2, 2, 2), maps.embedding_full, None, None, 2)
    groups = grouping()(coarse)
    assert (groups.labels > 0).nonzero().tolist() == [[0, 2]]


def test_true_centers_replace_clusters():
    semantic, embedding, ids = scene()
    points = torch.tensor([[0.0, 0], [5, 0], [0, 0]]) + 0.3  # the means of the instances, moved
    ones = torch.ones(3)
    truth = Centers(points, radii=ones, seeds=ones, classes=torch.tensor([0, 0, 1]))
    groups = grouping()(maps_of(semantic, embedding), truth=truth)
    assert groups.classes.tolist() == [0, 0, 1]
    assert torch.equal(groups.labels > 0, ids > 0)


def test_seeds_that_the_network_does_not_predict_are_a_sentence():
    semantic, embedding, _ = scene()
    with pytest.raises(UserError, match="CLUSTERING seeded reads seeds and bandwidths"):
        grouping("seeded")(maps_of(semantic, embedding))


def test_drop_empty():
    labels, kept = drop_empty(torch.tensor([3, -1, 0, 3]), 5)
    assert labels.tolist() == [1, -1, 0, 1]
    assert kept.tolist() == [0, 3]


def test_concatenate_nothing():
    groups = concatenate([], torch.zeros(5, 2, 2))
    assert groups.labels.shape == (2, 2)
    assert groups.centers.shape == (0, 5)
