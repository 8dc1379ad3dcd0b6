"""What is measured of several models, against values known beforehand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.structures import Instances
from stopped_clock import Clock

from instance_seg_analysis.comparison import components, objects, timing
from instance_seg_analysis.comparison.models import ComparedModel
from instance_seg_analysis.comparison.run import Failures
from instance_seg_analysis.methods import analysis_of
from instance_seg_common.config import add_common_config
from instance_seg_common.errors import UserError


def test_components_of_each_class_alone():
    semantic = np.full((4, 7), 2)
    semantic[0, 0] = semantic[1, 1] = 0  # touch at a corner only
    semantic[3, :3], semantic[3, 3:5] = 0, 1  # touch, but are of two classes
    labels, classes = components.connected_components(semantic, background=2)
    assert classes.tolist() == [0, 0, 0, 1]
    expected = np.zeros((4, 7), int)
    expected[0, 0], expected[1, 1], expected[3, :3], expected[3, 3:5] = 1, 2, 3, 4
    assert (labels == expected).all()


def test_nothing_but_background_has_no_components():
    labels, classes = components.connected_components(np.ones((3, 3), int), background=1)
    assert not labels.any() and len(classes) == 0


def test_semantic_components_join_what_touches():
    model = torch.nn.Identity()
    semantic = torch.ones(6, 8, dtype=torch.int64)
    semantic[1:3, 1:5] = 0
    semantic[4, 6] = 0
    foreground = torch.where(semantic == 0, 0.75, 0.1)
    model.internals = lambda _: [{"semantic": semantic, "foreground": foreground}]
    output = components.SemanticComponents(model, 1)([{"height": 12, "width": 16}])
    instances = output[0]["instances"]
    assert instances.pred_masks.sum(dim=(1, 2)).tolist() == [32, 4]
    assert instances.scores.tolist() == [0.75, 0.75]


def test_what_objects_are_like():
    labels = np.zeros((20, 30), int)
    labels[2:6, 2:6] = 3  # 4 x 4, shares its right side with 5
    labels[2:6, 6:10] = 5
    labels[8:10, 2:6] = 7  # two pixels below 3: it touches by distance, not by outline
    labels[15:18, 20:23] = 9  # alone
    areas, crowding, occlusion = objects.describe_objects(labels)
    assert areas.tolist() == [16, 16, 8, 9]
    assert crowding.tolist() == [1, 1, 0, 0]
    labels[7:10, 2:6] = 7
    areas, crowding, occlusion = objects.describe_objects(labels)
    assert crowding.tolist() == [2, 2, 2, 0]  # 5 and 7 are two pixels apart across the corner
    # The outline of 4 x 4 has 12 pixels, a side of 4 of them next to the neighbour.
    assert occlusion.tolist() == [4 / 12, 4 / 12, 0, 0]


def test_objects_of_an_empty_map():
    areas, crowding, occlusion = objects.describe_objects(np.zeros((4, 4), int))
    assert len(areas) == len(crowding) == len(occlusion) == 0


def test_bins_count_every_object_once():
    values = np.array([0, 1, 1, 3, 4, 9])
    found = {"a": np.array([True, True, False, False, True, True])}
    precisions = {"a": [10.0, 20.0, None, 40.0]}
    bins = objects.bins_of(values, objects.CROWDING, found=found, precisions=precisions)
    assert [(b.name, b.objects, b.found["a"], b.AP["a"]) for b in bins] == [
        ("0", 1, 1, 10), ("1", 2, 1, 20), ("2 or 3", 1, 0, None), ("4 or more", 2, 2, 40),
    ]  # fmt: skip


def test_no_occlusion_has_a_bin_of_its_own():
    values = np.array([0, 0.05, 0.1, 0.3])
    bins = objects.bins_of(values, objects.OCCLUSION, found={}, precisions={})
    assert [b.objects for b in bins] == [1, 1, 1, 1]


def test_bins_of_size_hold_about_as_many_objects():
    areas = np.arange(1, 101)
    bounds = objects.size_bins(areas)
    bins = objects.bins_of(areas, bounds, found={}, precisions={})
    assert [b.objects for b in bins] == pytest.approx([20] * 5, abs=1)
    assert bounds.names[0] == "below 21" and len(bounds.names) == 5
    assert objects.size_names(objects.size_edges(np.full(7, 5))) == ("all",)
    assert objects.size_names(objects.size_edges(np.zeros(0))) == ("all",)


class Sleeps(torch.nn.Module):
    """Sleeps so many seconds, then calls a part."""

    def __init__(self, seconds, part=None):
        super().__init__()
        self.seconds, self.part = seconds, part

    def forward(self, x):
        Clock.sleep(self.seconds)
        return self.part(x) if self.part else x


class Slow(torch.nn.Module):
    """Sleeps 20 ms in its network, of which 10 in a part within it, and 30 after it."""

    def __init__(self):
        super().__init__()
        self.network = Sleeps(0.01, part=Sleeps(0.01))
        self.rest = Sleeps(0.03)

    def forward(self, x):
        return self.rest(self.network(x))


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(timing, "time", Clock)


def hooks(model):
    return [h for m in model.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]


@pytest.mark.parametrize("names", [("network",), ("network", "network.part"), ("network.part",)])
def test_clock_counts_nested_parts_once_and_leaves_the_model_as_it_was(clock, names):
    model = Slow()
    with timing.NetworkClock(model, names) as measured:
        model(torch.zeros(1))
    assert measured.seconds == pytest.approx(0.02 if "network" in names else 0.01)
    assert not hooks(model)
    once = measured.seconds
    model(torch.zeros(1))
    assert measured.seconds == once


def compared(model, architecture="GeneralizedRCNN"):
    cfg = get_cfg()
    add_common_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = architecture, "cpu"
    return ComparedModel("a", cfg, model)


def test_seconds_are_not_split_where_the_network_is_not_known():
    def modules(architecture):
        return timing.network_modules(Slow(), analysis_of(architecture))

    assert modules("GeneralizedRCNN") is None  # it has no backbone
    with pytest.warns(UserWarning, match="has no part 'backbone', which the network_modules"):
        assert modules("EmbeddingInstanceSeg") is None
    assert modules("Unknown") is None
    assert modules("OtsuWatershed") == ()


def test_network_of_mask_rcnn_is_a_part_of_the_whole(stock_cfg, stock_model):
    item = {"image": torch.zeros(3, 64, 64, dtype=torch.uint8), "height": 64, "width": 64}
    timed = timing.timed_call(compared(stock_model), item)
    assert 0 < timed.network_seconds < timed.seconds and not hooks(stock_model)
    assert timed.instances.image_size == (64, 64)


class TwoHalves(torch.nn.Module):
    """Sleeps 20 ms in its steps, and 10 in what is made of them."""

    def run_steps(self, inputs):
        Clock.sleep(0.02)
        return [SimpleNamespace(masks=torch.zeros(1, 8, 9)) for _ in inputs]

    def make_instances(self, sequence, output_size):
        Clock.sleep(0.01)
        return Instances(output_size)


def test_a_model_is_timed_by_its_halves(clock):
    item = {"height": 20, "width": 9}
    timed = timing.timed_call(compared(TwoHalves(), "RecurrentInstanceSeg"), item)
    assert (timed.network_seconds, timed.seconds) == pytest.approx((0.02, 0.03))
    assert timed.instances.image_size == (20, 9)


def test_peak_memory_is_what_a_call_adds():
    class Allocates(torch.nn.Module):
        def forward(self, items):
            return torch.ones(32 * 2**18)  # 32 MiB of float32

    peak = timing.peak_of(compared(Allocates()), {})
    if peak is None:
        pytest.skip("peak memory cannot be measured on this machine")
    assert 31 * 2**20 < peak < 40 * 2**20


def test_failures_keep_the_sentence_and_go_on():
    def fail():
        raise UserError("This is wrong.")

    failures = Failures()
    assert failures.attempt(fail) is None and failures.attempt(lambda: 3) == 3
    assert failures.sentences == ["This is wrong."]
