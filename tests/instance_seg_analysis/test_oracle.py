"""What each truth mends, on a model whose faults are known."""

import numpy as np
import pytest
import torch
from square_sets import make_record
from tiny_embedding import TinyPyramid, settings_of, tiny_head

from embedding_instance_seg import EmbeddingInstanceSeg
from embedding_instance_seg.losses import Criterion, semantic_targets
from embedding_instance_seg.maps import Maps
from instance_seg_analysis.oracle import (
    ROWS,
    Truth,
    ablate_oracle,
    oracle_table,
    true_bandwidths,
    true_centers,
    true_grouping,
    true_probabilities,
)
from instance_seg_common.errors import UserError


class Model(EmbeddingInstanceSeg):
    """Its own semantics miss the last object, its own clusters merge the first two."""

    def __init__(self):
        super().__init__(
            backbone=TinyPyramid(),
            in_features=["p2", "p3"],
            head=tiny_head(num_classes=1),
            criterion=Criterion(1, {}, delta_var=0.5, delta_dist=1.5),
            inference=settings_of(bandwidth=1.0),
            pixel_mean=[0.0] * 3,
            pixel_std=[1.0] * 3,
        )
        self.seen = []

    def image_maps(self, batched_inputs):
        assert not torch.is_grad_enabled()
        (item,) = batched_inputs
        self.seen.append(item["image_id"])
        masks = item["instances"].gt_masks.tensor
        assert masks.shape[1:] == item["image"].shape[1:]
        # Object k is at 10 k in the embedding, but the second one near the first.
        places = torch.tensor([0.0, 10, 10.5, 30, 40, 50])
        labels = (masks * torch.arange(1, 6)[:, None, None]).sum(dim=0)
        embedding = places[labels][None]
        foreground = masks[:-1].any(dim=0).float()
        return [
            Maps(torch.stack([foreground, 1 - foreground]), embedding, embedding, None, None, 1)
        ]


def squares(number):
    """(5, 64, 64) bool: squares of one size, moved a little from image to image."""
    masks = np.zeros((5, 64, 64), dtype=bool)
    for index, (y, x) in enumerate([(2, 2), (2, 34), (22, 2), (22, 34), (44, 20)]):
        masks[index, y : y + 12, x + number : x + number + 12] = True
    return masks


@pytest.fixture
def dataset(tiny_cfg, register_variant):
    """The tiny set's four first images with five squares each."""

    def change(dicts):
        records = [make_record(d["image_id"], squares(n)) for n, d in enumerate(dicts[:4])]
        return [{**r, "file_name": d["file_name"]} for r, d in zip(records, dicts)]

    return register_variant("test_oracle_squares", change, thing_classes=["object"])


@pytest.mark.parametrize("size", [64, 128])
def test_each_truth_mends_what_it_is_the_truth_of(tiny_cfg, dataset, size):
    tiny_cfg.INPUT.MIN_SIZE_TEST = size
    model = Model()
    rows, images = ablate_oracle(tiny_cfg, model, dataset)
    assert images == 4 and [row[:2] for row in rows] == list(ROWS)
    assert len(model.seen) == 4  # the network runs once an image
    nothing, centers, semantics, both = (row.figures for row in rows)
    assert both["AP"] == pytest.approx(100) and both["AP50"] == pytest.approx(100)
    assert both["accuracy@0.5"] == both["SBD"] == 1 and both["DiC"] == 0
    # Own semantics: 4 of 5 objects. Own clusters: the pair, whose IoU with one is 0.5, is matched.
    assert centers["accuracy@0.5"] == pytest.approx(4 / 5) and centers["DiC"] == 1
    assert semantics["accuracy@0.5"] == pytest.approx(4 / 5) and semantics["DiC"] == 1
    assert nothing["accuracy@0.5"] == pytest.approx(3 / 5) and nothing["DiC"] == 2
    assert nothing["SBD"] < centers["SBD"] < both["SBD"]
    assert nothing["AP"] < centers["AP"] < both["AP"]


def test_figures_of_some_images_are_of_those_alone(tiny_cfg, dataset):
    model = Model()
    rows, images = ablate_oracle(tiny_cfg, model, dataset, max_images=2)
    assert images == 2 and len(set(model.seen)) == 2
    assert rows[-1].figures["AP"] == pytest.approx(100)
    assert rows[-1].figures["accuracy@0.5"] == 1


def test_table(tiny_cfg, dataset, capsys):
    rows, _ = ablate_oracle(tiny_cfg, Model(), dataset, max_images=1)
    assert capsys.readouterr().out == ""
    lines = oracle_table(rows).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0][-1] == "DiC" and [c[:2] for c in cells[2:]] == [
        ["own", "own"], ["own", "true"], ["true", "own"], ["true", "true"]
    ]  # fmt: skip
    assert cells[-1][2:] == ["100.0", "100.0", "1.000", "1.000", "0.00"]


def test_other_architectures_are_refused(tiny_cfg, dataset):
    class WithoutGroups(torch.nn.Module):
        def image_maps(self, batched_inputs):
            return []

        def make_instances(self, grouping, output_size):
            return []

    model = torch.nn.Identity()
    words = "Identity: it has no image_maps and no group and no make_instances"
    with pytest.raises(UserError, match=words):
        ablate_oracle(tiny_cfg, model, dataset)
    with pytest.raises(UserError, match="WithoutGroups: it has no group, between"):
        ablate_oracle(tiny_cfg, WithoutGroups(), dataset)


def scene():
    """Three objects, at 0, 5 and 0 in the embedding; numbers with gaps, a row that does not count.

    Returns:
        tuple[Maps, Truth]
    """
    ids = torch.zeros(12, 16, dtype=torch.int64)
    ids[1:4, 1:5], ids[1:4, 7:12], ids[6:11, 2:14] = 1, 2, 3
    embedding = torch.tensor([[9.0, 0, 5, 0], [9.0, 0, 0, 0]])[:, ids]
    bandwidth = torch.tensor([9.0, 0.5, 1, 2])[ids]
    ids = torch.where(ids == 3, 40, ids)
    ids[0] = -1
    classes = torch.where(ids > 0, ids % 3, -1)
    background = torch.ones(1, 12, 16)
    maps = Maps(background, embedding, embedding, seed=background[0], bandwidth=bandwidth, stride=1)
    return maps, Truth(ids, classes)


def test_true_grouping_has_the_means_of_the_instances():
    maps, truth = scene()
    grouping = true_grouping(maps, truth)
    assert grouping.centers.tolist() == [[0, 0], [5, 0], [0, 0]]
    assert grouping.classes.tolist() == [1, 2, 1]
    assert torch.equal(grouping.labels > 0, truth.instance_ids > 0)


def test_true_centers_have_the_bandwidth_of_the_config_or_the_learned_one():
    maps, truth = scene()
    assert true_bandwidths(maps, true_grouping(maps, truth)).tolist() == [0.5, 1, 2]
    fixed = true_centers(maps, truth, settings_of(bandwidth=0.7))
    assert fixed.radii.tolist() == pytest.approx([0.7] * 3)
    learned = true_centers(maps, truth, settings_of(clustering="seeded"))
    # A Gaussian is one half 1.177 bandwidths away from its centre.
    assert learned.radii.tolist() == pytest.approx([0.5887, 1.1774, 2.3548], abs=1e-4)
    assert learned.seeds.tolist() == [1, 1, 1] and learned.classes.tolist() == [1, 2, 1]


def test_true_probabilities():
    ids = torch.tensor([[0, 0, 4, 4], [-1, 7, 7, -1]])
    classes = torch.tensor([[-1, -1, 1, 1], [-1, 0, 0, -1]])
    assert semantic_targets(ids, classes, 3).tolist() == [[3, 3, 1, 1], [-1, 0, 0, -1]]
    found = true_probabilities(Truth(ids, classes), 3)
    assert torch.equal(found.sum(dim=0), torch.ones(2, 4))
    assert found.argmax(dim=0).tolist() == [[3, 3, 1, 1], [3, 0, 0, 3]]
