"""Curriculum and onsets against a plain state machine; what survives a resume; two processes."""

import json
from pathlib import Path

import pytest
import torch
from forked import run_script

from recurrent_instance_seg.schedule import MOMENTUM, Schedule


class PlainSchedule:
    """The rules in numbers: an addition by a low loss or by a stall, and a memory of the stall."""

    def __init__(self, maximum, start, threshold, patience, spacing):
        self.maximum, self.threshold = maximum, threshold
        self.patience, self.spacing = patience, spacing
        self.objects = min(start, maximum) if start else maximum
        self.running = self.best = 1.0
        self.last_added = self.last_best = self.now = 0
        self.stalled = False

    def advance(self, loss):
        self.now += 1
        self.running = MOMENTUM * self.running + (1 - MOMENTUM) * loss
        if self.running < self.best:
            self.best, self.last_best = self.running, self.now
        stalls = self.now - self.last_best >= self.patience
        self.stalled = self.stalled or stalls
        due = self.now - self.last_added >= self.spacing
        if (stalls or self.running < self.threshold) and due and self.objects < self.maximum:
            self.objects += 1
            self.last_added = self.last_best = self.now
            self.best = self.running


def losses(number, seed=0, low=0.0):
    """Falling, then noisy around ``low``."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(number, generator=generator)
    return (low + (1 - low) * torch.exp(-torch.arange(number) / 20)) * (0.6 + 0.4 * noise)


def advanced(schedule, values):
    for value in values:
        schedule.advance(value)
    return schedule


SETTINGS = [
    (6, 2, 0.3, 1000, 1),
    (6, 2, 0.3, 1000, 15),
    (6, 1, 0.0, 10, 1),
    (5, 2, 0.45, 12, 8),
    (3, 9, 0.5, 7, 3),
    (4, 0, 0.5, 7, 3),
]


def schedule_of(settings):
    maximum, start, threshold, patience, spacing = settings
    return Schedule(
        maximum, start=start, threshold=threshold, patience=patience, min_iterations=spacing
    )


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("low", [0.2, 0.6])
def test_equals_the_plain_rules(settings, low):
    schedule, plain = schedule_of(settings), PlainSchedule(*settings)
    assert schedule.limit() == plain.objects
    for value in losses(120, low=low):
        schedule.advance(value)
        plain.advance(value.item())
        assert schedule.limit() == plain.objects
        assert bool(schedule.stalled) == plain.stalled
        assert float(schedule.running) == pytest.approx(plain.running, rel=1e-5)
    assert int(schedule.iteration) == 120


def test_without_a_curriculum_all_objects_are_asked_for():
    assert Schedule(7).limit() == 7
    assert advanced(Schedule(7, threshold=2.0), torch.ones(5)).limit() == 7


def test_an_object_more_each_time_the_loss_is_low_until_all_are_asked_for():
    schedule = Schedule(4, start=2, threshold=2.0)
    limits = [advanced(schedule, torch.ones(1)).limit() for _ in range(4)]
    assert limits == [3, 4, 4, 4]
    spaced = Schedule(4, start=2, threshold=2.0, min_iterations=3)
    assert [advanced(spaced, torch.ones(1)).limit() for _ in range(7)] == [2, 2, 3, 3, 3, 4, 4]


def test_a_stall_adds_an_object_and_starts_what_waits():
    schedule = Schedule(4, start=2, patience=3)
    worse = torch.tensor(1.5)
    assert [advanced(schedule, [worse]).limit() for _ in range(7)] == [2, 2, 3, 3, 3, 4, 4]
    assert schedule.started(10**9)
    # The stall is not forgotten when the loss falls again.
    assert advanced(schedule, torch.zeros(5)).started(10**9)


def test_progress_is_no_stall():
    schedule = advanced(Schedule(4, start=2, patience=2), torch.linspace(0.9, 0.1, 60))
    assert schedule.limit() == 2
    assert not schedule.started(61)


def test_a_loss_starts_after_its_number_of_iterations():
    schedule = Schedule(4)
    assert schedule.started(0) and not schedule.started(2)
    assert not advanced(schedule, torch.zeros(1)).started(2)
    assert advanced(schedule, torch.zeros(1)).started(2)


@pytest.mark.parametrize("settings", SETTINGS[1:4])
@pytest.mark.parametrize("low", [0.2, 0.6])
def test_all_state_survives_a_resume(settings, low):
    values = losses(120, low=low)
    whole = advanced(schedule_of(settings), values)
    for cut in (*range(0, 120, 7), 120):
        state = advanced(schedule_of(settings), values[:cut]).state_dict()
        resumed = schedule_of(settings)
        resumed.load_state_dict({name: x.clone() for name, x in state.items()})
        advanced(resumed, values[cut:])
        for name, value in whole.named_buffers():
            assert torch.equal(resumed.get_buffer(name), value), name
    assert not dict(whole.named_parameters())


def test_the_loss_is_left_as_it_is():
    schedule = Schedule(4, start=1, threshold=0.5)
    loss = torch.tensor(0.25, requires_grad=True)
    schedule.advance(loss * 2)
    assert not schedule.running.requires_grad
    assert schedule.running.item() == pytest.approx(MOMENTUM + (1 - MOMENTUM) / 2)
    before = schedule.running.clone()
    schedule.advance(schedule.running)  # a batch without objects
    assert schedule.running.item() == pytest.approx(before.item())
    schedule.advance(torch.tensor(0.5, dtype=torch.bfloat16))
    assert schedule.running.dtype == torch.float32


def test_two_processes_agree_with_one_on_the_mean_loss(tmp_path):
    script = Path(__file__).with_name("advance_in_processes.py")
    done = run_script(script, tmp_path)
    assert done.returncode == 0, done.stderr
    results = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert results["rank0"] == results["rank1"]
    assert results["rank0"]["objects"] == results["alone"]["objects"] > 1
    assert results["rank0"]["stalled"] == results["alone"]["stalled"] is True
    assert results["rank0"] == pytest.approx(results["alone"])
