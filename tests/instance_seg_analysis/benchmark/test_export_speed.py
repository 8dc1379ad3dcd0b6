"""What the speed of exports is measured with."""

import pytest
import torch

from instance_seg_analysis.benchmark import export_speed
from instance_seg_analysis.benchmark.export_speed import Clocked, ClockedModel, ExportTiming
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.engine.setup import load_model_cfg
from instance_seg_common.export.facts import method_export


def test_a_clock_adds_up_the_seconds_of_its_part_alone(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(export_speed.time, "perf_counter", lambda: now[0])

    def part(x):
        now[0] += 2.0
        return [x + 1]

    clocked = Clocked(part)
    for _ in range(3):
        now[0] += 10.0  # between the calls
        assert clocked(torch.ones(1))[0].item() == 2
    assert clocked.seconds == 6.0


class Slower:
    """In place of an export: the model's own parts, each three seconds slower."""

    def __init__(self, parts, now):
        self.parts, self.now = parts, now

    def runners(self):
        return {part.name: self.slow(part.module) for part in self.parts}

    def slow(self, module):
        def run(*tensors):
            self.now[0] += 3.0
            return module(*tensors)

        return run


@pytest.fixture
def cfg(repository_root):
    """Of a published model."""
    return load_model_cfg(
        str(repository_root / "weights" / "embedding_R18_dsb2018"), ["MODEL.DEVICE", "cpu"]
    )


@torch.no_grad()
def test_a_clocked_model_predicts_what_the_model_does(cfg):
    model = build_predictor(cfg)
    parts = method_export(cfg).parts(model)
    clocked = ClockedModel(cfg, {part.name: part.module for part in parts})
    item = {"image": 100 * torch.rand(3, 64, 96), "height": 64, "width": 96}
    assert clocked.milliseconds(item) > 0
    expected, _ = model.network([item])
    found, _ = clocked.model.network([item])
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_ratio_of_known_times(cfg, monkeypatch, repository_root):
    now = [0.0]

    def clock():  # a second passes between two looks at it
        now[0] += 1.0
        return now[0]

    parts = method_export(cfg).parts(build_predictor(cfg))
    monkeypatch.setattr(export_speed.time, "perf_counter", clock)
    monkeypatch.setattr(export_speed, "cached_export", lambda *_: Slower(parts, now))
    threads = torch.get_num_threads()
    name = str(repository_root / "weights" / "embedding_R18_dsb2018")
    (timing,) = export_speed.time_export(name, threads=(1,), sizes=(96,), repeats=2)
    assert timing == ExportTiming(name, 1, 96, torch_ms=1e3, export_ms=4e3, ratio=0.25)
    assert torch.get_num_threads() == threads
    assert export_speed.export_table([timing]).splitlines()[-1].split()[-2] == "0.25"
