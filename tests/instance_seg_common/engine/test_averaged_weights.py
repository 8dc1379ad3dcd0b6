"""The average of the weights: its value in closed form, and who sees it in a training."""

from pathlib import Path

import pytest
import torch

from instance_seg_common.engine import InstanceSegTrainer
from instance_seg_common.engine.averaged_weights import AveragedWeights
from instance_seg_common.errors import UserError

NAME = "roi_heads.mask_head.predictor.weight"


class Tiny(torch.nn.Module):
    """A weight, batch norm, and buffers of the kinds that a schedule has."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.norm = torch.nn.BatchNorm1d(1)
        self.register_buffer("running", torch.tensor(0.0))
        self.register_buffer("stalled", torch.tensor(False))

    def set(self, value):
        for tensor in (self.weight.data, self.norm.running_mean, self.norm.running_var):
            tensor.fill_(value)
        self.running.fill_(value)
        self.norm.num_batches_tracked.fill_(int(value))
        self.stalled.fill_(value > 2)


def average_of(values, decay):
    """What the average of a model is after its weights had these values, the first copied."""
    model = Tiny()
    averaged = AveragedWeights(model, decay)
    for value in values:
        model.set(value)
        averaged.update_parameters(model)
    return averaged.module


def test_closed_form_where_the_decay_does_not_rise():
    decay, values = 0.1, [3.0, -1.0, 5.0, 2.0, 8.0]  # the rise begins at 2 / 11
    last = len(values) - 1
    expected = decay**last * values[0]
    expected += sum((1 - decay) * decay ** (last - k) * values[k] for k in range(1, last + 1))
    weight = average_of(values, decay).weight
    torch.testing.assert_close(weight, torch.full_like(weight, expected))


def test_the_decay_rises_from_two_elevenths_to_its_value():
    expected = 4.0
    for step, value in enumerate([7.0, 1.0, -2.0, 10.0], start=1):
        decay = min(0.3, [2 / 11, 3 / 12, 4 / 13, 5 / 14][step - 1])
        expected = decay * expected + (1 - decay) * value
    weight = average_of([4.0, 7.0, 1.0, -2.0, 10.0], 0.3).weight
    torch.testing.assert_close(weight, torch.full_like(weight, expected))


def test_statistics_are_averaged_and_all_other_buffers_are_the_latest():
    module = average_of([1.0, 2.0, 3.0], 0.1)
    mean = 0.01 * 1 + 0.09 * 2 + 0.9 * 3
    assert module.norm.running_mean.item() == pytest.approx(mean)
    assert module.norm.running_var.item() == pytest.approx(mean)
    assert module.norm.num_batches_tracked == 3
    assert module.running == 3
    assert module.stalled


class Watched(InstanceSegTrainer):
    """Remembers one weight after each iteration, and that of the models it evaluates."""

    def __init__(self, cfg):
        self.trained, self.evaluated = [], []
        super().__init__(cfg)

    def run_step(self):
        super().run_step()
        self.trained.append(self.trained_model.state_dict()[NAME].clone())

    def test(self, cfg, model):
        self.evaluated.append(model.model.state_dict()[NAME].clone())
        return super().test(cfg, model)


def run(cfg, *, resume=False):
    trainer = Watched(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def saved(cfg, name="model_final"):
    return torch.load(Path(cfg.OUTPUT_DIR) / f"{name}.pth")


@pytest.fixture
def averaging_cfg(tiny_cfg):
    tiny_cfg.SOLVER.EMA_DECAY, tiny_cfg.SOLVER.MAX_ITER = 0.2, 3
    tiny_cfg.TEST.VALIDATION_LOSS_IMAGES = tiny_cfg.TEST.PICTURES = 0
    return tiny_cfg


def test_what_is_evaluated_and_saved_is_the_average(averaging_cfg, monkeypatch):
    seen = []
    hooks = "instance_seg_common.engine.hooks"
    monkeypatch.setattr(
        f"{hooks}.validation_loss",
        lambda model, inputs: seen.append(model.state_dict()[NAME].clone()) or {"total": 0.0},
    )
    monkeypatch.setattr(f"{hooks}.with_tiles", lambda cfg, model: seen.append(model) or model)
    averaging_cfg.TEST.EVAL_PERIOD = 3
    averaging_cfg.TEST.VALIDATION_LOSS_IMAGES = averaging_cfg.TEST.PICTURES = 1
    trainer = run(averaging_cfg)
    first, second, third = trainer.trained
    early = 2 / 11 * first + 9 / 11 * second
    expected = 0.2 * early + 0.8 * third
    assert not torch.equal(expected, third)
    for found in (
        *trainer.evaluated,
        seen[0],
        seen[1].state_dict()[NAME],
        saved(averaging_cfg)["model"][NAME],
        saved(averaging_cfg, "model_best")["model"][NAME],
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    in_training = saved(averaging_cfg)["trainer"]["averaged"]["trained"]
    assert torch.equal(in_training[NAME], third)


def test_training_starts_from_the_weights_that_it_is_given(averaging_cfg, tmp_path):
    averaging_cfg.SOLVER.MAX_ITER = 1
    run(averaging_cfg)
    start = Path(averaging_cfg.OUTPUT_DIR) / "model_final.pth"
    averaging_cfg.MODEL.WEIGHTS, averaging_cfg.OUTPUT_DIR = str(start), str(tmp_path / "next")
    trainer = Watched(averaging_cfg)
    trainer.resume_or_load(resume=False)
    expected = torch.load(start)["model"]
    for model in (trainer.trained_model, trainer.evaluated_model):
        assert all(torch.equal(model.state_dict()[name], value) for name, value in expected.items())


@pytest.mark.parametrize(("before", "after"), [(0.2, 0.0), (0.0, 0.2)])
def test_an_average_can_be_switched_on_and_off_by_a_resume(averaging_cfg, before, after):
    averaging_cfg.SOLVER.EMA_DECAY, averaging_cfg.SOLVER.MAX_ITER = before, 2
    first = run(averaging_cfg)
    averaging_cfg.SOLVER.EMA_DECAY, averaging_cfg.SOLVER.MAX_ITER = after, 3
    trainer = Watched(averaging_cfg)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 2
    assert torch.equal(trainer.trained_model.state_dict()[NAME], first.trained[-1])
    trainer.train()
    # Off: the weights in training. On: an average of one, that of the only iteration.
    assert torch.equal(saved(averaging_cfg)["model"][NAME], trainer.trained[-1])


@pytest.mark.parametrize(
    ("decay", "precise", "words"), [(1.0, False, "below 1"), (0.9, True, "PRECISE_BN")]
)
def test_a_decay_that_cannot_be_is_said(averaging_cfg, decay, precise, words):
    averaging_cfg.SOLVER.EMA_DECAY = decay
    averaging_cfg.TEST.PRECISE_BN.ENABLED = precise
    with pytest.raises(UserError, match=words):
        InstanceSegTrainer(averaging_cfg)
