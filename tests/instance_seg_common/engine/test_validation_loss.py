"""The validation loss leaves no trace on the model and equals the loss computed by hand."""

import numpy as np
import pytest
import torch

from instance_seg_common.engine.validation_loss import (
    build_validation_inputs,
    untouched,
    validation_loss,
)


class Scheduled(torch.nn.Module):
    """Has a batch norm and a schedule that its training forward advances."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(1)
        self.register_buffer("step", torch.zeros(1))

    def forward(self, inputs):
        self.step += 1
        self.norm(torch.randn(4, 1))
        np.random.rand()
        return {"loss_a": inputs[0].float(), "loss_b": 2.0 * inputs[0].float()}


def test_means_over_images_and_no_trace():
    model = Scheduled().eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(3)
    np.random.seed(3)
    losses = validation_loss(model, [lambda: torch.tensor(1), lambda: torch.tensor(3)])
    assert losses == pytest.approx({"loss_a": 2.0, "loss_b": 4.0, "total": 6.0})
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not model.training
    after = (torch.rand(1).item(), np.random.rand())
    torch.manual_seed(3)
    np.random.seed(3)
    assert after == (torch.rand(1).item(), np.random.rand())


def test_state_is_restored_after_an_error():
    model = Scheduled().train()
    with pytest.raises(KeyError), untouched(model):
        model([torch.tensor(1)])
        raise KeyError
    assert model.step == 0
    assert model.training


def test_inputs_keep_annotations_and_spread_over_the_set(tiny_cfg):
    inputs = build_validation_inputs(tiny_cfg, tiny_cfg.DATASETS.TEST[0], 3)
    assert len(inputs) == 3
    assert all(len(read()["instances"]) > 0 for read in inputs)
    assert len({read()["image_id"] for read in inputs}) == 3
