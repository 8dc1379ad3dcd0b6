"""What is measured of several ways, against values known beforehand."""

import time

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg

from instance_seg_analysis.comparison import comparison
from instance_seg_common.config import add_common_config
from instance_seg_common.errors import UserError


def test_components_of_each_class_alone():
    semantic = np.full((4, 7), 2)
    semantic[0, 0] = semantic[1, 1] = 0  # touch at a corner only
    semantic[3, :3], semantic[3, 3:5] = 0, 1  # touch, but are of two classes
    labels, classes = comparison.connected_components(semantic, background=2)
    assert classes.tolist() == [0, 0, 0, 1]
    expected = np.zeros((4, 7), int)
    expected[0, 0], expected[1, 1], expected[3, :3], expected[3, 3:5] = 1, 2, 3, 4
    assert (labels == expected).all()


def test_nothing_but_background_has_no_components():
    labels, classes = comparison.connected_components(np.ones((3, 3), int), background=1)
    assert not labels.any() and len(classes) == 0


def test_semantic_components_join_what_touches():
    model = torch.nn.Identity()
    semantic = torch.ones(6, 8, dtype=torch.int64)
    semantic[1:3, 1:5] = 0
    semantic[4, 6] = 0
    foreground = torch.where(semantic == 0, 0.75, 0.1)
    model.internals = lambda _: [{"semantic": semantic, "foreground": foreground}]
    output = comparison.SemanticComponents(model, 1)([{"height": 12, "width": 16}])
    instances = output[0]["instances"]
    assert instances.pred_masks.sum(dim=(1, 2)).tolist() == [32, 4]
    assert instances.scores.tolist() == [0.75, 0.75]


def test_what_objects_are_like():
    labels = np.zeros((20, 30), int)
    labels[2:6, 2:6] = 3  # 4 x 4, shares its right side with 5
    labels[2:6, 6:10] = 5
    labels[8:10, 2:6] = 7  # two pixels below 3: it touches by distance, not by outline
    labels[15:18, 20:23] = 9  # alone
    areas, crowding, occlusion = comparison.describe_objects(labels)
    assert areas.tolist() == [16, 16, 8, 9]
    assert crowding.tolist() == [1, 1, 0, 0]
    labels[7:10, 2:6] = 7
    areas, crowding, occlusion = comparison.describe_objects(labels)
    assert crowding.tolist() == [2, 2, 2, 0]  # 5 and 7 are two pixels apart across the corner
    # The outline of 4 x 4 has 12 pixels, a side of 4 of them next to the neighbour.
    assert occlusion.tolist() == [4 / 12, 4 / 12, 0, 0]


def test_objects_of_an_empty_map():
    areas, crowding, occlusion = comparison.describe_objects(np.zeros((4, 4), int))
    assert len(areas) == len(crowding) == len(occlusion) == 0


def test_bins_count_every_object_once():
    values = np.array([0, 1, 1, 3, 4, 9])
    found = {"a": np.array([True, True, False, False, True, True])}
    precisions = {"a": [10.0, 20.0, None, 40.0]}
    edges, names = comparison.CROWDING_EDGES, comparison.CROWDING_NAMES
    bins = comparison.bins_of(values, edges, names, found, precisions)
    assert [(b.name, b.objects, b.found["a"], b.AP["a"]) for b in bins] == [
        ("0", 1, 1, 10), ("1", 2, 1, 20), ("2 or 3", 1, 0, None), ("4 or more", 2, 2, 40),
    ]  # fmt: skip


def test_no_occlusion_has_a_bin_of_its_own():
    bins = comparison.bins_of(
        np.array([0, 0.05, 0.1, 0.3]),
        comparison.OCCLUSION_EDGES,
        comparison.OCCLUSION_NAMES,
        {},
        {},
    )
    assert [b.objects for b in bins] == [1, 1, 1, 1]


def test_bins_of_size_hold_about_as_many_objects():
    areas = np.arange(1, 101)
    edges = comparison.size_edges(areas)
    names = comparison.size_names(edges)
    bins = comparison.bins_of(areas, edges, names, {}, {})
    assert [b.objects for b in bins] == pytest.approx([20] * 5, abs=1)
    assert names[0] == "below 21" and len(names) == 5
    assert comparison.size_names(comparison.size_edges(np.full(7, 5))) == ("all",)
    assert comparison.size_names(comparison.size_edges(np.zeros(0))) == ("all",)


class Slow(torch.nn.Module):
    """Sleeps 20 ms in its network, of which 10 in a part within it, and 30 after it."""

    def __init__(self):
        super().__init__()
        self.part = torch.nn.Identity()
        self.part.forward = lambda x: time.sleep(0.01) or x

    def network(self, x):
        time.sleep(0.01)
        return self.part(x)

    def forward(self, x):
        x = self.network(x)
        time.sleep(0.03)
        return x


def test_clock_counts_nested_parts_once_and_leaves_the_model_as_it_was():
    model = Slow()
    with comparison.NetworkClock(model, ("network",)) as clock:
        model(torch.zeros(1))
    assert 0.02 <= clock.seconds < 0.045
    assert "network" not in model.__dict__
    once = clock.seconds
    model(torch.zeros(1))
    assert clock.seconds == once
    del model.part.__dict__["forward"]
    with comparison.NetworkClock(model, ("network", "part.forward")) as clock:
        model.part.register_forward_hook(lambda *_: time.sleep(0.01))
        model(torch.zeros(1))
    assert 0.02 <= clock.seconds < 0.045


def way_of(model, architecture="GeneralizedRCNN"):
    cfg = get_cfg()
    add_common_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = architecture, "cpu"
    return comparison.Way("a", cfg, model)


def test_seconds_are_not_split_where_the_network_is_not_known():
    assert comparison.network_parts(way_of(Slow())) is None  # it has no backbone
    assert comparison.network_parts(way_of(Slow(), "Unknown")) is None
    assert comparison.network_parts(way_of(Slow(), "OtsuWatershed")) == ()


def test_peak_memory_is_what_a_call_adds():
    class Allocates(torch.nn.Module):
        def forward(self, items):
            return torch.ones(32 * 2**18)  # 32 MiB of float32

    peak = comparison.peak_of(way_of(Allocates()), {})
    if peak is None:
        pytest.skip("peak memory cannot be measured on this machine")
    assert 31 * 2**20 < peak < 40 * 2**20


def test_failures_keep_the_sentence_and_go_on():
    def fail():
        raise UserError("This is wrong.")

    failures = comparison.Failures()
    assert failures.attempt(fail) is None and failures.attempt(lambda: 3) == 3
    assert failures.sentences == ["This is wrong."]
